package convert

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
)

// ggufOf writes a model as llama.cpp's converter does, without the code under
// test, with a tokenizer of 48 single characters.
func ggufOf(t *testing.T, s testmodel.Source) string {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	meta, _, err := ck.Family.GGUFMeta(ck)
	require.NoError(t, err)
	names, err := ck.Family.GGUFNames(ck.Config)
	require.NoError(t, err)
	var tokens []string
	for i := range 48 {
		tokens = append(tokens, string(rune('!'+i)))
	}
	for _, kv := range []formats.KV{
		{Key: "tokenizer.ggml.model", Value: "gpt2"}, {Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens}, {Key: "tokenizer.ggml.merges", Value: []string{}},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)}, {Key: "tokenizer.ggml.eos_token_id", Value: uint32(2)},
	} {
		meta.Set(kv.Key, kv.Value)
	}
	var out []*tensor.Tensor
	for _, e := range ck.Entries {
		v, err := e.T.AllFloats()
		require.NoError(t, err)
		shape, mod := e.T.Shape, trimParameter(e.HF)
		if strings.HasSuffix(e.HF, ".weight") && names.Transposed[mod] {
			turned := make([]float32, len(v))
			for i := range v {
				turned[i%shape[1]*shape[0]+i/shape[1]] = v[i]
			}
			v, shape = turned, []int{shape[1], shape[0]}
		}
		if strings.HasSuffix(e.HF, ".weight") {
			for i := range v {
				v[i] += names.Shift[mod]
			}
		}
		out = append(out, tensor.FromFloats(e.GGUF, shape, v))
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	f, err := formats.ByName("gguf")
	require.NoError(t, err)
	require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), path, &formats.OutModel{Meta: meta, Tensors: formats.Copy(out)}))
	return path
}

func stored(t *testing.T, path string) map[string]*tensor.Tensor {
	out := map[string]*tensor.Tensor{}
	for _, x := range raw(t, path).Tensors {
		out[x.Name] = x
	}
	return out
}

func requireSame(t *testing.T, want, got map[string]*tensor.Tensor) {
	require.Len(t, got, len(want))
	for name, w := range want {
		g := got[name]
		require.NotNil(t, g, name)
		require.Equal(t, w.Shape, g.Shape, name)
		require.Equal(t, w.Type, g.Type, name)
		require.Equal(t, w.Data, g.Data, name)
	}
}

// Conv1D weights turn and norms shift on the way between the two conventions, in
// the same convention they are copied.
func TestTurnAndShift(t *testing.T) {
	for name, s := range map[string]testmodel.Source{"gpt2": testmodel.GPT2(), "gemma2": testmodel.Gemma2()} {
		t.Run(name, func(t *testing.T) {
			gguf := ggufOf(t, s)
			dir, _ := convertTo(t, gguf, "folder", "")
			source := map[string]*tensor.Tensor{}
			for _, x := range s.HF().Tensors {
				source[x.Name] = x
			}
			back := stored(t, dir)
			require.Len(t, back, len(source))
			for n, w := range source {
				want, err := w.AllFloats()
				require.NoError(t, err)
				got, err := back[n].AllFloats()
				require.NoError(t, err)
				require.Equal(t, w.Shape, back[n].Shape, n)
				if name == "gemma2" && strings.Contains(n, "norm") { // one was added and taken off again
					require.InDeltaSlice(t, want, got, 2*bound.U, n) // of sums below 4
				} else {
					require.Equal(t, want, got, n)
				}
			}
			again, _ := convertTo(t, dir, "again.gguf", "")
			requireSame(t, stored(t, gguf), stored(t, again))
			copied, r := convertTo(t, gguf, "copy.gguf", "")
			requireSame(t, stored(t, gguf), stored(t, copied))
			require.Equal(t, r.Tensors, r.Copied)

			small, _ := convertTo(t, dir, "small.gguf", "q8_0")
			direct, _ := convertTo(t, gguf, "direct.gguf", "q8_0")
			requireSame(t, stored(t, direct), stored(t, small))
			m, err := model.Load(small, model.Options{})
			require.NoError(t, err)
			defer m.Close()
			whole, err := model.Load(gguf, model.Options{})
			require.NoError(t, err)
			defer whole.Close()
			// Weights of 8 bits: a safety factor of 3 over the 0.17 measured of Gemma 2, on all tiers.
			require.InDeltaSlice(t, outputs(whole), outputs(m), 0.5)
			decoded, _ := convertTo(t, small, "decoded", "")
			from, err := model.Load(decoded, model.Options{})
			require.NoError(t, err)
			defer from.Close()
			require.InDeltaSlice(t, outputs(m), outputs(from), bound.Output)
		})
	}
}
