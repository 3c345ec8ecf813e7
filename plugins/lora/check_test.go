package lora

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

const q0 = peft.Prefix + "model.layers.0.self_attn.q_proj."

func adapterOf(config string, tensors ...*tensor.Tensor) *formats.Adapter {
	return &formats.Adapter{Path: "dir", Naming: formats.HF, Config: json.RawMessage(config), Tensors: tensors}
}

func TestCheck(t *testing.T) {
	a := tensor.FromFloats(q0+"lora_A.weight", []int{2, 3}, []float32{1, 2, 3, 4, 5, 6})
	b := tensor.FromFloats(q0+"lora_B.weight", []int{3, 2}, []float32{1, 2, 3, 4, 5, 6})
	nan := tensor.FromFloats(q0+"lora_B.weight", []int{3, 2}, []float32{1, 2, 3, float32(math.NaN()), 5, 6})
	inf := tensor.FromFloats(q0+"lora_A.weight", []int{2, 3}, []float32{1, 2, float32(math.Inf(-1)), 4, 5, 6})
	const head = `{"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]`
	cases := map[string]struct {
		a    *formats.Adapter
		is   error
		says string
	}{
		"whole":             {adapterOf(head+`}`, a, b), nil, ""},
		"NaN":               {adapterOf(head+`}`, a, nan), peft.ErrNotFinite, "dir: tensor " + q0 + "lora_B.weight[1, 1] is NaN"},
		"infinity":          {adapterOf(head+`}`, inf, b), peft.ErrNotFinite, q0 + "lora_A.weight[0, 2] is -Inf"},
		"no B":              {adapterOf(head+`}`, a), peft.ErrTensors, "no partner " + q0 + "lora_B.weight"},
		"no A":              {adapterOf(head+`}`, b), peft.ErrTensors, "no partner " + q0 + "lora_A.weight"},
		"layer_replication": {adapterOf(head+`, "layer_replication": [[0, 2]]}`, a, b), peft.ErrConfig, "dir: adapter_config.json: layer_replication is [[0,2]]: "},
		"target_parameters": {adapterOf(head+`, "target_parameters": ["x.weight"]}`, a, b), peft.ErrConfig, "merge it in PEFT"},
		"activated":         {adapterOf(head+`, "alora_invocation_tokens": [1]}`, a, b), peft.ErrConfig, "use it in PEFT"},
		"activated GGUF": {&formats.Adapter{Path: "x.gguf", Naming: formats.GGUF, Meta: formats.Meta{{Key: "adapter.type", Value: "lora"}, {Key: aloraKey, Value: []uint32{1}}}},
			peft.ErrConfig, "x.gguf: adapter.alora.invocation_tokens is [1]: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := peft.Check(c.a)
			if c.is == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestIgnored(t *testing.T) {
	a := adapterOf(`{"peft_type": "LORA", "r": 2, "new": 3, "off": false, "none": null, "megatron_core": "megatron.core", "velora_config": {"scale": 1},
		"eva_config": {"rho": 2, "zeta": 1}}`)
	var keys []string
	for _, k := range peft.Ignored(a) {
		require.Equal(t, "dir", k.Adapter)
		require.Equal(t, k.Key != "velora_config", k.Unknown, k.Key)
		keys = append(keys, k.Key)
	}
	require.Equal(t, []string{"eva_config.zeta", "new", "velora_config"}, keys)
}
