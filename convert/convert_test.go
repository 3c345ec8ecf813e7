package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// logits runs the model on the first tokens of a text.
func logits(t *testing.T, path string) []float32 {
	t.Helper()
	m, err := model.Load(path, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	return modelLogits(m)
}

func modelLogits(m *model.Model) []float32 {
	tape := nn.NewTape()
	defer tape.Close()
	v := m.Logits(tape, model.Sequence([]int32{1, 403, 407, 261, 378, 432}, 0), nil)
	return slices.Clone(v.Data[:v.Rows*v.Cols])
}

// The real model goes through all formats and comes back with the same bytes
// and the same logits.
func TestStoriesRoundTrip(t *testing.T) {
	bin := stories(t)
	gguf, r := convertTo(t, bin, "a.gguf", "")
	require.Equal(t, "llama2c", r.From)
	require.Equal(t, "gguf", r.To)
	require.Equal(t, "llama", r.Family)
	require.Equal(t, r.Tensors, r.Copied)
	requireSameTensors(t, bin, gguf)
	hf, _ := convertTo(t, gguf, "hf", "")
	back, _ := convertTo(t, hf, "b.gguf", "")
	requireSameTensors(t, gguf, back)
	hf2, _ := convertTo(t, back, "hf2", "")
	requireSameTensors(t, hf, hf2)
	want := logits(t, bin)
	for _, p := range []string{gguf, hf, back, hf2} {
		require.Equal(t, want, logits(t, p), p)
	}
	// The tokenizer survives, too (scores and types are as convert_hf_to_gguf.py
	// makes them).
	for _, key := range []string{"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"} {
		require.Equal(t, raw(t, gguf).Meta.Get(key), raw(t, back).Meta.Get(key), key)
	}
}

// HF -> GGUF -> HF gives identical bytes in every plain type: rows are moved and
// moved back, norms widened and narrowed back.
func TestFolderRoundTrip(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	for _, typ := range []string{"f32", "f16", "bf16"} {
		t.Run(typ, func(t *testing.T) {
			a, _ := convertTo(t, hf, "a", typ)
			g, r := convertTo(t, a, "g.gguf", "")
			require.Equal(t, 11, r.Types["F32"]-map[string]int{"f32": 36}[typ], "norms are F32")
			b, _ := convertTo(t, g, "b", "")
			requireSameTensors(t, a, b)
			require.Contains(t, string(raw(t, b).Config), torchNames[mustType(t, typ)])
			if typ != "f32" { // keep leaves the widened norms as they are
				c, _ := convertTo(t, g, "c", "keep")
				n := 0
				for _, u := range raw(t, c).Tensors {
					if u.Type == tensor.F32 {
						n++
					}
				}
				require.Equal(t, 11, n)
			}
		})
	}
}

func mustType(t *testing.T, name string) *tensor.DType {
	d, err := tensor.ByName(name)
	require.NoError(t, err)
	return d
}

// Every output type holds exactly what its encoder makes of the decoded source.
func TestTypes(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	source := logical(t, hf)
	for _, c := range []struct {
		typ      string
		matrices int // of the type asked for
		fileType int64
		note     string
	}{
		{"f32", 36, 0, ""},
		{"f16", 36, 1, ""},
		{"bf16", 36, 32, ""},
		{"q8_0", 31, 7, "F16 instead of Q8_0"}, // ffn_down has rows of 172
		{"q4_0", 30, 2, "kept in Q8_0"},
		{"q4_1", 30, 3, "kept in Q8_0"},
	} {
		t.Run(c.typ, func(t *testing.T) {
			g, r := convertTo(t, hf, "g.gguf", c.typ)
			want := mustType(t, c.typ)
			m := raw(t, g)
			ft, _ := m.Meta.Int("general.file_type")
			require.Equal(t, c.fileType, ft)
			n := 0
			for _, u := range m.Tensors {
				switch {
				case len(u.Shape) == 1:
					require.Equal(t, tensor.F32, u.Type, u.Name)
				case want.Quantised() && strings.Contains(u.Name, "ffn_down"):
					require.Equal(t, tensor.F16, u.Type, u.Name)
				case strings.HasPrefix(c.typ, "q4") && u.Name == "token_embd.weight":
					require.Equal(t, tensor.Q8_0, u.Type)
				default:
					require.Equal(t, want, u.Type, u.Name)
					n++
				}
			}
			require.Equal(t, c.matrices, n)
			require.Equal(t, r.Tensors, r.Copied+r.Reencoded)
			if c.note != "" {
				require.Contains(t, strings.Join(r.Notes, "\n"), c.note)
			}
			got := logical(t, g)
			for _, e := range open(t, g).Entries {
				k := e.HF + "|" + e.GGUF
				require.Equal(t, rounded(e.T.Type, source[k]), got[k], k)
			}
			// To a folder: decoded to float32, or rounded to what was asked for.
			back, _ := convertTo(t, g, "back", "f32")
			require.Equal(t, got, logical(t, back))
			if want.Quantised() {
				auto, r := convertTo(t, g, "auto", "")
				require.Contains(t, strings.Join(r.Notes, "\n"), "written as F32")
				require.Contains(t, r.Types, "F32")
				for k, v := range logical(t, auto) {
					require.Equal(t, got[k], v, k)
				}
			}
			// The same type again copies everything.
			again, r2 := convertTo(t, g, "again.gguf", c.typ)
			require.Equal(t, r2.Tensors, r2.Copied, r2.Notes)
			requireSameTensors(t, g, again)
			require.Equal(t, m.Meta, raw(t, again).Meta)
		})
	}
	q, _ := convertTo(t, hf, "q.gguf", "q8_0")
	_, r := convertTo(t, q, "r.gguf", "q4_0")
	require.Contains(t, strings.Join(r.Notes, "\n"), "quantised again, from Q8_0 to Q4_0")
	require.Contains(t, strings.Join(r.Notes, "\n"), "general.file_type: 7 -> 2")
}

// A GGUF file that is only copied keeps its metadata and order.
func TestGGUFKeepsMetadata(t *testing.T) {
	g, _ := convertTo(t, stories(t), "a.gguf", "")
	m := raw(t, g)
	out := &formats.OutModel{Meta: append(formats.Meta{}, m.Meta...), Tensors: formats.Copy(m.Tensors)}
	out.Meta.Set("general.license", "mit")
	out.Meta.Set("mine.list", []string{"a", "b"})
	custom := filepath.Join(t.TempDir(), "c.gguf")
	writeModel(t, "gguf", custom, out)
	kept, r := convertTo(t, custom, "k.gguf", "")
	require.Equal(t, r.Tensors, r.Copied)
	a, err := os.ReadFile(custom)
	require.NoError(t, err)
	b, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b), "a copy is the same file")
	_, r = convertTo(t, custom, "hf", "")
	require.Contains(t, strings.Join(r.Notes, "\n"), "general.license")
}

// A large real model: Q4_1 -> folder -> F32 GGUF holds the decoded values.
func TestSmolLM2(t *testing.T) {
	src := testdata.SmolLM2(t)
	hf, _ := convertTo(t, src, "hf", "")
	g, _ := convertTo(t, hf, "g.gguf", "")
	a, b := raw(t, src), raw(t, g)
	byName := map[string]*tensor.Tensor{}
	for _, u := range b.Tensors {
		byName[u.Name] = u
	}
	require.Len(t, b.Tensors, len(a.Tensors))
	for _, u := range a.Tensors {
		v := byName[u.Name]
		require.NotNil(t, v, u.Name)
		rows, cols := u.Rows(), u.Cols()
		x, y := make([]float32, cols), make([]float32, cols)
		for r := range rows {
			require.NoError(t, u.Floats(x, r, r+1))
			require.NoError(t, v.Floats(y, r, r+1))
			if !equal(x, y) {
				t.Fatalf("%s row %d differs", u.Name, r)
			}
		}
	}
}

func equal(x, y []float32) bool {
	for i := range x {
		if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
			return false
		}
	}
	return true
}

// What a Hugging Face folder says besides weights stays as it is.
func TestFolderKeepsFiles(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	m := raw(t, hf)
	out := &formats.OutModel{Config: json.RawMessage(strings.Replace(string(m.Config), "{", `{"z_unknown": {"b": 1.50, "a": [1,2]}, `, 1)), Files: m.Files, Tensors: formats.Copy(m.Tensors)}
	dir := filepath.Join(t.TempDir(), "src")
	writeModel(t, "safetensors", dir, out)
	same, _ := convertTo(t, dir, "same", "")
	require.Equal(t, string(out.Config), string(raw(t, same).Config))
	require.Equal(t, m.Files, raw(t, same).Files)
	half, _ := convertTo(t, dir, "half", "bf16")
	o, err := parseObject(raw(t, half).Config)
	require.NoError(t, err)
	require.Equal(t, "z_unknown", o[0].key)
	require.Contains(t, string(o[0].value), "1.50")
	require.Equal(t, "bfloat16", o.str("torch_dtype"))
}

// A folder that ties its head but stores it loses the copy, whichever way.
func TestTiedCopyIsLeftOut(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	m := raw(t, hf)
	out := &formats.OutModel{Config: m.Config, Files: m.Files, Tensors: formats.Copy(m.Tensors)}
	for _, u := range out.Tensors {
		if u.Name == "model.embed_tokens.weight" {
			u.Name = "lm_head.weight"
			out.Tensors = append(out.Tensors, u)
		}
	}
	dir := filepath.Join(t.TempDir(), "src")
	writeModel(t, "safetensors", dir, out)
	for _, name := range []string{"a.gguf", "b"} {
		p, r := convertTo(t, dir, name, "")
		require.Contains(t, strings.Join(r.Notes, "\n"), "lm_head.weight: left out")
		require.Len(t, raw(t, p).Tensors, len(m.Tensors))
	}
}

func TestProgressAndCancel(t *testing.T) {
	src := stories(t)
	for _, name := range []string{"out.gguf", "out"} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), name)
			var last, total int64
			r, err := Model(context.Background(), src, dst, Options{Progress: func(d, n int64, tensor string) {
				require.Greater(t, d, last)
				require.NotEmpty(t, tensor)
				last, total = d, n
			}})
			require.NoError(t, err)
			require.Equal(t, r.Bytes, last)
			require.Equal(t, total, last)

			dst = filepath.Join(t.TempDir(), name)
			ctx, cancel := context.WithCancel(context.Background())
			_, err = Model(ctx, src, dst, Options{Type: "f16", Progress: func(d, n int64, _ string) {
				if d > n/2 {
					cancel()
				}
			}})
			require.ErrorIs(t, err, context.Canceled)
			requireNothing(t, dst)
			_, err = Model(ctx, src, dst, Options{})
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

// An existing output is replaced as a whole or left as it was.
func TestReplaceOutput(t *testing.T) {
	src := stories(t)
	dst := filepath.Join(t.TempDir(), "m.gguf")
	require.NoError(t, os.WriteFile(dst, []byte("old"), 0o666))
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Model(ctx, src, dst, Options{Progress: func(int64, int64, string) { cancel() }})
	require.Error(t, err)
	b, _ := os.ReadFile(dst)
	require.Equal(t, "old", string(b))
	_, err = Model(context.Background(), src, dst, Options{})
	require.NoError(t, err)
	requireSameTensors(t, src, dst)
}
