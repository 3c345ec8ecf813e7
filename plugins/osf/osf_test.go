package osf_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/osf"
)

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// The gradients of U and V are projected: see TestStaysApart.
func projected(name string) bool { return !strings.HasSuffix(name, "S_low") }

func TestConformance(t *testing.T) {
	pefttest.Run(t, osf.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Skip: projected},
		{Name: "share", Identity: true, Skip: projected, Options: peft.Options{"effective_rank": 0.9, "rank_pattern": map[string]any{"v_proj": 3}, "target_modules": "q_proj,v_proj,down_proj"}},
		{Name: "random", Skip: projected, Options: peft.Options{"init_weights": false, "effective_rank": 28, "target_modules": "q_proj"}},
		{Name: "many rows", Identity: true, Skip: projected, Batch: pefttest.Many},
		{Name: "gpt2", Identity: true, Skip: projected, Model: testmodel.GPT2()},
		{Name: "bert", Identity: true, Skip: projected, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}},
	})
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{{"effective_rank": 0}, {"effective_rank": 1.5e9}, {"effective_rank": "many"}, {"rank_pattern": `{"(": 3}`}, {"target_modules": "embed_tokens"}} {
		_, err := osf.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Gradients are at right angles to the directions that stay, and along what is left of
// them the loss falls as they say.
func TestStaysApart(t *testing.T) {
	m := build(t)
	ad, err := osf.Method.New(m, peft.Options{"effective_rank": 20, "target_modules": "q_proj"}, 1)
	require.NoError(t, err)
	tape := nn.NewTape()
	defer tape.Close()
	tape.Train = true
	b := model.Sequence([]int32{3, 1, 5, 7, 2, 9}, 0)
	b.Labels = []int32{1, 5, 7, 2, 9, 3}
	m.Loss(tape, b, 1)
	tape.Backward()
	for _, p := range ad.Params()[:3] {
		if !projected(p.Name) {
			continue
		}
		g, norm := slices.Clone(p.V.Grad), 0.0
		for _, x := range g {
			norm += float64(x) * float64(x)
		}
		require.Greater(t, norm, 1e-6, p.Name)
		// U and V begin as singular vectors: what is trained is at right angles to what
		// stays, so no gradient has a part along it. Of the trained directions there is one.
		old, h := slices.Clone(p.V.Data), 1e-2/math.Sqrt(norm)
		at := func(step float64) float64 {
			for i := range p.V.Data {
				p.V.Data[i] = old[i] + float32(step)*g[i]
			}
			tape.Reset()
			sum, _ := m.Loss(tape, b, 0)
			return sum
		}
		slope := (at(h) - at(-h)) / (2 * h)
		copy(p.V.Data, old)
		require.InEpsilon(t, norm, slope, 0.02, p.Name)
	}
}
