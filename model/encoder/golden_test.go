package encoder_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/distilbert"
	_ "github.com/peftkit/peftkit/model/roberta"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// golden is a case of testdata/golden.json.
type golden struct {
	Name     string
	Config   json.RawMessage
	Params   map[string][]int
	Tokens   [][]int32
	Types    [][]int32
	Modules  []string
	Prompt   int
	Rows     [][]float32
	Labels   json.RawMessage
	Targets  [][]float32
	Loss     float64
	Watched  string
	Gradient []float64
}

// cases reads testdata/golden.json.
func cases(t *testing.T) []golden {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var out []golden
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

// values repeats the formula of golden.py.
func values(name string, n int) []float32 {
	state := uint64(0xCBF29CE484222325)
	for _, b := range []byte(name) {
		state = (state ^ uint64(b)) * 0x100000001B3
	}
	out := make([]float32, n)
	norm := (strings.Contains(name, "norm") || strings.Contains(name, "LayerNorm")) && strings.HasSuffix(name, ".weight")
	for i := range out {
		state += 0x9E3779B97F4A7C15
		z := (state ^ state>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		out[i] = float32(float64((z^z>>31)>>40)/(1<<24) - 0.5)
		if norm {
			out[i] = out[i]*0.5 + 1
		}
	}
	return out
}

// source is the case as an opened folder.
func (g golden) source() *formats.Model {
	m := &formats.Model{Path: g.Name, Naming: formats.HF, Config: g.Config}
	var names []string
	for name := range g.Params {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n := 1
		for _, d := range g.Params[name] {
			n *= d
		}
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, g.Params[name], values(name, n)))
	}
	return m
}

// model builds the case.
func (g golden) model(t *testing.T) *model.Model {
	ck, err := model.FromFile(g.source())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	require.Empty(t, m.Fresh)
	return m
}

// batch packs the sequences of the case.
func (g golden) batch(t *testing.T) *model.Batch {
	b := &model.Batch{}
	for i, ids := range g.Tokens {
		b.Seqs = append(b.Seqs, nn.Span{Start: len(b.Tokens), End: len(b.Tokens) + len(ids)})
		b.Tokens = append(b.Tokens, ids...)
		for p := range ids {
			b.Pos = append(b.Pos, int32(p))
		}
		if g.Types != nil {
			b.Types = append(b.Types, g.Types[i]...)
		}
	}
	b.Targets = slices.Concat(g.Targets...)
	if g.Labels == nil {
		return b
	}
	if json.Unmarshal(g.Labels, &b.Labels) != nil {
		var nested [][]int32
		require.NoError(t, json.Unmarshal(g.Labels, &nested))
		b.Labels = slices.Concat(nested...)
	}
	return b
}

// An output of these encoders stands behind up to 852 roundings (netbound.Terms), and sums
// of a size up to 2; a loss is off by no more than its logits. Gradients come back through
// as many roundings, relative to the sum of their magnitudes, and an error of one element
// is one of many independent ones.
var (
	outputs  = math.Sqrt2 * bound.Spread(852) * 2
	gradient = math.Sqrt2 * bound.Spread(2*852)
)

// Logits, hidden states, losses and a gradient are transformers'.
func TestTransformers(t *testing.T) {
	for _, g := range cases(t) {
		t.Run(g.Name, func(t *testing.T) {
			m, b := g.model(t), g.batch(t)
			if g.Prompt > 0 {
				p := &nn.Var{Rows: g.Prompt, Cols: m.HiddenSize, Data: values("prompt", g.Prompt*m.HiddenSize)}
				m.Inputs[0].Hook(func(t *nn.Tape, r *model.Rows) { r.Insert(t, p, g.Prompt) })
			}
			tape := nn.NewTape()
			defer tape.Close()
			got := m.Logits(tape, b, nil)
			require.Equal(t, []int{len(g.Rows), len(g.Rows[0])}, []int{got.Rows, got.Cols})
			for i, want := range slices.Concat(g.Rows...) {
				require.InDelta(t, want, got.Data[i], outputs, i)
			}
			if g.Watched == "" {
				return
			}
			w := m.Module(strings.TrimSuffix(g.Watched, ".weight")).Weight().Unfreeze()
			tape.Reset()
			tape.Train = true
			_, n := m.Loss(tape, b, 0)
			tape.Reset()
			sum, _ := m.Loss(tape, b, 1/float32(n))
			tape.Backward()
			require.InDelta(t, g.Loss, sum/float64(n), outputs)
			var all, abs float64
			for _, v := range w.V.Grad {
				all += float64(v)
				abs += max(float64(v), -float64(v))
			}
			scale := max(g.Gradient[1], 1e-3)
			require.InDelta(t, g.Gradient[0], all, gradient*scale)
			require.InDelta(t, g.Gradient[1], abs, gradient*scale)
			require.InDelta(t, g.Gradient[2], float64(w.V.Grad[3*w.Shape[1]+5]), gradient*scale/math.Sqrt(float64(len(w.V.Grad))))
		})
	}
}

// Modules have transformers' paths in transformers' order; three classes differ
// in where they list the head, and a bare model has no prefix.
func TestModules(t *testing.T) {
	for _, g := range cases(t) {
		var got []string
		for _, mod := range g.model(t).Modules {
			got = append(got, mod.Path)
		}
		want := g.Modules
		switch {
		case strings.HasSuffix(g.Name, "-bare"):
			base, _, _ := strings.Cut(g.Name, "-")
			for i := range want {
				want[i] = base + "." + want[i]
			}
			if base == "roberta" { // its pooler is no place: nothing reads it
				want = want[:len(want)-1]
			}
		case g.Name == "xlm-roberta" || g.Name == "camembert":
			want = append(want[2:], want[:2]...)
		}
		require.Equal(t, want, got, g.Name)
	}
}
