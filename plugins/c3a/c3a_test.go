package c3a_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/c3a"
)

func TestConformance(t *testing.T) {
	all := "q_proj,v_proj,up_proj,down_proj"
	pefttest.Run(t, c3a.Method, []pefttest.Case{
		{Name: "defaults"},
		{Name: "zero", Identity: true, Options: peft.Options{"block_size": 4, "init_weights": true, "target_modules": all}},
		{Name: "gaussian", Options: peft.Options{"block_size": 2, "init_weights": "gaussian", "block_size_pattern": `{"q_proj": 1}`, "target_modules": all}},
		{Name: "kaiming", Options: peft.Options{"block_size": 8, "init_weights": "kaiming_uniform"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"init_weights": true}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"block_size": -1}, {"block_size": 7}, {"init_weights": "ones"}, {"block_size_pattern": `{"q_proj": 0}`}, {"target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = c3a.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
