package standard_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/peft"
)

// What a method says that it would train is what it trains, and its reason not to
// fit is the same.
func TestSize(t *testing.T) {
	write(t, t.TempDir())
	for _, method := range peft.Methods() {
		info := method.Info()
		for _, f := range families {
			t.Run(info.Name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				for _, o := range []peft.Options{small[info.Name], {}} {
					m := f.load(t)
					ad, err := method.New(m, o, 42)
					n, other := peft.Size(method, f.load(t), o, 42)
					if err != nil {
						require.EqualError(t, other, err.Error())
						continue
					}
					require.NoError(t, other)
					if s, ok := ad.(peft.DataStarter); ok { // with every token there is
						all := make([]int32, m.VocabSize)
						for i := range all {
							all[i] = int32(i)
						}
						require.NoError(t, s.StartData(slices.Values([][]int32{all})))
					}
					require.Equal(t, peft.Elements(ad.Params()), n)
				}
			})
		}
	}
}
