package adalora_test

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/adalora"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, adalora.Method, []pefttest.Case{
		{Name: "defaults", Identity: true},
		{Name: "low rank", Identity: true, Options: peft.Options{"init_r": 3, "target_r": 2, "target_modules": "v_proj,down_proj"}},
		{Name: "random", Options: peft.Options{"init_lora_weights": false, "init_r": 4, "target_r": 4, "lora_alpha": 0.1}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}},
	})
}

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{
		{"init_r": 0}, {"target_r": 13}, {"beta1": 1}, {"deltaT": 0}, {"orth_reg_weight": -1}, {"lora_dropout": 1}, {"target_modules": "embed_tokens"},
	} {
		_, err := adalora.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
	ad, err := adalora.Method.New(build(t), peft.Options{"tinit": 5, "tfinal": 5}, 1)
	require.NoError(t, err)
	require.ErrorIs(t, ad.(peft.Stepper).Begin(0, 10), peft.ErrConfig, "no step is left to cut ranks in")
}

func batch(vocab int) *model.Batch {
	b := &model.Batch{Seqs: []nn.Span{{Start: 0, End: 8}}}
	for i := range 8 {
		b.Tokens, b.Pos = append(b.Tokens, int32((i*5+2)%vocab)), append(b.Pos, int32(i))
		b.Labels = append(b.Labels, int32((i*3+1)%vocab))
	}
	return b
}

// A run cuts the ranks to the target; the file holds what is left, and gives the
// same logits; training goes on from it.
func TestRanksAreCut(t *testing.T) {
	run := func(m *model.Model, ad peft.Adapter, steps int) {
		require.NoError(t, ad.(peft.Stepper).Begin(0, steps))
		tape := nn.NewTape()
		for step := 1; step <= steps; step++ {
			for _, p := range ad.Params() {
				p.ZeroGrad()
			}
			tape.Reset()
			tape.Train = true
			m.Loss(tape, batch(m.VocabSize), 0.1)
			tape.Backward()
			require.Greater(t, ad.(peft.Penalizer).Penalty(), 0.0)
			for _, p := range ad.Params() {
				for i, g := range p.V.Grad {
					p.V.Data[i] -= 0.05 * g
				}
			}
			ad.(peft.Stepper).AfterUpdate(step)
		}
	}
	logits := func(m *model.Model) []float32 {
		tape := nn.NewTape()
		out := m.Logits(tape, batch(m.VocabSize), nil)
		return append([]float32(nil), out.Data...)
	}
	ranks := func(ad peft.Adapter) (sum, modules int) {
		raw, err := ad.Config()
		require.NoError(t, err)
		var cfg struct {
			Pattern map[string][]bool `json:"rank_pattern"`
			Total   int               `json:"total_step"`
		}
		require.NoError(t, json.Unmarshal(raw, &cfg))
		for _, list := range cfg.Pattern {
			require.Len(t, list, 6)
			for _, kept := range list {
				if kept {
					sum++
				}
			}
		}
		return sum, len(cfg.Pattern)
	}
	m := build(t)
	ad, err := adalora.Method.New(m, peft.Options{"init_r": 6, "target_r": 2, "init_lora_weights": false, "tinit": 2, "tfinal": 3}, 1)
	require.NoError(t, err)
	run(m, ad, 12)
	sum, modules := ranks(ad)
	require.Equal(t, 2*modules, sum)

	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(t.Context(), dir, ad, nil))
	again := build(t)
	loaded, err := peft.Attach(again, dir, 1)
	require.NoError(t, err)
	want, got := logits(m), logits(again)
	for i := range want {
		require.InDelta(t, want[i], got[i], bound.Output)
	}
	before := 0
	for _, p := range loaded.Params() {
		before += len(p.V.Data)
	}
	require.Less(t, before, 2*len(ad.Params())*1000)
	run(again, loaded, 12)
	sum2, _ := ranks(loaded)
	require.Equal(t, sum, sum2, "at the target, nothing more is cut")
	for _, v := range logits(again) {
		require.False(t, math.IsNaN(float64(v)))
	}
}
