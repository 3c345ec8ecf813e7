// Package goldentest compares small encoder-decoder models with what
// transformers computes (internal/testmodel/golden_seq2seq.py).
package goldentest

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Golden is one model and its outputs.
type Golden struct {
	testmodel.Seeded
	Cases []Case `json:"cases"`
	// Loss is the sum over the cases; Gradients are of each tensor the norm and the
	// sum of the elements times cos(0), cos(1) and so on.
	Loss      float64               `json:"loss"`
	Gradients map[string][2]float64 `json:"gradients"`
}

// Case is one source with the logits of every row of the decoder, or of a
// classifier, and the tokens that are written greedily.
type Case struct {
	Source  []int32     `json:"source"`
	Decoder []int32     `json:"decoder"`
	Logits  [][]float32 `json:"logits"`
	Greedy  []int32     `json:"greedy"`
}

// Read returns the models of a file by name.
func Read(t *testing.T, path string) map[string]Golden {
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var g map[string]Golden
	require.NoError(t, json.Unmarshal(raw, &g))
	require.NotEmpty(t, g)
	return g
}

// Run compares every model of a file: all cases in one batch, one by one, and
// token by token through a cache.
func Run(t *testing.T, path string) {
	for name, g := range Read(t, path) {
		t.Run(name, func(t *testing.T) {
			ck, err := model.FromFile(g.HF())
			require.NoError(t, err)
			m, err := model.Build(ck, model.Options{})
			require.NoError(t, err)
			Check(t, m, g.Cases)
			backward(t, m, g)
		})
	}
}

// Check compares one model.
func Check(t *testing.T, m *model.Model, cases []Case) {
	require.Empty(t, m.Fresh)
	tape := nn.NewTape()
	defer tape.Close()
	all, want := &model.Batch{Source: &model.Batch{}}, [][]float32{}
	for _, c := range cases {
		add(all, c.Decoder)
		add(all.Source, c.Source)
		want = append(want, c.Logits...)
	}
	if cases[0].Decoder == nil { // a classifier reads the text alone
		all = all.Source
	}
	same(t, tape, m, all, want)
	for _, c := range cases {
		b := &model.Batch{Source: &model.Batch{}}
		add(b, c.Decoder)
		add(b.Source, c.Source)
		if c.Decoder == nil {
			same(t, tape, m, b.Source, c.Logits)
			continue
		}
		same(t, tape, m, b, c.Logits)
		cache := m.NewCache(4)
		for i, id := range c.Decoder {
			step := model.Sequence([]int32{id}, i)
			step.Cache, step.Source = cache, b.Source
			same(t, tape, m, step, c.Logits[i:i+1])
		}
	}
	var prompts [][]int32
	for _, c := range cases {
		if c.Greedy != nil {
			prompts = append(prompts, c.Source)
		}
	}
	if len(prompts) == 0 {
		return
	}
	together, err := generate.Batch(t.Context(), m, prompts, generate.Options{MaxTokens: 12})
	require.NoError(t, err)
	for i, c := range cases {
		r, err := generate.Tokens(t.Context(), m, c.Source, generate.Options{MaxTokens: 12}, nil)
		require.NoError(t, err)
		for _, r := range []*generate.Result{r, together[i]} {
			got := slices.Clone(r.Tokens)
			if r.StopToken >= 0 {
				got = append(got, r.StopToken)
			}
			require.Equal(t, c.Greedy, got, "source %v", c.Source)
		}
	}
}

// backward compares the loss and the gradients of all weights.
func backward(t *testing.T, m *model.Model, g Golden) {
	params := map[string]*nn.Param{}
	unfreeze := func(w *nn.Weight) {
		if w != nil {
			p := w.Unfreeze()
			params[p.Name] = p
		}
	}
	for _, mod := range m.Modules {
		unfreeze(mod.Weight())
		switch {
		case mod.Linear != nil && !mod.Output:
			unfreeze(mod.Linear.Bias)
		case mod.Norm != nil:
			unfreeze(mod.Norm.Bias)
		}
	}
	b := &model.Batch{Source: &model.Batch{}}
	for _, c := range g.Cases {
		add(b.Source, c.Source)
		if c.Decoder == nil {
			b.Labels = append(b.Labels, 1)
			continue
		}
		add(b, c.Decoder)
		b.Labels = append(append(b.Labels, c.Decoder[1:]...), 1)
	}
	if g.Cases[0].Decoder == nil {
		b.Source.Labels = b.Labels
		b = b.Source
	}
	tape := nn.NewTape()
	defer tape.Close()
	tape.Train = true
	loss, _ := m.Loss(tape, b, 1)
	require.InDelta(t, g.Loss, loss, 1e-4*g.Loss)
	tape.Backward()
	for name, want := range g.Gradients {
		p := params[name]
		if p == nil {
			t.Errorf("%s is no weight of a module", name)
			continue
		}
		var norm, sum float64
		for i, v := range p.V.Grad {
			norm += float64(v) * float64(v)
			sum += float64(v) * math.Cos(float64(i))
		}
		norm = math.Sqrt(norm)
		// Keys have biases whose gradient is nothing but rounding.
		within := 2e-4*want[0] + 1e-5*g.Loss
		require.InDelta(t, want[0], norm, within, "norm of the gradient of %s", name)
		require.InDelta(t, want[1], sum, within, "gradient of %s", name)
		delete(params, name)
	}
	require.Empty(t, params, "weights without a golden gradient")
}

func same(t *testing.T, tape *nn.Tape, m *model.Model, b *model.Batch, want [][]float32) {
	t.Helper()
	tape.Reset()
	got := m.Logits(tape, b, nil).Mat()
	require.Equal(t, len(want), got.Rows)
	for r, w := range want {
		require.InDeltaSlice(t, w, got.Row(r), 1e-4, "row %d", r)
	}
}

func add(b *model.Batch, ids []int32) {
	b.Seqs = append(b.Seqs, nn.Span{Start: len(b.Tokens), End: len(b.Tokens) + len(ids)})
	for i, id := range ids {
		b.Tokens, b.Pos = append(b.Tokens, id), append(b.Pos, int32(i))
	}
}
