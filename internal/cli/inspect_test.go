package cli

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
)

// sparseGGUF writes the header of a Llama of eight layers of float16, and a hole
// of several gigabytes where the numbers belong.
func sparseGGUF(t *testing.T) (path string, size int64) {
	t.Helper()
	var b []byte
	u32 := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	u64 := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	text := func(s string) { u64(uint64(len(s))); b = append(b, s...) }
	const hidden, inner, layers, vocab = 4096, 11008, 8, 32000
	type tensor struct {
		name string
		dims []uint64
	}
	list := []tensor{{"token_embd.weight", []uint64{hidden, vocab}}, {"output_norm.weight", []uint64{hidden}}, {"output.weight", []uint64{hidden, vocab}}}
	for l := range layers {
		p := "blk." + string(rune('0'+l)) + "."
		list = append(list, tensor{p + "attn_norm.weight", []uint64{hidden}}, tensor{p + "ffn_norm.weight", []uint64{hidden}},
			tensor{p + "ffn_gate.weight", []uint64{hidden, inner}}, tensor{p + "ffn_up.weight", []uint64{hidden, inner}}, tensor{p + "ffn_down.weight", []uint64{inner, hidden}})
		for _, n := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			list = append(list, tensor{p + n + ".weight", []uint64{hidden, hidden}})
		}
	}
	b = append(b, "GGUF"...)
	u32(3)
	u64(uint64(len(list)))
	u64(10)
	str := func(k, v string) { text(k); u32(8); text(v) }
	num := func(k string, v uint32) { text(k); u32(4); u32(v) }
	str("general.architecture", "llama")
	num("llama.block_count", layers)
	num("llama.embedding_length", hidden)
	num("llama.feed_forward_length", inner)
	num("llama.attention.head_count", 32)
	num("llama.attention.head_count_kv", 32)
	num("llama.context_length", 4096)
	text("llama.attention.layer_norm_rms_epsilon")
	u32(6)
	u32(0x3727c5ac) // 1e-5
	text("tokenizer.ggml.tokens")
	u32(9)
	u32(8)
	u64(vocab)
	for i := range vocab {
		text("token" + string(rune('a'+i%26)))
	}
	str("tokenizer.ggml.model", "llama")
	var at uint64
	for _, x := range list {
		text(x.name)
		u32(uint32(len(x.dims)))
		n, kind := uint64(1), uint32(1) // float16
		for _, d := range x.dims {
			u64(d)
			n *= d
		}
		bytes := 2 * n
		if len(x.dims) == 1 {
			kind, bytes = 0, 4*n
		}
		u32(kind)
		u64(at)
		at += (bytes + 31) / 32 * 32
	}
	size = int64((uint64(len(b))+31)/32*32 + at)
	path = filepath.Join(t.TempDir(), "big.gguf")
	require.NoError(t, os.WriteFile(path, b, 0o666))
	if err := os.Truncate(path, size); err != nil {
		t.Skipf("no sparse files here: %v", err)
	}
	return path, size
}

// A file of gigabytes is looked at by its header alone. Reading its numbers
// would take seconds; the bound leaves room for a busy machine.
func TestInspectBigFile(t *testing.T) {
	path, size := sparseGGUF(t)
	require.Greater(t, size, int64(3e9))
	for _, flags := range [][]string{nil, {"--modules", "--tensors", "--metadata"}} {
		began := time.Now()
		out := ok(t, append([]string{"inspect", path}, flags...)...)
		took := time.Since(began)
		t.Logf("%v: %v for %s", flags, took, bytesText(size))
		require.Less(t, took, time.Second)
		require.Contains(t, out, "llama")
		require.Contains(t, out, "8 layers")
		require.Contains(t, out, bytesText(size))
	}
}

func TestInspectModel(t *testing.T) {
	model := tiny(t)
	out := ok(t, "inspect", model)
	require.Contains(t, out, "safetensors model, 4 files")
	require.Contains(t, out, "2 layers, hidden 32")
	require.Contains(t, out, "tokenizer.json, no chat template")
	require.Regexp(t, `F32 +20 +21.7 k`, out)

	out = ok(t, "inspect", model, "--modules")
	require.Contains(t, out, "model.layers.*.self_attn.q_proj")
	require.Contains(t, out, "--target-modules q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj")
	require.Contains(t, ok(t, "inspect", model, "--tensors"), "model.layers.1.mlp.down_proj.weight")
	require.Contains(t, ok(t, "inspect", model, "--metadata"), `"hidden_size": 32`)
	require.Equal(t, "32\n", ok(t, "inspect", model, "--get", "hidden_size"))

	file := filepath.Join(model, "model.safetensors")
	require.Contains(t, ok(t, "inspect", file), "safetensors file, 1 file")

	gguf := filepath.Join(t.TempDir(), "m.gguf")
	ok(t, "convert", model, "-o", gguf, "-q", "q8_0")
	var i inspection
	jsonOf(t, &i, "inspect", gguf)
	require.Equal(t, "gguf", i.Format)
	require.Equal(t, int64(21696), i.Parameters)
	require.Equal(t, "Q8_0", i.Types[0].Type)
	for _, m := range i.Metadata {
		if m.Key == "tokenizer.ggml.tokens" {
			require.Nil(t, m.Value)
			require.Equal(t, 97, m.Length)
		}
	}
	var tokens []string
	require.NoError(t, json.Unmarshal([]byte(ok(t, "inspect", gguf, "--get", "tokenizer.ggml.tokens")), &tokens))
	require.Len(t, tokens, 97)
}

// The chat templates beside the default are named, wherever they are stored.
func TestInspectNamedTemplates(t *testing.T) {
	model := geometry{hidden: 32, inner: 64, layers: 1, template: "{{ messages[0].content }}"}.write(t)
	require.Contains(t, ok(t, "inspect", model), "tokenizer.json, chat template\n")
	folder := filepath.Join(model, "additional_chat_templates")
	require.NoError(t, os.Mkdir(folder, 0o777))
	for _, name := range []string{"tool_use", "rag"} {
		write(t, filepath.Join(folder, name+".jinja"), "{{ tools }}")
	}
	gguf := filepath.Join(t.TempDir(), "m.gguf")
	ok(t, "convert", model, "-o", gguf)
	for _, path := range []string{model, gguf} {
		require.Regexp(t, `chat template, others: rag,\s+tool_use\n`, ok(t, "inspect", path))
		var i inspection
		jsonOf(t, &i, "inspect", path)
		require.Equal(t, true, i.Facts["chat_template"])
		require.Equal(t, []any{"rag", "tool_use"}, i.Facts["chat_templates"])
	}

	none := tiny(t)
	write(t, filepath.Join(none, "tokenizer_config.json"), `{"chat_template": null}`)
	require.Contains(t, ok(t, "inspect", none), "no chat template")
	write(t, filepath.Join(none, "tokenizer_config.json"), `{"chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}`)
	require.Contains(t, ok(t, "inspect", none), "chat template, others: tool_use")
}

func TestInspectRealFiles(t *testing.T) {
	out := ok(t, "inspect", testdata.Dir(t, "adapters", "smollm-medical"))
	require.Contains(t, out, "peft adapter")
	require.Contains(t, out, "HuggingFaceTB/SmolLM-135M-Instruct")
	require.Regexp(t, `lora_alpha +32`, out)
	require.Contains(t, ok(t, "inspect", testdata.Dir(t, "models", "stories260K", "stories260K.bin")), "llama2c model")
	// A model of a family that cannot be computed can still be looked at.
	files, err := filepath.Glob(testdata.Dir(t, "tokenizers", "ggml-vocab") + "/*.gguf")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		out := ok(t, "inspect", f)
		require.Contains(t, out, "tokens", f)
	}
}

func TestMetaText(t *testing.T) {
	for _, tt := range []struct {
		v          any
		kind, text string
	}{
		{uint32(7), "u32", "7"},
		{float32(1e-5), "f32", "1e-05"},
		{"plain", "str", "plain"},
		{"two\nlines", "str", `"two\nlines"`},
		{[]string{"a", "b"}, "[str]", `"a", "b"`},
		{[]int32{1, 2, 3, 4, 5}, "[i32]", "5: 1, 2, 3, 4, …"},
		{true, "bool", "true"},
		{[]any{"q_proj", "v_proj"}, "[any]", "q_proj, v_proj"},
	} {
		require.Equal(t, tt.kind, metaType(tt.v))
		require.Equal(t, tt.text, valueText(tt.v))
	}
}

func TestGroupNames(t *testing.T) {
	got := groupNames([]string{"a.0.b", "a.1.b", "a.x", "a.2.b"}, func(s string) (string, string) { return s, "" })
	var text []string
	for _, g := range got {
		text = append(text, g.name)
	}
	require.Equal(t, "a.*.b a.x", strings.Join(text, " "))
	require.Equal(t, 3, got[0].count)
}
