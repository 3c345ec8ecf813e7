package lora

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
)

func TestConformance(t *testing.T) {
	plain := testmodel.Default()
	untied := plain
	untied.Untied = true
	biased := plain
	biased.Bias = true
	pefttest.Run(t, Method, []pefttest.Case{
		{Name: "all linear", Model: plain, Options: peft.Options{"rank": 4}, Identity: true},
		{Name: "q and v", Model: plain, Options: peft.Options{"r": 2, "target_modules": "q_proj,v_proj"}, Identity: true},
		{Name: "rslora with patterns", Model: plain, Identity: true, Options: peft.Options{"rank": 4, "alpha": 3.0, "use_rslora": true,
			"rank_pattern": map[string]any{"layers.0.self_attn.q_proj": 2, "down_proj": 6}, "alpha_pattern": map[string]any{"up_proj": 9.0}}},
		{Name: "gaussian", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "gaussian"}, Identity: true},
		{Name: "both random", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": false}},
		{Name: "embedding", Model: untied, Options: peft.Options{"rank": 4, "target_modules": "embed_tokens,q_proj"}, Identity: true},
		{Name: "head", Model: untied, Options: peft.Options{"rank": 4, "target_modules": "lm_head,q_proj"}, Identity: true},
		{Name: "one layer", Model: plain, Options: peft.Options{"rank": 4, "layers_to_transform": 1, "target_modules": "q_proj"}, Identity: true},
		{Name: "regex", Model: plain, Options: peft.Options{"rank": 4, "target_modules": `regex:.*layers\.(?!0).*\.(q|k)_proj`}, Identity: true},
		{Name: "biases of the targets", Model: biased, Options: peft.Options{"rank": 4, "bias": "lora_only"}, Identity: true},
		{Name: "all biases", Model: biased, Options: peft.Options{"rank": 4, "bias": "all", "target_modules": "q_proj"}, Identity: true},
		{Name: "head saved in full", Model: untied, Options: peft.Options{"rank": 4, "modules_to_save": "lm_head"}, Identity: true},
		{Name: "gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4}, Identity: true},
		{Name: "bert", Model: testmodel.BERT(3), Options: peft.Options{"rank": 4}, Identity: true},
		{Name: "lora bias", Model: biased, Options: peft.Options{"rank": 4, "lora_bias": true, "target_modules": "q_proj,v_proj"}, Identity: true},
		{Name: "dora", Model: plain, Options: peft.Options{"rank": 4, "use_dora": true}, Identity: true, Hold: hold},
		{Name: "dora with biases", Model: biased, Options: peft.Options{"rank": 4, "use_dora": true, "use_rslora": true, "bias": "lora_only"}, Identity: true, Hold: hold},
		{Name: "dora on gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "use_dora": true}, Identity: true, Hold: hold},
		{Name: "dora on bert", Model: testmodel.BERT(3), Options: peft.Options{"rank": 4, "use_dora": true}, Identity: true, Hold: hold},
		{Name: "dora on an embedding", Model: untied, Options: peft.Options{"rank": 4, "use_dora": true, "target_modules": "embed_tokens,q_proj"}, Identity: true, Hold: hold},
		{Name: "dora on the head", Model: untied, Options: peft.Options{"rank": 4, "use_dora": true, "target_modules": "lm_head"}, Identity: true, Hold: hold},
		{Name: "pissa", Model: plain, Options: peft.Options{"rank": 4, "alpha": 6.0, "init_lora_weights": "pissa"}, Identity: true},
		{Name: "pissa as residual", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "pissa", "save_residual": true}, Identity: true},
		{Name: "pissa with patterns", Model: untied, Identity: true, Options: peft.Options{"rank": 4, "init_lora_weights": "pissa_niter_4", "use_rslora": true,
			"target_modules": "q_proj,v_proj,embed_tokens", "rank_pattern": map[string]any{"q_proj": 2}, "alpha_pattern": map[string]any{"v_proj": 3.0}}},
		{Name: "pissa with dora", Model: plain, Options: peft.Options{"rank": 4, "alpha": 4.0, "init_lora_weights": "pissa", "use_dora": true}, Identity: true, Hold: hold},
		{Name: "pissa residual with dora", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "pissa", "use_dora": true, "save_residual": true}, Identity: true, Hold: hold},
		{Name: "pissa on gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "init_lora_weights": "pissa", "save_residual": true}, Identity: true},
		{Name: "olora", Model: plain, Options: peft.Options{"rank": 4, "alpha": 2.0, "init_lora_weights": "olora"}, Identity: true},
		{Name: "olora as residual", Model: plain, Options: peft.Options{"rank": 4, "alpha": 4.0, "init_lora_weights": "olora", "save_residual": true}, Identity: true},
		{Name: "olora on gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "init_lora_weights": "olora"}, Identity: true},
		{Name: "olora on bert", Model: testmodel.BERT(3), Options: peft.Options{"rank": 4, "alpha": 4.0, "init_lora_weights": "olora", "save_residual": true}, Identity: true},
		{Name: "loftq", Model: plain, Options: peft.Options{"rank": 4, "alpha": 6.0, "init_lora_weights": "loftq"}},
		{Name: "loftq of 8 bits in two rounds", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "loftq", "loftq_config": map[string]any{"loftq_bits": 8, "loftq_iter": 2}}},
		{Name: "loftq on gpt2", Model: testmodel.GPT2(), Options: peft.Options{"rank": 4, "init_lora_weights": "loftq"}},
		{Name: "loftq with dora", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "loftq", "use_dora": true, "target_modules": "q_proj,down_proj"}, Hold: hold},
		{Name: "loftq on bert", Model: testmodel.BERT(3), Options: peft.Options{"rank": 4, "init_lora_weights": "loftq", "loftq_config": map[string]any{"loftq_iter": 3}}},
		{Name: "orthogonal", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "orthogonal"}, Identity: true},
		{Name: "mica", Model: untied, Options: peft.Options{"rank": 4, "init_lora_weights": "mica", "target_modules": "embed_tokens,q_proj,down_proj"}, Identity: true},
		{Name: "eva before it saw data", Model: plain, Options: peft.Options{"rank": 4, "init_lora_weights": "eva"}, Identity: true},
		{Name: "lora-fa", Model: plain, Options: peft.Options{"rank": 4, "lora_fa": true}, Identity: true},
		{Name: "lora+", Model: plain, Options: peft.Options{"rank": 4, "loraplus_lr_ratio": 16.0}, Identity: true},
		{Name: "tokens", Model: plain, Options: peft.Options{"rank": 4, "trainable_token_indices": []any{3, 10, 1}}, Identity: true},
		{Name: "tokens of an untied embedding", Model: untied, Options: peft.Options{"rank": 4, "trainable_token_indices": map[string]any{"embed_tokens": []any{3, 10}}}, Identity: true},
		{Name: "tokens of both embeddings", Model: untied, Options: peft.Options{"rank": 4, "use_dora": true, "target_modules": "q_proj", "trainable_token_indices": map[string]any{"embed_tokens": []any{3, 10}, "lm_head": []any{4}}}, Identity: true, Hold: hold},
		{Name: "tokens of bert", Model: testmodel.BERT(3), Options: peft.Options{"rank": 4, "trainable_token_indices": []any{3, 10}}, Identity: true},
		{Name: "tied head saved in full", Model: plain, Options: peft.Options{"rank": 4, "modules_to_save": "lm_head"}, Identity: true},
	})
}

// hold keeps DoRA's norms, which are constants of the gradient, where they are.
func hold(ad peft.Adapter) {
	for _, s := range ad.(*adapter).cfg.sites {
		s.norms.held = true
	}
}

func TestOptions(t *testing.T) {
	cases := map[string]struct {
		o    peft.Options
		want error
		says string
	}{
		"unknown":          {peft.Options{"rnk": 4}, peft.ErrConfig, `did you mean "rank"?`},
		"twice":            {peft.Options{"rank": 4, "r": 8}, peft.ErrConfig, "same option"},
		"rank zero":        {peft.Options{"rank": 0}, peft.ErrConfig, "r is 0"},
		"dropout":          {peft.Options{"dropout": 1.0}, peft.ErrConfig, "lora_dropout"},
		"no such module":   {peft.Options{"target_modules": "qq_proj"}, peft.ErrNoMatch, "q_proj"},
		"one of two":       {peft.Options{"target_modules": "q_proj,query"}, peft.ErrNoMatch, `"query"`},
		"norm":             {peft.Options{"target_modules": "input_layernorm"}, peft.ErrConfig, "modules_to_save"},
		"no biases":        {peft.Options{"bias": "all"}, peft.ErrNoFit, "no biases"},
		"corda":            {peft.Options{"init_lora_weights": "corda"}, peft.ErrConfig, "init_lora_weights"},
		"odd":              {peft.Options{"init_lora_weights": "orthogonal", "rank": 3}, peft.ErrConfig, "even"},
		"pissa rank":       {peft.Options{"init_lora_weights": "pissa", "rank": 4096}, peft.ErrConfig, "exceeds"},
		"pissa scale":      {peft.Options{"init_lora_weights": "pissa", "alpha": 0.0}, peft.ErrConfig, "positive"},
		"dora and bias":    {peft.Options{"use_dora": true, "lora_bias": true}, peft.ErrConfig, "lora_bias"},
		"fa and tokens":    {peft.Options{"lora_fa": true, "target_modules": "embed_tokens"}, peft.ErrConfig, "lora_fa"},
		"token twice":      {peft.Options{"trainable_token_indices": []any{3, 3}}, peft.ErrConfig, "twice"},
		"token beyond":     {peft.Options{"trainable_token_indices": []any{1 << 20}}, peft.ErrConfig, "token 1048576"},
		"tokens nowhere":   {peft.Options{"trainable_token_indices": map[string]any{"wte": []any{3}}}, peft.ErrNoMatch, "wte"},
		"tokens of target": {peft.Options{"target_modules": "embed_tokens", "trainable_token_indices": []any{3}}, peft.ErrConfig, "target_modules"},
		"ratio":            {peft.Options{"loraplus_lr_ratio": -1.0}, peft.ErrConfig, "loraplus_lr_ratio"},
		"bad pattern":      {peft.Options{"rank_pattern": map[string]any{"q_proj": 1.5}}, peft.ErrConfig, "rank_pattern"},
		"bad expression":   {peft.Options{"target_modules": "regex:(("}, peft.ErrConfig, "regular expression"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Method.New(openModel(t), c.o, 1)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func openModel(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// What this build does not compute must be refused, never skipped.
func TestRefusesWhatItDoesNotCompute(t *testing.T) {
	for _, cfg := range []string{
		`{"peft_type":"LORA","layer_replication":[[0,1]]}`, `{"peft_type":"LORA","target_parameters":["x"]}`,
		`{"peft_type":"LORA","alora_invocation_tokens":[1]}`, `{"peft_type":"LORA","use_qalora":true}`,
		`{"peft_type":"LORA","arrow_config":{}}`, `{"peft_type":"LORA","kasa_config":{}}`, `{"peft_type":"LORA","use_bdlora":{}}`,
		`{"peft_type":"LORA","monteclora_config":{}}`,
		`{"peft_type":"LORA","init_lora_weights":"pissa_niter_4"}`, `{"peft_type":"LORA","init_lora_weights":"corda"}`,
		`{"peft_type":"LORA","init_lora_weights":"lora_ga"}`,
	} {
		_, err := Method.Load(openModel(t), &formats.Adapter{Path: "a", Config: []byte(cfg)}, 1)
		require.ErrorIs(t, err, peft.ErrConfig, cfg)
	}
}

// A preset is LoRA with other defaults: its files are LoRA's.
func TestPresets(t *testing.T) {
	for _, p := range presets {
		t.Run(p.name, func(t *testing.T) {
			m, err := peft.ByName(p.name)
			require.NoError(t, err)
			info := m.Info()
			require.Equal(t, "lora", info.Preset)
			require.Equal(t, "LORA", info.PeftType)
			require.NotEqual(t, Method.Info().Doc, info.Doc)
			for key, v := range p.options {
				i := slices.IndexFunc(info.Options, func(o peft.Option) bool { return o.Key == key })
				require.GreaterOrEqual(t, i, 0, key)
				require.Equal(t, v, info.Options[i].Default, key)
			}
		})
	}
	m, err := peft.ByPeftType("LORA")
	require.NoError(t, err)
	require.Equal(t, "lora", m.Info().Name)
	pefttest.Run(t, presetMethod(t, "dora"), []pefttest.Case{{Name: "dora", Identity: true, Hold: hold}})
	pefttest.Run(t, presetMethod(t, "rslora"), []pefttest.Case{{Name: "rslora", Identity: true}})
}

func presetMethod(t *testing.T, name string) peft.Method {
	m, err := peft.ByName(name)
	require.NoError(t, err)
	return m
}
