package train

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/formats/hfpeft"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/llama"
	"github.com/peftkit/peftkit/peft"
	_ "github.com/peftkit/peftkit/plugins/lora"
	"github.com/peftkit/peftkit/tensor"
)

const (
	tinyVocab  = 61
	tinyHidden = 32
	tinyFF     = 48
	tinyLayers = 2
)

// tinyModel builds a Llama of random weights in memory.
func tinyModel(t testing.TB, seed uint64) *model.Model {
	t.Helper()
	config, err := json.Marshal(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama",
		"hidden_size": tinyHidden, "intermediate_size": tinyFF, "num_hidden_layers": tinyLayers, "num_attention_heads": 4,
		"num_key_value_heads": 2, "vocab_size": tinyVocab, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
		"rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu",
	})
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &formats.Model{Path: "tiny", Format: "memory", Naming: formats.HF, Config: config}
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			if len(shape) == 1 {
				v[i] = 1 + 0.1*float32(rng.NormFloat64())
			} else {
				v[i] = float32(rng.NormFloat64() / math.Sqrt(float64(shape[1])))
			}
		}
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, shape, v))
	}
	add("model.embed_tokens.weight", tinyVocab, tinyHidden)
	for l := range tinyLayers {
		p := fmt.Sprintf("model.layers.%d.", l)
		for _, x := range []struct {
			name    string
			out, in int
		}{
			{"self_attn.q_proj", tinyHidden, tinyHidden}, {"self_attn.k_proj", tinyHidden / 2, tinyHidden}, {"self_attn.v_proj", tinyHidden / 2, tinyHidden},
			{"self_attn.o_proj", tinyHidden, tinyHidden}, {"mlp.gate_proj", tinyFF, tinyHidden}, {"mlp.up_proj", tinyFF, tinyHidden}, {"mlp.down_proj", tinyHidden, tinyFF},
		} {
			add(p+x.name+".weight", x.out, x.in)
		}
		add(p+"input_layernorm.weight", tinyHidden)
		add(p+"post_attention_layernorm.weight", tinyHidden)
	}
	add("model.norm.weight", tinyHidden)
	c, err := model.FromFile(m)
	require.NoError(t, err)
	net, err := model.Build(c, model.Options{})
	require.NoError(t, err)
	return net
}

// tinyLoRA attaches LoRA to a fresh tiny model.
func tinyLoRA(t testing.TB, dropout float64) (*model.Model, peft.Adapter) {
	t.Helper()
	m := tinyModel(t, 7)
	method, err := peft.ByName("lora")
	require.NoError(t, err)
	ad, err := method.New(m, peft.Options{"r": 4, "lora_alpha": 8.0, "lora_dropout": dropout}, 3)
	require.NoError(t, err)
	return m, ad
}

// tinyData makes n sequences that count upwards in steps, the first tokens untrained.
func tinyData(n int) *data.Dataset {
	rng := rand.New(rand.NewPCG(5, 5))
	d := &data.Dataset{MaxSeqLen: 24}
	for i := range n {
		length := 4 + rng.IntN(16)
		at, by := rng.IntN(tinyVocab), 1+rng.IntN(4)
		ex := data.Example{File: "tiny.jsonl", Line: i + 1}
		for j := range length {
			id := int32((at + j*by) % tinyVocab)
			ex.Tokens = append(ex.Tokens, id)
			if j < 2 {
				id = data.Ignore
			}
			ex.Labels = append(ex.Labels, id)
		}
		d.Examples = append(d.Examples, ex)
	}
	return d
}

// paramBits returns all parameters of an adapter as bits, to compare exactly.
func paramBits(ad peft.Adapter) []uint32 {
	var out []uint32
	for _, p := range ad.Params() {
		for _, v := range p.V.Data {
			out = append(out, math.Float32bits(v))
		}
	}
	return out
}
