package adamss_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/adamss"
)

func TestConformance(t *testing.T) {
	bert := model.Options{Task: model.SequenceClassification}
	pefttest.Run(t, adamss.Method, []pefttest.Case{
		{Name: "llama", Identity: true},
		{Name: "few vectors", Identity: true, Options: peft.Options{"rank": 6, "num_subspaces": 3, "subspace_rank": 2, "random_seed": 4}},
		{Name: "random", Options: peft.Options{"init_weights": false, "subspace_rank": 2}},
		{Name: "dynamic", Options: peft.Options{"init_weights": false, "subspace_rank": 4, "use_dynamic_rank": true, "svd_threshold": 0.6}},
		{Name: "asa", Options: peft.Options{"init_weights": false, "use_asa": true, "init_warmup": 1, "final_warmup": 3, "mask_interval": 1, "asa_target_subspaces": 4}},
		{Name: "many rows", Options: peft.Options{"init_weights": false}, Batch: pefttest.Many},
		{Name: "gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "init_weights": false}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: bert},
		{Name: "bert, biases", Model: testmodel.BERT(2), Build: bert, Options: peft.Options{"init_weights": false, "rank": 7}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{
		{"rank": 0}, {"rank": 32}, {"num_subspaces": 0}, {"subspace_rank": 0}, {"init_weights": "zero"}, {"rank": 2, "subspace_rank": 3}, {"target_modules": "embed_tokens"},
		{"use_asa": true, "mask_interval": 0}, {"use_asa": true, "init_warmup": 9, "final_warmup": 9}, {"use_asa": true, "asa_target_subspaces": 0},
		{"use_asa": true, "asa_schedule_exponent": 0},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = adamss.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
