package oft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/oft"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, oft.Method, []pefttest.Case{
		{Name: "series", Identity: true, Options: peft.Options{"oft_block_size": 8}},
		{Name: "two terms", Identity: true, Options: peft.Options{"oft_block_size": 4, "num_cayley_neumann_terms": 2}},
		{Name: "three terms", Identity: true, Options: peft.Options{"oft_block_size": 4, "num_cayley_neumann_terms": 3}},
		{Name: "as before PEFT 0.18", Identity: true, Options: peft.Options{"oft_block_size": 8, "peft_version": "0.17.1"}},
		{Name: "exact", Identity: true, Options: peft.Options{"oft_block_size": 8, "use_cayley_neumann": false, "target_modules": "q_proj,down_proj"}},
		{Name: "shared", Identity: true, Options: peft.Options{"oft_block_size": 0, "r": 3, "block_share": true}},
		{Name: "within a wide bound", Identity: true, Options: peft.Options{"oft_block_size": 8, "coft": true, "eps": 100}},
		{Name: "random", Options: peft.Options{"oft_block_size": 6, "init_weights": false}},
		{Name: "embedding", Identity: true, Model: untied, Options: peft.Options{"oft_block_size": 8, "target_modules": "embed_tokens,q_proj"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"oft_block_size": 8, "bias": "oft_only"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"oft_block_size": 8}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{
		{"r": 4}, {"oft_block_size": 0}, {"num_cayley_neumann_terms": 1}, {"coft": true, "eps": 0}, {"oft_block_size": 1},
		{"oft_block_size": nil}, {"target_modules": "norm"},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = oft.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// A binding constraint keeps the rotations near none.
func TestConstrained(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	ad, err := oft.Method.New(m, peft.Options{"oft_block_size": 0, "r": 4, "coft": true, "eps": 0.2, "init_weights": false}, 1)
	require.NoError(t, err)
	tape := nn.NewTape()
	defer tape.Close()
	m.Logits(tape, &model.Batch{Tokens: []int32{3, 1}, Pos: []int32{0, 1}, Seqs: []nn.Span{{Start: 0, End: 2}}}, nil)
	for _, p := range ad.Params() {
		for r := range p.V.Rows {
			sum := 0.0
			for _, x := range p.V.Mat().Row(r) {
				sum += 2 * float64(x) * float64(x)
			}
			require.InDelta(t, 0.2*0.2/4, sum, bound.Gamma(p.V.Cols+8)*0.2*0.2/4) // norm of a row, a division, a product, squared
		}
	}
}
