package vera_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/vera"
	"github.com/peftkit/peftkit/tensor"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, vera.Method, []pefttest.Case{
		{Name: "defaults", Identity: true, Options: peft.Options{"r": 16}},
		{Name: "drawn again", Identity: true, Options: peft.Options{"r": 8, "save_projection": false, "target_modules": "v_proj,down_proj"}},
		{Name: "random", Options: peft.Options{"r": 4, "init_weights": false, "projection_prng_key": 7}},
		{Name: "many rows", Options: peft.Options{"r": 6, "init_weights": false, "target_modules": "q_proj,k_proj,v_proj,up_proj,down_proj,lm_head"}, Model: untied(), Batch: pefttest.Many},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"r": 8, "bias": "vera_only"}},
	})
}

func untied() testmodel.Config {
	s := testmodel.Default()
	s.Untied = true
	return s
}

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{{"r": 0}, {"vera_dropout": 1}, {"target_modules": "embed_tokens"}, {"projection_prng_key": "x"}} {
		_, err := vera.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// Matrices in a file whose configuration says that they are not there.
func TestStrayProjections(t *testing.T) {
	ad, err := vera.Method.New(build(t), peft.Options{"r": 2, "target_modules": "q_proj"}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(t.Context(), dir, ad, nil))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	a.Config = []byte(`{"peft_type":"VERA","r":2,"target_modules":["q_proj"],"save_projection":false}`)
	_, err = vera.Method.Load(build(t), a, 1)
	require.NoError(t, err, "the very matrices of the key")

	for i, tn := range a.Tensors {
		if tn.Name == "base_model.vera_A" {
			v, err := tn.AllFloats()
			require.NoError(t, err)
			v[0]++
			a.Tensors[i] = tensor.FromFloats(tn.Name, tn.Shape, v)
		}
	}
	_, err = vera.Method.Load(build(t), a, 1)
	require.ErrorIs(t, err, peft.ErrTensors)
}
