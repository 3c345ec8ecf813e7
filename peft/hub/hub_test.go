package hub_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/formats/adapterhub"
	_ "github.com/peftkit/peftkit/formats/hfpeft"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/llama"
	_ "github.com/peftkit/peftkit/model/roberta"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/hub"
	"github.com/peftkit/peftkit/plugins/attentionprefix"
	"github.com/peftkit/peftkit/plugins/bottleneck"
	"github.com/peftkit/peftkit/plugins/compacter"
	"github.com/peftkit/peftkit/plugins/lora"
	"github.com/peftkit/peftkit/plugins/mam"
	"github.com/peftkit/peftkit/plugins/unipelt"
)

func build(t *testing.T, s testmodel.Source) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func TestEachConfigurationHasOneMethod(t *testing.T) {
	all := []*hub.Method{bottleneck.Houlsby, bottleneck.Pfeiffer, bottleneck.Parallel, compacter.Compacter, compacter.PlusPlus, attentionprefix.Method, mam.Method, unipelt.Method}
	for _, m := range all {
		ad, err := m.New(build(t, testmodel.Default()), nil, 1)
		if m == compacter.Compacter || m == compacter.PlusPlus {
			ad, err = m.New(build(t, testmodel.Default()), peft.Options{"reduction_factor": 4}, 1)
		}
		require.NoError(t, err)
		cfg, err := ad.Config()
		require.NoError(t, err)
		for _, o := range all {
			require.Equal(t, o == m, o.Recognises(cfg), "%s of %s", o.Facts.Name, m.Facts.Name)
		}
	}
}

// The library tests scaling with isinstance(x, float).
func TestNumbersThatPythonWantsAsFloats(t *testing.T) {
	ad, err := bottleneck.Parallel.New(build(t, testmodel.Default()), peft.Options{"scaling": 2, "dropout": 0}, 1)
	require.NoError(t, err)
	cfg, err := ad.Config()
	require.NoError(t, err)
	require.Contains(t, string(cfg), `"scaling": 2.0`)
	require.Contains(t, string(cfg), `"dropout": 0.0`)
	require.Contains(t, string(cfg), `"stochastic_depth": 0.0`)
}

func TestRefuses(t *testing.T) {
	llama, bert := testmodel.Default(), testmodel.BERT(2)
	for name, c := range map[string]struct {
		m    *hub.Method
		on   testmodel.Source
		o    peft.Options
		want error
		text string
	}{
		"post add without a norm": {bottleneck.Pfeiffer, llama, peft.Options{"residual_before_ln": "post_add"}, peft.ErrConfig, "post_add"},
		"phm_dim":                 {compacter.Compacter, llama, peft.Options{"reduction_factor": 4, "phm_dim": 3}, peft.ErrConfig, "phm_dim 3"},
		"range of own rules":      {compacter.Compacter, bert, peft.Options{"phm_init_range": 0.1, "shared_phm_rule": false}, peft.ErrConfig, "0.01"},
		"range of uniform rules":  {compacter.Compacter, bert, peft.Options{"phm_init_range": 0.1, "phm_c_init": "uniform"}, peft.ErrConfig, "uniform"},
		"rank of whole factors":   {compacter.Compacter, bert, peft.Options{"phm_rank": 2, "factorized_phm_W": false}, peft.ErrConfig, "phm_rank"},
		"activation":              {bottleneck.Houlsby, bert, peft.Options{"non_linearity": "sine"}, peft.ErrConfig, "sine"},
		"factor":                  {bottleneck.Houlsby, bert, peft.Options{"reduction_factor": 0}, peft.ErrConfig, "reduction_factor"},
		"nowhere":                 {bottleneck.Pfeiffer, bert, peft.Options{"output_adapter": false}, peft.ErrNoFit, "leave_out"},
		"no cross-attention":      {bottleneck.Pfeiffer, bert, peft.Options{"output_adapter": false, "cross_adapter": true}, peft.ErrNoFit, "cross_adapter"},
		"name":                    {bottleneck.Pfeiffer, bert, peft.Options{"name": "a.b"}, peft.ErrConfig, "a.b"},
		"matrices":                {unipelt.Method, bert, peft.Options{"attn_matrices": []any{"o"}}, peft.ErrConfig, "attn_matrices"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.m.New(build(t, c.on), c.o, 1)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
		})
	}
}

// saved writes an adapter of BERT and opens it with a changed configuration.
func saved(t *testing.T, change func(top, config map[string]any)) *formats.Adapter {
	ad, err := bottleneck.Pfeiffer.New(build(t, testmodel.BERT(2)), nil, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	var top map[string]any
	require.NoError(t, json.Unmarshal(a.Config, &top))
	change(top, top["config"].(map[string]any))
	a.Config, err = json.Marshal(top)
	require.NoError(t, err)
	return a
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(top, config map[string]any)
		want   error
		text   string
	}{
		"invertible": {func(_, c map[string]any) { c["inv_adapter"] = "nice" }, peft.ErrConfig, "invertible"},
		"legacy invertible": {func(_, c map[string]any) {
			c["invertible_adapter"] = map[string]any{"block_type": "nice", "reduction_factor": 2}
		}, peft.ErrConfig, "invertible"},
		"another model": {func(top, _ map[string]any) { top["model_type"] = "gpt2" }, peft.ErrNoMatch, "gpt2"},
		"another size":  {func(top, _ map[string]any) { top["hidden_size"] = 768 }, peft.ErrNoMatch, "768"},
		"no name":       {func(top, _ map[string]any) { delete(top, "name") }, peft.ErrConfig, "name"},
		"other factor":  {func(_, c map[string]any) { c["reduction_factor"] = 2 }, peft.ErrTensors, "shape"},
		"ReFT":          {func(_, c map[string]any) { c["architecture"] = "reft" }, peft.ErrConfig, "reft"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bottleneck.Pfeiffer.Load(build(t, testmodel.BERT(2)), saved(t, c.change), 1)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
		})
	}
}

func TestScale(t *testing.T) {
	run := func(scale float32) float32 {
		a := saved(t, func(map[string]any, map[string]any) {})
		var keep = a.Tensors[:0:0]
		for _, x := range a.Tensors { // a head takes no scale
			if x.Name != "classifier.weight" && x.Name != "classifier.bias" {
				keep = append(keep, x)
			}
		}
		a.Tensors = keep
		m := build(t, testmodel.BERT(2))
		m.HeadModules = nil
		_, err := bottleneck.Pfeiffer.Load(m, a, scale)
		require.NoError(t, err)
		return m.Logits(nn.NewTape(), model.Sequence([]int32{3, 9, 4}, 0), nil).Data[0]
	}
	m := build(t, testmodel.BERT(2))
	base := m.Logits(nn.NewTape(), model.Sequence([]int32{3, 9, 4}, 0), nil).Data[0]
	one, zero := run(1), run(0)
	// Half the scale is half way but for the curvature of what comes after: 0.1 is a safety
	// factor of 100 over the 0.001 measured. A scale that is ignored is off by 0.5.
	require.InDelta(t, run(0.5), (one+zero)/2, 0.1*math.Abs(float64(one-zero)))
	require.NotEqual(t, base, one)
}

// A cache must not change what prefixes and adapters do, gates aside.
func TestCache(t *testing.T) {
	tokens := []int32{3, 9, 4, 11, 5, 7}
	m := build(t, testmodel.Default())
	_, err := mam.Method.New(m, peft.Options{"prefix_length": 3, "bottleneck_size": 8, "flat": true}, 3)
	require.NoError(t, err)
	whole := m.Logits(nn.NewTape(), model.Sequence(tokens, 0), nil)
	cache := m.NewCache(len(tokens))
	for i, n := range []int{4, 1, 1} {
		at := []int{0, 4, 5}[i]
		b := model.Sequence(tokens[at:at+n], at)
		b.Cache = cache
		got := m.Logits(nn.NewTape(), b, nil)
		for r := range n {
			for c := range got.Cols {
				require.InDelta(t, whole.Data[(at+r)*whole.Cols+c], got.Data[r*got.Cols+c], bound.Output)
			}
		}
	}
}

// TestRealHead reads a published adapter with a flexible head into RoBERTa.
func TestRealHead(t *testing.T) {
	a, err := formats.OpenAdapter(testdata.Dir(t, "adapters", "adapterhub-roberta-sst2"))
	require.NoError(t, err)
	defer a.Close()
	o, err := peft.OptionsFor(a)
	require.NoError(t, err)
	require.Equal(t, model.SequenceClassification, o.Task)
	require.Equal(t, []string{"negative", "positive"}, o.Labels)
}

func TestHeadConfig(t *testing.T) {
	ad, err := bottleneck.Pfeiffer.New(build(t, testmodel.BERT(2)), nil, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	b, err := os.ReadFile(filepath.Join(dir, "head_config.json"))
	require.NoError(t, err)
	var h map[string]any
	require.NoError(t, json.Unmarshal(b, &h))
	require.Equal(t, "BertForSequenceClassification", h["model_class"])
	require.Equal(t, map[string]any{"class-0": 0.0, "class-1": 1.0}, h["label2id"])
	require.Nil(t, h["config"])
	require.FileExists(t, filepath.Join(dir, "model_head.safetensors"))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	o, err := bottleneck.Pfeiffer.OptionsFor(a)
	require.NoError(t, err)
	require.Equal(t, []string{"class-0", "class-1"}, o.Labels)
}

// Two methods that save the same head must not take its names from each other.
func TestCombination(t *testing.T) {
	m := build(t, testmodel.BERT(2))
	ad, err := peft.New(m, []peft.Part{{Method: lora.Method}, {Method: bottleneck.Houlsby}, {Method: attentionprefix.Method}}, 1)
	require.NoError(t, err)
	for k, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] += 0.05 * float32(math.Sin(float64(13*k+7*i+1)))
		}
	}
	b := model.Sequence([]int32{3, 9, 4}, 0)
	want := append([]float32(nil), m.Logits(nn.NewTape(), b, nil).Data...)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	again := build(t, testmodel.BERT(2))
	_, err = peft.Attach(again, dir, 1)
	require.NoError(t, err)
	require.InDeltaSlice(t, want, again.Logits(nn.NewTape(), b, nil).Data, bound.Output)
}
