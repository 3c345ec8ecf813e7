package deft_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/deft"
)

// apart takes P away from zero, where relu bends and a decomposition jumps: differences
// say nothing there.
func apart(ad peft.Adapter, times, least float64) {
	for _, p := range ad.Params() {
		if !strings.HasSuffix(p.Name, "deft_P") {
			continue
		}
		for i, v := range p.V.Data {
			p.V.Data[i] = float32(times*float64(v) + math.Copysign(least, float64(v)))
		}
	}
}

func steerReLU(ad peft.Adapter) { apart(ad, 1, 0.02) }
func steerQR(ad peft.Adapter)   { apart(ad, 10, 0.2) }

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, deft.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 4}, Steer: steerReLU},
		{Name: "alpha", Identity: true, Options: peft.Options{"rank": 4, "alpha": 6}, Steer: steerReLU},
		{Name: "no alpha", Identity: true, Options: peft.Options{"rank": 4, "alpha": 0}, Steer: steerReLU},
		{Name: "random", Options: peft.Options{"rank": 3, "init_weights": false, "init_scale": 2}, Steer: steerReLU},
		{Name: "qr", Identity: true, Options: peft.Options{"rank": 4, "decomposition_method": "qr"}, Steer: steerQR},
		{Name: "para", Options: peft.Options{"rank": 3, "para": true}, Steer: steerReLU},
		{Name: "para qr", Options: peft.Options{"rank": 3, "para": true, "decomposition_method": "qr"}, Steer: steerQR},
		{Name: "many rows", Identity: true, Options: peft.Options{"rank": 3, "decomposition_method": "qr", "target_modules": "v_proj"}, Batch: pefttest.Many, Steer: steerQR},
		{Name: "more than outputs", Identity: true, Options: peft.Options{"rank": 100, "target_modules": "v_proj"}, Steer: steerReLU},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"rank": 3, "target_modules": "lm_head"}, Steer: steerReLU},
		{Name: "dropout", Identity: true, Options: peft.Options{"rank": 3, "dropout": 1e-9}, Steer: steerReLU},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 4}, Steer: steerReLU},
		{Name: "gpt2 qr", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "decomposition_method": "qr", "init_weights": false}, Steer: steerQR},
		{Name: "biases", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "bias": "deft_only"}, Steer: steerReLU},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 4}, Steer: steerReLU},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for want, o := range map[string]peft.Options{
		"r is 0": {"rank": 0}, "decomposition_method": {"decomposition_method": "svd"}, "deft_dropout": {"dropout": 1}, "init_scale": {"init_scale": -1},
		"linear layers": {"target_modules": "norm"}, "embed_tokens": {"target_modules": "embed_tokens"},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = deft.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
		require.ErrorContains(t, err, want)
	}
}
