package adaptionprompt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/qwen2"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/adaptionprompt"
)

func TestConformance(t *testing.T) {
	biased := testmodel.Default()
	biased.Bias = true
	pefttest.Run(t, adaptionprompt.Method, []pefttest.Case{
		{Name: "defaults", Identity: true},
		{Name: "GPT-2", Model: testmodel.GPT2(), Identity: true, Options: peft.Options{"adapter-len": 3}},
		{Name: "Qwen2", Model: testmodel.Qwen2(), Identity: true, Options: peft.Options{"adapter-len": 3}},
		{Name: "all layers", Identity: true, Options: peft.Options{"adapter-len": 3, "adapter-layers": 2}},
	})
	// The bias of the output projection is added twice, so a fresh adapter is not
	// without effect; PEFT does the same.
	pefttest.Run(t, adaptionprompt.Method, []pefttest.Case{{Name: "biases", Model: biased, Options: peft.Options{"adapter-len": 3}}})
}

func build(t *testing.T, s testmodel.Source) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestRefuses(t *testing.T) {
	for name, o := range map[string]peft.Options{
		"no embeddings": {"adapter-len": 0}, "no layers": {"adapter-layers": 0},
		"too many layers": {"adapter-layers": 3}, "target": {"target_modules": "mlp"},
	} {
		_, err := adaptionprompt.Method.New(build(t, testmodel.Default()), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, name)
	}
	_, err := adaptionprompt.Method.New(build(t, testmodel.BERT(2)), nil, 1)
	require.ErrorIs(t, err, peft.ErrNoFit)
}
