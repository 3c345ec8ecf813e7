package boft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/boft"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, boft.Method, []pefttest.Case{
		{Name: "one factor", Identity: true},
		{Name: "two factors", Identity: true, Options: peft.Options{"boft_n_butterfly_factor": 2}},
		{Name: "three factors", Identity: true, Options: peft.Options{"boft_n_butterfly_factor": 3, "target_modules": "q_proj,v_proj"}},
		{Name: "by number", Identity: true, Options: peft.Options{"boft_block_size": 0, "boft_block_num": 2}},
		{Name: "random", Options: peft.Options{"init_weights": false}},
		{Name: "gpt2, biases", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"bias": "boft_only"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"boft_n_butterfly_factor": 2}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{
		{"boft_block_num": 2}, {"boft_block_size": 0}, {"boft_block_size": 7}, {"boft_block_size": 1}, {"boft_n_butterfly_factor": 0},
		{"boft_n_butterfly_factor": 6}, {"boft_dropout": 1}, {"target_modules": "embed_tokens"},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = boft.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Dropout leaves out half of the blocks of one factor, others in each step, and
// nothing at inference.
func TestDropout(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	_, err = boft.Method.New(m, peft.Options{"boft_dropout": 0.5, "init_weights": false, "boft_n_butterfly_factor": 2}, 1)
	require.NoError(t, err)
	run := func(train bool, seed uint64) []float32 {
		tape := nn.NewTape()
		defer tape.Close()
		tape.Train, tape.Seed = train, seed
		y := m.Logits(tape, &model.Batch{Tokens: []int32{3, 1}, Pos: []int32{0, 1}, Seqs: []nn.Span{{Start: 0, End: 2}}}, nil)
		return append([]float32(nil), y.Mat().Data...)
	}
	require.Equal(t, run(false, 1), run(false, 2))
	require.Equal(t, run(true, 1), run(true, 1))
	require.NotEqual(t, run(true, 1), run(true, 2))
	require.NotEqual(t, run(false, 1), run(true, 1))
}
