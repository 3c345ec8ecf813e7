package loha_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/loha"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, loha.Method, []pefttest.Case{
		{Name: "factored", Identity: true, Options: peft.Options{"r": 2}},
		{Name: "dense", Identity: true, Options: peft.Options{"r": 6, "target_modules": "q_proj,down_proj"}},
		{Name: "random", Options: peft.Options{"init_weights": false, "r": 2}},
		{Name: "patterns", Identity: true, Options: peft.Options{"r": 2, "rank_pattern": `{"q_proj": 5}`, "alpha_pattern": `{"v_proj": 3}`}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"r": 2}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"r": 0}, {"rank_dropout": 1}, {"module_dropout": -0.5}, {"rank_pattern": `{"q_proj": 0.5}`}, {"target_modules": "embed_tokens"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = loha.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
