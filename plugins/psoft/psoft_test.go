package psoft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/psoft"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, psoft.Method, []pefttest.Case{
		{Name: "defaults", Identity: true, Options: peft.Options{"r": 8}},
		{Name: "random", Options: peft.Options{"r": 5, "init_weights": false, "psoft_alpha": 3, "target_modules": "q_proj,down_proj"}},
		{Name: "as PiSSA", Identity: true, Options: peft.Options{"r": 6, "ab_svd_init": "pissa_init", "psoft_alpha": 9}},
		{Name: "rotation alone", Identity: true, Options: peft.Options{"r": 8, "psoft_mag_a": false, "psoft_mag_b": false}},
		{Name: "one scale", Identity: true, Options: peft.Options{"r": 4, "psoft_mag_a": false}},
		{Name: "any matrix", Options: peft.Options{"r": 4, "psoft_orth": false, "init_weights": false}},
		{Name: "one direction", Identity: true, Options: peft.Options{"r": 1, "psoft_orth": false}},
		{Name: "series", Identity: true, Options: peft.Options{"r": 8, "use_cayley_neumann": true}},
		{Name: "two terms", Identity: true, Options: peft.Options{"r": 4, "use_cayley_neumann": true, "num_cayley_neumann_terms": 2}},
		{Name: "bounded series", Options: peft.Options{"r": 8, "use_cayley_neumann": true, "num_cayley_neumann_terms": 3, "cayley_neumann_eps": 0.2, "init_weights": false}},
		{Name: "many rows", Identity: true, Options: peft.Options{"r": 8}, Batch: pefttest.Many},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"r": 8}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"r": 8}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{
		{"r": 0}, {"r": 1}, {"r": 1000}, {"psoft_alpha": 0}, {"psoft_alpha": -1}, {"psoft_dropout": 1}, {"ab_svd_init": "svd"}, {"psoft_svd": "lowrank"},
		{"psoft_svd": "half"}, {"use_cayley_neumann": true, "num_cayley_neumann_terms": 1}, {"use_cayley_neumann": true, "cayley_neumann_eps": 1},
		{"target_modules": "norm"}, {"target_modules": "embed_tokens"},
	} {
		if o["r"] == nil {
			o["r"] = 4
		}
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = psoft.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
