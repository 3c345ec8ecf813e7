package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/plugins/standard"
	"github.com/peftkit/peftkit/tensor"
)

// outputs is what a command line did.
type outputs struct {
	code        int
	out, errors string
}

// cli runs a command line in the process.
func cli(t *testing.T, args ...string) outputs {
	t.Helper()
	return cliInput(t, "", args...)
}

func cliInput(t *testing.T, input string, args ...string) outputs {
	t.Helper()
	var out, errs bytes.Buffer
	code := Execute(t.Context(), args, strings.NewReader(input), &out, &errs)
	return outputs{code, out.String(), errs.String()}
}

// ok runs a command line that must succeed and returns its standard output.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	o := cli(t, args...)
	require.Zero(t, o.code, "%v: %s", args, o.errors)
	return o.out
}

// jsonOf runs a command line with --json into v.
func jsonOf(t *testing.T, v any, args ...string) {
	t.Helper()
	out := ok(t, append(args, "--json")...)
	require.NoError(t, json.Unmarshal([]byte(out), v), out)
}

// write makes a file below a temporary folder.
func write(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o666))
	return path
}

// evenOdd is data that a small model learns fast.
func evenOdd(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"prompt\": \"%s %d is \", \"completion\": \"%s\"}\n", []string{"E", "O"}[i%2], i, []string{"even", "odd"}[i%2])
	}
	return b.String()
}

// geometry of a test model.
type geometry struct {
	hidden, inner, layers int
	template              string
}

// tiny writes a Hugging Face folder with a small seeded Llama whose tokens are
// ASCII characters.
func tiny(t *testing.T) string {
	t.Helper()
	return geometry{hidden: 32, inner: 64, layers: 2}.write(t)
}

func (g geometry) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	vocab := map[string]int{}
	for c := '!'; c <= '~'; c++ {
		vocab[string(c)] = len(vocab)
	}
	for _, s := range []string{"Ġ", "Ċ", "<eos>"} {
		vocab[s] = len(vocab)
	}
	text := func(v any) []byte {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return b
	}
	type m = map[string]any
	byteLevel := m{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	o := &formats.OutModel{
		Config: text(m{"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": g.hidden, "intermediate_size": g.inner,
			"num_hidden_layers": g.layers, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": len(vocab),
			"max_position_embeddings": 256, "tie_word_embeddings": true, "eos_token_id": vocab["<eos>"]}),
		Files: map[string][]byte{
			"tokenizer.json": text(m{"version": "1.0", "added_tokens": []m{{"id": vocab["<eos>"], "content": "<eos>", "special": true,
				"single_word": false, "lstrip": false, "rstrip": false, "normalized": false}}, "pre_tokenizer": byteLevel, "decoder": byteLevel,
				"model": m{"type": "BPE", "vocab": vocab, "merges": []string{}}}),
			"tokenizer_config.json": text(m{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>"}),
		},
	}
	if g.template != "" {
		o.Files["chat_template.jinja"] = []byte(g.template)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	add := func(name string, mean, sigma float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(mean + sigma*rng.NormFloat64())
		}
		b := make([]byte, 4*n)
		tensor.F32.Encode(b, v)
		o.Tensors = append(o.Tensors, formats.OutTensor{Name: name, Type: tensor.F32, Shape: shape,
			WriteTo: func(w io.Writer) error { _, err := w.Write(b); return err }})
	}
	h := g.hidden
	add("model.embed_tokens.weight", 0, 0.3, len(vocab), h)
	for l := range g.layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", 1, 0, h)
		add(p+"post_attention_layernorm.weight", 1, 0, h)
		add(p+"self_attn.q_proj.weight", 0, 0.2, h, h)
		add(p+"self_attn.k_proj.weight", 0, 0.2, h/2, h)
		add(p+"self_attn.v_proj.weight", 0, 0.2, h/2, h)
		add(p+"self_attn.o_proj.weight", 0, 0.2, h, h)
		add(p+"mlp.gate_proj.weight", 0, 0.2, g.inner, h)
		add(p+"mlp.up_proj.weight", 0, 0.2, g.inner, h)
		add(p+"mlp.down_proj.weight", 0, 0.2, h, g.inner)
	}
	add("model.norm.weight", 1, 0, h)
	f, err := formats.ByName("safetensors")
	require.NoError(t, err)
	require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), dir, o))
	return dir
}
