package model_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/gemma"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/llama"
	_ "github.com/peftkit/peftkit/model/phi3"
	_ "github.com/peftkit/peftkit/model/qwen2"
	_ "github.com/peftkit/peftkit/model/qwen3"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// stored returns the model as a GGUF file would hold it.
func stored(t *testing.T, m *formats.Model) *formats.Model {
	ck, err := model.FromFile(m)
	require.NoError(t, err)
	meta, extra, err := ck.Family.GGUFMeta(ck)
	require.NoError(t, err)
	names, err := ck.Family.GGUFNames(ck.Config)
	require.NoError(t, err)
	g := &formats.Model{Path: "small.gguf", Naming: formats.GGUF, Meta: meta}
	for _, e := range ck.Entries {
		mod := strings.TrimSuffix(strings.TrimSuffix(e.HF, ".weight"), ".bias")
		view, err := model.GGUFView(e.T, e.GGUF, names.StoredRow[mod])
		require.NoError(t, err)
		v, err := view.AllFloats()
		require.NoError(t, err)
		if strings.HasSuffix(e.HF, ".weight") {
			for i := range v {
				v[i] += names.Shift[mod]
			}
		}
		shape := e.T.Shape
		if names.Transposed[mod] && strings.HasSuffix(e.HF, ".weight") {
			shape, v = []int{shape[1], shape[0]}, transposed(v, shape[0], shape[1])
		}
		g.Tensors = append(g.Tensors, tensor.FromFloats(e.GGUF, shape, v))
	}
	for _, e := range extra {
		g.Tensors = append(g.Tensors, e.T)
	}
	return g
}

func transposed(v []float32, rows, cols int) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		out[i%cols*rows+i/cols] = v[i]
	}
	return out
}

func logitsOf(m *formats.Model) ([]float32, error) {
	ck, err := model.FromFile(m)
	if err != nil {
		return nil, err
	}
	net, err := model.Build(ck, model.Options{})
	if err != nil {
		return nil, err
	}
	return slices.Clone(net.Logits(nn.NewTape(), model.Sequence([]int32{5, 1, 9, 40, 7, 7, 3, 11}, 0), nil).Data), nil
}

// Every key of the table does what the table says.
func TestKeys(t *testing.T) {
	trial := map[string]any{
		"rope.freq_base": float32(500), "rope.freq_base_swa": float32(500), "rope.scaling.factor": float32(4), "rope.scale_linear": float32(4),
		"rope.scaling.attn_factor": float32(1.5), "rope.scaling.type": "yarn", "rope.dimension_count": uint32(4),
		"attention.layer_norm_rms_epsilon": float32(0.5), "attention.sliding_window": uint32(2), "attention.sliding_window_pattern": uint32(1),
		"attn_logit_softcapping": float32(0.5), "final_logit_softcapping": float32(0.5),
	}
	byKind := map[string]any{"uint32": uint32(3), "float32": float32(0.25), "bool": false, "string": "x", "": "x"}
	for name, src := range map[string]testmodel.Source{
		"llama": testmodel.Default(), "qwen2": testmodel.Qwen2(), "qwen3": testmodel.Qwen3(), "gemma2": testmodel.Gemma2(), "phi3": testmodel.Phi3(),
	} {
		t.Run(name, func(t *testing.T) {
			plain := stored(t, src.HF())
			want, err := logitsOf(plain)
			require.NoError(t, err)
			f, err := model.FamilyOf(plain)
			require.NoError(t, err)
			listed := map[string]model.Key{}
			for _, k := range f.(model.Keyed).Keys(formats.GGUF) {
				require.Empty(t, listed[k.Name].Name, "%s twice", k.Name)
				require.Contains(t, model.LlamaCppKeys, k.Name)
				listed[k.Name] = k
			}
			for _, key := range model.LlamaCppKeys {
				k, ok := listed[key]
				if !ok {
					k = model.Key{Name: key, Effect: model.WithoutEffect}
				}
				value := trial[key]
				if value == nil || ok && k.Effect != model.Used {
					value = byKind[k.Kind]
				}
				file := *plain
				file.Meta = slices.Clone(plain.Meta)
				file.Meta.Set(name+"."+key, value)
				switch key { // these count only beside others
				case "rope.scaling.type":
					file.Meta.Set(name+".rope.scaling.factor", float32(4))
				case "rope.scaling.original_context_length":
					file.Meta.Set(name+".rope.scaling.type", "yarn")
					file.Meta.Set(name+".rope.scaling.factor", float32(4))
					file.Meta.Set(name+"."+key, uint32(4096))
					value = "beside others"
				}
				got, err := logitsOf(&file)
				switch k.Effect {
				case model.Used: // a size that does not fit, or a value out of reach, is an error that says so
					if err == nil && key != "context_length" {
						require.NotEqual(t, want, got, "%s %v", key, value)
					}
				case model.WithoutEffect:
					require.NoError(t, err, key)
					require.Equal(t, want, got, "%s %v", key, value)
				case model.Refused:
					require.ErrorIs(t, err, model.ErrUnsupported, key)
					require.ErrorContains(t, err, "small.gguf")
					require.ErrorContains(t, err, name+"."+key)
				}
			}
		})
	}
}

// Models without rotary positions: scaling does nothing, a word for it that llama.cpp
// does not know is refused, and so are sizes of heads that GPT-2 cannot have.
func TestKeysWithoutRope(t *testing.T) {
	for name, src := range map[string]testmodel.Source{"gpt2": testmodel.GPT2(), "bert": testmodel.BERT(2), "t5": testmodel.T5Gated()} {
		t.Run(name, func(t *testing.T) {
			file := stored(t, src.HF())
			for _, word := range []string{"none", "linear", "yarn", "longrope", "cubic", ""} {
				file.Meta.Set(name+".rope.scaling.type", word)
				_, err := model.FromFile(file)
				if word != "cubic" && word != "" {
					require.NoError(t, err, word)
					continue
				}
				require.ErrorIs(t, err, model.ErrUnsupported)
				require.ErrorContains(t, err, "small.gguf: metadata key "+name+".rope.scaling.type is "+word)
			}
		})
	}
	for _, key := range []string{"gpt2.attention.key_length", "gpt2.attention.value_length"} {
		file := stored(t, testmodel.GPT2().HF())
		want, err := logitsOf(file)
		require.NoError(t, err)
		hidden, _ := file.Meta.Int("gpt2.embedding_length")
		heads, _ := file.Meta.Int("gpt2.attention.head_count")
		file.Meta.Set(key, uint32(hidden/heads))
		got, err := logitsOf(file)
		require.NoError(t, err)
		require.Equal(t, want, got)
		file.Meta.Set(key, uint32(2*hidden/heads))
		_, err = logitsOf(file)
		require.ErrorIs(t, err, model.ErrUnsupported)
		require.ErrorContains(t, err, "small.gguf: metadata key "+key+" is ")
	}
}

func TestKeysOfWrongType(t *testing.T) {
	m := stored(t, testmodel.Default().HF())
	m.Meta.Set("llama.rope.scaling.factor", uint32(4))
	_, err := model.FromFile(m)
	require.ErrorIs(t, err, model.ErrMismatch)
	require.ErrorContains(t, err, "llama.rope.scaling.factor is of type uint32, expected float32")
}

func TestIgnoredKeysAreTold(t *testing.T) {
	m := stored(t, testmodel.Default().HF())
	m.Meta.Set("llama.attention.sliding_window", uint32(4))
	m.Meta.Set("llama.colour", "blue")
	m.Meta.Set("qwen2.rope.freq_base", float32(5))
	f, err := model.FamilyOf(m)
	require.NoError(t, err)
	got := model.Ignored(m, "llama", f.(model.Keyed).Keys(formats.GGUF))
	require.Subset(t, got, []string{"llama.attention.sliding_window 4", "llama.colour blue", "qwen2.rope.freq_base 5"})
}
