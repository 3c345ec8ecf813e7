package xlora_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/lora"
	"github.com/peftkit/peftkit/plugins/xlora"
)

func build(t *testing.T, s testmodel.Source, o model.Options) *model.Model {
	t.Helper()
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, o)
	require.NoError(t, err)
	return m
}

// trained writes a LoRA adapter with an effect and returns its folder.
func trained(t *testing.T, s testmodel.Source, o peft.Options) string {
	t.Helper()
	o["init_lora_weights"] = false
	ad, err := lora.Method.New(build(t, s, model.Options{}), o, uint64(len(t.Name())))
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "lora")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	return dir
}

func two(t *testing.T, s testmodel.Source, first, second string) string {
	return trained(t, s, peft.Options{"rank": 3, "alpha": 4, "target_modules": first}) + "," +
		trained(t, s, peft.Options{"rank": 2, "alpha": 3, "use_rslora": true, "target_modules": second})
}

func TestConformance(t *testing.T) {
	llama, gpt2 := two(t, testmodel.Default(), "q_proj,down_proj", "q_proj,v_proj"), two(t, testmodel.GPT2(), "c_attn", "c_attn,mlp.c_proj")
	pefttest.Run(t, xlora.Method, []pefttest.Case{
		{Name: "llama", Options: peft.Options{"adapters": llama}},
		{Name: "for each layer", Options: peft.Options{"adapters": llama, "layerwise_scalings": true, "softmax_temperature": 0.5}},
		{Name: "deep", Options: peft.Options{"adapters": llama, "xlora_depth": 3, "xlora_size": 16, "dropout": 0}},
		{Name: "softmax of the largest", Options: peft.Options{"adapters": llama, "top_k_lora": 2, "enable_softmax": false, "enable_softmax_topk": true}},
		{Name: "a first pass with adapters", Options: peft.Options{"adapters": llama, "scaling_pass_value": 0.3, "global_scaling_weight": 1.5}},
		{Name: "many rows", Options: peft.Options{"adapters": llama}, Batch: pefttest.Many},
		{Name: "gpt2", Model: testmodel.GPT2(), Options: peft.Options{"adapters": gpt2}},
	})
}

func TestRefuses(t *testing.T) {
	llama := two(t, testmodel.Default(), "q_proj", "v_proj")
	for _, o := range []peft.Options{
		{}, {"adapters": llama, "xlora_depth": 0}, {"adapters": llama, "xlora_size": 0}, {"adapters": llama, "dropout": 1}, {"adapters": llama, "softmax_temperature": 0},
		{"adapters": llama, "top_k_lora": 0}, {"adapters": llama, "top_k_lora": 3}, {"adapters": llama, "top_k_lora": 1, "scaling_pass_value": 1},
		{"adapters": trained(t, testmodel.Default(), peft.Options{"rank": 2, "use_dora": true, "target_modules": "q_proj"})},
	} {
		_, err := xlora.Method.New(build(t, testmodel.Default(), model.Options{}), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
	_, err := xlora.Method.New(build(t, testmodel.Default(), model.Options{}), peft.Options{"adapters": trained(t, testmodel.Default(), peft.Options{"rank": 2, "target_modules": "embed_tokens,q_proj"})}, 1)
	require.ErrorIs(t, err, peft.ErrTensors)
	_, err = xlora.Method.New(build(t, testmodel.Default(), model.Options{}), peft.Options{"adapters": filepath.Join(t.TempDir(), "none")}, 1)
	require.ErrorIs(t, err, os.ErrNotExist)
	for _, s := range []testmodel.Source{testmodel.T5(), testmodel.BERT(2)} {
		_, err := xlora.Method.New(build(t, s, model.Options{}), peft.Options{"adapters": llama}, 1)
		require.ErrorIs(t, err, peft.ErrNoFit)
	}
}

// A folder that has moved has its adapters in the folders that PEFT puts there; a
// classifier without its first layer is what PEFT saves.
func TestFiles(t *testing.T) {
	llama := two(t, testmodel.Default(), "q_proj", "v_proj")
	ad, err := xlora.Method.New(build(t, testmodel.Default(), model.Options{}), peft.Options{"adapters": llama}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "x")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	for i, from := range strings.Split(llama, ",") {
		require.NoError(t, os.Rename(from, filepath.Join(dir, []string{"0", "1"}[i])))
	}
	_, err = peft.Attach(build(t, testmodel.Default(), model.Options{}), dir, 1)
	require.NoError(t, err)

	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	a.Tensors = nil
	a.Config = json.RawMessage(strings.Replace(string(a.Config), `"hidden_size": 32`, `"hidden_size": 64`, 1))
	_, err = xlora.Method.Load(build(t, testmodel.Default(), model.Options{}), a, 1)
	require.ErrorIs(t, err, peft.ErrConfig)
	a.Config = json.RawMessage(strings.Replace(string(a.Config), `"hidden_size": 64`, `"hidden_size": 32`, 1))
	_, err = xlora.Method.Load(build(t, testmodel.Default(), model.Options{}), a, 1)
	require.ErrorIs(t, err, peft.ErrNoMatch)
	require.ErrorContains(t, err, "leaves the first layer of the classifier out")
}
