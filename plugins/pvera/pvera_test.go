package pvera_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/pvera"
)

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{{"rank": 0}, {"dropout": 1}, {"generator_seed": -1}, {"target_modules": "embed_tokens"}} {
		_, err := pvera.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// logits of one text, in training with a seed or not.
func logits(m *model.Model, train bool, seed uint64) []float32 {
	tape := nn.NewTape()
	defer tape.Close()
	tape.Train, tape.Seed = train, seed
	return append([]float32(nil), m.Logits(tape, model.Sequence([]int32{3, 1, 5}, 0), nil).Mat().Data...)
}

// What lies between the matrices is drawn anew in each step, about the mean that is used
// later.
func TestDraws(t *testing.T) {
	m := build(t)
	ad, err := pvera.Method.New(m, peft.Options{"rank": 8, "init_weights": false}, 1)
	require.NoError(t, err)
	for _, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] *= 0.01 // so small that the logits follow in a line
		}
	}
	mean := logits(m, false, 0)
	require.Equal(t, mean, logits(m, false, 9))
	require.Equal(t, logits(m, true, 1), logits(m, true, 1))
	require.NotEqual(t, logits(m, true, 1), logits(m, true, 2))
	sum := make([]float64, len(mean))
	var apart float64
	const n = 400
	for seed := range n {
		for i, v := range logits(m, true, uint64(seed)) {
			sum[i] += float64(v) / n
			apart += math.Abs(float64(v-mean[i])) / n
		}
	}
	var left float64
	for i := range sum {
		left += math.Abs(sum[i] - float64(mean[i]))
	}
	// The mean of n draws lies 1/sqrt(n), 0.05, as far away as a draw does: four times that.
	require.Less(t, left, apart/5, "the mean of the draws")

	m = build(t)
	_, err = pvera.Method.New(m, peft.Options{"rank": 8, "init_weights": false, "generator_seed": 5, "sample_at_inference": true}, 1)
	require.NoError(t, err)
	require.NotEqual(t, logits(m, false, 0), logits(m, false, 0), "the generator goes on")
}

func TestConformance(t *testing.T) {
	pefttest.Run(t, pvera.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 8}},
		{Name: "drawn again", Identity: true, Options: peft.Options{"rank": 6, "save_projection": false, "projection_prng_key": 3}},
		{Name: "dropout", Identity: true, Options: peft.Options{"rank": 6, "dropout": 1e-9}},
		{Name: "gpt2, biases", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 8, "bias": "pvera_only"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 8}},
	})
}
