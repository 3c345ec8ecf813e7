package lokr_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/lokr"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, lokr.Method, []pefttest.Case{
		{Name: "both whole", Identity: true, Options: peft.Options{"r": 8, "decompose_factor": -1}},
		{Name: "split", Identity: true, Options: peft.Options{"r": 1, "alpha": 2, "target_modules": "q_proj,v_proj,down_proj"}},
		{Name: "all split", Identity: true, Options: peft.Options{"r": 1, "alpha": 1, "decompose_factor": -1, "decompose_both": true}},
		{Name: "lycoris", Identity: true, Options: peft.Options{"r": 2, "alpha": 2, "init_weights": "lycoris"}},
		{Name: "random", Options: peft.Options{"r": 2, "alpha": 2, "init_weights": false, "rank_pattern": `{"q_proj": 1}`}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"r": 2}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"r": 0}, {"decompose_factor": 0}, {"rank_dropout": 1}, {"init_weights": "zeros"}, {"target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = lokr.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
