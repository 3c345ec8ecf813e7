package cli

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/train"
)

// The estimate of the memory leaves no trace in what is trained, whatever the method.
func TestFootprintLeavesNoTrace(t *testing.T) {
	path := tiny(t)
	ds := &data.Dataset{MaxSeqLen: 32}
	for i := range 8 {
		var ids []int32
		for j := range 20 {
			ids = append(ids, int32((i*7+j*3)%90))
		}
		ds.Examples = append(ds.Examples, data.Example{Tokens: ids, Labels: ids})
	}
	// A generator that goes on from pass to pass is a trace of its own.
	drawn := map[string]peft.Options{"pvera": {"generator_seed": 3, "init_weights": false}}
	for _, m := range peft.Methods() {
		name := m.Info().Name
		t.Run(name, func(t *testing.T) {
			run := func(estimate bool) []uint32 {
				net, err := model.Load(path, model.Options{})
				require.NoError(t, err)
				defer net.Close()
				ad, err := m.New(net, drawn[name], 1)
				if err != nil {
					t.Skip(err)
				}
				c := train.Default()
				c.Output, c.MaxSteps, c.GradAccum, c.SaveSteps = t.TempDir(), 3, 1, 0
				tr, err := train.New(c, net, ad, ds)
				if err != nil {
					t.Skip(err)
				}
				defer tr.Close()
				if estimate {
					f, err := tr.Footprint(context.Background(), 20)
					require.NoError(t, err)
					require.Positive(t, f.Activations)
					require.Greater(t, f.Total(), f.Private())
				}
				_, err = tr.Run(context.Background())
				require.NoError(t, err)
				var bits []uint32
				for _, p := range ad.Params() {
					for _, v := range p.V.Data {
						bits = append(bits, math.Float32bits(v))
					}
				}
				return bits
			}
			require.Equal(t, run(false), run(true))
		})
	}
}
