package tinylora_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/tinylora"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, tinylora.Method, []pefttest.Case{
		{Name: "defaults", Identity: true, Options: peft.Options{}},
		{Name: "drawn again", Identity: true, Options: peft.Options{"u": 5, "save_projection": false, "target_modules": "v_proj,down_proj"}},
		{Name: "tied", Options: peft.Options{"r": 4, "u": 13, "weight_tying": 1, "init_weights": "uniform", "init_v_bound": 0.1}},
		{Name: "partly tied", Identity: true, Options: peft.Options{"r": 3, "u": 7, "weight_tying": 0.6, "projection_seed": 7}},
		{Name: "rank beyond the weight's", Identity: true, Options: peft.Options{"r": 100, "u": 2, "target_modules": "v_proj"}},
		{Name: "many rows", Identity: true, Options: peft.Options{}, Batch: pefttest.Many},
		{Name: "embedding", Identity: true, Model: untied, Options: peft.Options{"u": 8, "target_modules": "embed_tokens,q_proj,lm_head"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"bias": "tinylora_only"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"r": 3}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{
		{"r": 0}, {"u": 0}, {"u": 1 << 21}, {"weight_tying": -0.1}, {"weight_tying": 1.1}, {"tinylora_dropout": 1}, {"init_v_bound": -1},
		{"init_weights": "normal"}, {"init_weights": false}, {"target_modules": "norm"}, {"projection_seed": "x"}, {"r": 1000, "u": 1 << 20},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = tinylora.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
		m, err = model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = tinylora.Method.Size(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
