package randlora_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/randlora"
)

func TestConformance(t *testing.T) {
	all := "q_proj,v_proj,up_proj,down_proj"
	pefttest.Run(t, randlora.Method, []pefttest.Case{
		{Name: "defaults", Identity: true, Options: peft.Options{"r": 5, "randlora_alpha": 4, "target_modules": all}},
		{Name: "drawn again", Identity: true, Options: peft.Options{"r": 3, "randlora_alpha": 3, "save_projection": false}},
		{Name: "sparse", Identity: true, Options: peft.Options{"r": 4, "randlora_alpha": 4, "sparse": true, "target_modules": all}},
		{Name: "very sparse, random", Options: peft.Options{"r": 8, "randlora_alpha": 1, "very_sparse": true, "init_weights": false, "target_modules": all}},
		{Name: "many rows", Options: peft.Options{"r": 8, "randlora_alpha": 1, "init_weights": false, "target_modules": all}, Batch: pefttest.Many},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"r": 4, "randlora_alpha": 4}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"r": 0}, {"randlora_dropout": 1}, {"target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = randlora.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
