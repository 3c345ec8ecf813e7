package main

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

	"github.com/peftkit/peftkit/command"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// TestWholePath runs the built program's command line: the new method trains, its
// adapter goes through the new format, and merges.
func TestWholePath(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }

	var list struct {
		Formats, Methods []struct{ Name string }
	}
	if err := json.Unmarshal(peftkit(t, "plugins", "--json"), &list); err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprint(list); !strings.Contains(s, "{onefile}") || !strings.Contains(s, "{outscale}") {
		t.Fatalf("plugins: %s", s)
	}

	tinyModel(t, in("model"))
	var lines strings.Builder
	for i := range 64 {
		fmt.Fprintf(&lines, `{"prompt": "%d is ", "completion": "%s"}`+"\n", i, []string{"even", "odd"}[i%2])
	}
	if err := os.WriteFile(in("data.jsonl"), []byte(lines.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	peftkit(t, "train", "-m", in("model"), "-d", in("data.jsonl"), "-o", in("adapter"), "--method", "outscale",
		"--target-modules", "v_proj,down_proj", "--lr", "0.05", "--epochs", "4", "--grad-accum", "1", "--max-seq-len", "64")

	peftkit(t, "convert", in("adapter"), "-o", in("my.adapter"), "--to", "onefile")
	peftkit(t, "merge-lora", "-m", in("model"), "--lora", in("my.adapter"), "-o", in("merged"))

	before := loss(t, "-m", in("model"), "-d", in("data.jsonl"))
	after := loss(t, "-m", in("model"), "-d", in("data.jsonl"), "--lora", in("my.adapter"))
	merged := loss(t, "-m", in("merged"), "-d", in("data.jsonl"))
	t.Logf("loss %.4f before, %.4f after, %.4f merged", before, after, merged)
	if after > before-0.1 {
		t.Error("training changed little")
	}
	// A loss of 3 over float32 logits of some hundred roundings: 4*sqrt(100)*2^-24*3 is 7e-6
	// for each side. 1e-4 is ten times that.
	if d := after - merged; d > 1e-4 || d < -1e-4 {
		t.Error("the merged model differs from model and adapter")
	}
}

// peftkit runs one command line and returns its standard output.
func peftkit(t *testing.T, args ...string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	if code := command.Execute(context.Background(), args, &out, &errs); code != 0 {
		t.Fatalf("peftkit %s: exit %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	return out.Bytes()
}

func loss(t *testing.T, args ...string) float64 {
	t.Helper()
	var r struct{ Loss float64 }
	if err := json.Unmarshal(peftkit(t, append([]string{"eval", "--json"}, args...)...), &r); err != nil {
		t.Fatal(err)
	}
	return r.Loss
}

// tinyModel writes a Llama of two layers with random weights and a tokenizer of
// single ASCII characters.
func tinyModel(t *testing.T, dir string) {
	vocab := map[string]int{}
	for c := '!'; c <= '~'; c++ {
		vocab[string(c)] = len(vocab)
	}
	for _, s := range []string{"Ġ", "Ċ", "<eos>"} {
		vocab[s] = len(vocab)
	}
	file := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type m = map[string]any
	byteLevel := m{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	const hidden, inner = 32, 64
	o := &formats.OutModel{
		Config: file(m{"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
			"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": len(vocab),
			"max_position_embeddings": 128, "tie_word_embeddings": true, "eos_token_id": vocab["<eos>"]}),
		Files: map[string][]byte{
			"tokenizer.json": file(m{"version": "1.0", "added_tokens": []m{{"id": vocab["<eos>"], "content": "<eos>", "special": true,
				"single_word": false, "lstrip": false, "rstrip": false, "normalized": false}}, "pre_tokenizer": byteLevel, "decoder": byteLevel,
				"model": m{"type": "BPE", "vocab": vocab, "merges": []string{}}}),
			"tokenizer_config.json": file(m{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>"}),
		},
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
	add("model.embed_tokens.weight", 0, 0.3, len(vocab), hidden)
	for l := range 2 {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", 1, 0, hidden)
		add(p+"post_attention_layernorm.weight", 1, 0, hidden)
		add(p+"self_attn.q_proj.weight", 0, 0.2, hidden, hidden)
		add(p+"self_attn.k_proj.weight", 0, 0.2, hidden/2, hidden)
		add(p+"self_attn.v_proj.weight", 0, 0.2, hidden/2, hidden)
		add(p+"self_attn.o_proj.weight", 0, 0.2, hidden, hidden)
		add(p+"mlp.gate_proj.weight", 0, 0.2, inner, hidden)
		add(p+"mlp.up_proj.weight", 0, 0.2, inner, hidden)
		add(p+"mlp.down_proj.weight", 0, 0.2, hidden, inner)
	}
	add("model.norm.weight", 1, 0, hidden)
	f, err := formats.ByName("safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.(formats.ModelWriter).WriteModel(context.Background(), dir, o); err != nil {
		t.Fatal(err)
	}
}
