package decoder_test

import (
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/gemma"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/llama"
	_ "github.com/peftkit/peftkit/model/mistral"
	_ "github.com/peftkit/peftkit/model/phi3"
	_ "github.com/peftkit/peftkit/model/qwen2"
	_ "github.com/peftkit/peftkit/model/qwen3"
	_ "github.com/peftkit/peftkit/model/smollm3"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// golden is what transformers computes for a model whose numbers follow from the
// names of its tensors: internal/testmodel/golden_decoder.py writes the file.
type golden struct {
	testmodel.Seeded
	Modules []string    `json:"modules"`
	Tokens  []int32     `json:"tokens"`
	Rows    []int32     `json:"rows"`
	Logits  [][]float32 `json:"logits"`
}

func goldens(t *testing.T) map[string]golden {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var all map[string]golden
	require.NoError(t, json.Unmarshal(raw, &all))
	require.Greater(t, len(all), 20)
	return all
}

func build(t *testing.T, f *formats.Model, o model.Options) *model.Model {
	ck, err := model.FromFile(f)
	require.NoError(t, err)
	m, err := model.Build(ck, o)
	require.NoError(t, err)
	return m
}

func (g golden) compare(t *testing.T, m *model.Model) {
	rows := g.Rows
	if m.Options.Task == model.SequenceClassification {
		rows = nil
	}
	got := m.Logits(nn.NewTape(), model.Sequence(g.Tokens, 0), rows)
	require.Equal(t, len(g.Logits), got.Rows)
	for r, want := range g.Logits {
		require.InDeltaSlice(t, want, got.Mat().Row(r), bound.Output, "row %d", r)
	}
}

func TestGolden(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			m := build(t, g.HF(), model.Options{})
			require.Empty(t, m.Fresh)
			g.compare(t, m)
			var paths []string
			for _, mod := range m.Modules {
				paths = append(paths, mod.Path)
			}
			require.Equal(t, g.Modules, paths)
			require.Len(t, m.Sublayers, 2*m.Layers)
			require.Len(t, m.Attentions, m.Layers)
			if m.Options.Task == model.CausalLM {
				require.Empty(t, m.HeadModules)
			} else {
				require.Equal(t, []string{m.Head.Path}, m.HeadModules)
			}
		})
	}
}

// Older configurations have rope_theta and rope_scaling in place of rope_parameters.
func TestOldRopeKeys(t *testing.T) {
	for _, name := range []string{"llama yarn", "llama llama3", "phi3 long", "phi3 partial"} {
		t.Run(name, func(t *testing.T) {
			g := goldens(t)[name]
			p := g.Config["rope_parameters"].(map[string]any)
			delete(g.Config, "rope_parameters")
			g.Config["rope_theta"] = p["rope_theta"]
			delete(p, "rope_theta")
			if part, ok := p["partial_rotary_factor"]; ok {
				g.Config["partial_rotary_factor"] = part
				p = nil
			} else {
				p["type"] = p["rope_type"]
				delete(p, "rope_type")
			}
			g.Config["rope_scaling"] = p
			g.compare(t, build(t, g.HF(), model.Options{}))
		})
	}
}

// A cache that is filled in pieces gives what one pass gives.
func TestCache(t *testing.T) {
	for name, g := range goldens(t) {
		m := build(t, g.HF(), model.Options{})
		if m.Options.Task != model.CausalLM || name == "phi3 long" { // beyond its original context the table changes with the length
			continue
		}
		t.Run(name, func(t *testing.T) {
			tape := nn.NewTape()
			all := m.Logits(tape, model.Sequence(g.Tokens, 0), nil)
			want := append([]float32(nil), all.Data[:all.Rows*all.Cols]...)
			cache := m.NewCache(len(g.Tokens))
			at := 0
			for _, end := range []int{6, 7, 8, len(g.Tokens)} {
				tape.Reset()
				b := model.Sequence(g.Tokens[at:end], at)
				b.Cache = cache
				got := m.Logits(tape, b, nil)
				require.InDeltaSlice(t, want[at*m.VocabSize:end*m.VocabSize], got.Data[:got.Rows*got.Cols], bound.Output)
				at = end
			}
		})
	}
}

// inGGUF lays the tensors down as a GGUF writer does.
func inGGUF(t *testing.T, ck *model.Checkpoint) *formats.Model {
	meta, extra, err := ck.Family.GGUFMeta(ck)
	require.NoError(t, err)
	names, err := ck.Family.GGUFNames(ck.Config)
	require.NoError(t, err)
	g := &formats.Model{Path: "g", Naming: formats.GGUF, Meta: meta}
	for _, e := range ck.Entries {
		mod := e.HF[:strings.LastIndexByte(e.HF, '.')]
		require.Equal(t, names.ToGGUF[mod]+e.HF[len(mod):], e.GGUF)
		require.Equal(t, mod, names.ToHF[names.ToGGUF[mod]])
		view, err := model.GGUFView(e.T, e.GGUF, names.StoredRow[mod])
		require.NoError(t, err)
		v, err := view.AllFloats()
		require.NoError(t, err)
		shape := view.Shape
		if strings.HasSuffix(e.HF, ".weight") {
			for i := range v {
				v[i] += names.Shift[mod]
			}
			if names.Transposed[mod] {
				turned := make([]float32, len(v))
				for i := range v {
					turned[i%shape[1]*shape[0]+i/shape[1]] = v[i]
				}
				v, shape = turned, []int{shape[1], shape[0]}
			}
		}
		g.Tensors = append(g.Tensors, tensor.FromFloats(e.GGUF, shape, v))
	}
	for _, e := range extra {
		g.Tensors = append(g.Tensors, e.T)
	}
	return g
}

// What a GGUF file can say comes back with the same numbers; the rest is refused.
func TestGGUF(t *testing.T) {
	refused := map[string]string{
		"llama yarn by hand": "beta_fast", "smollm3": "no_rope_layers", "gemma2": "query_pre_attn_scalar", "gemma3": "query_pre_attn_scalar",
		"gemma3 types": "query_pre_attn_scalar", "gpt2 variant": "relu", "llama sequence": "head", "llama token": "head", "qwen2 sequence": "head",
		"gemma2 sequence": "head", "gemma3 sequence": "head", "gpt2 sequence": "head", "gpt2 token": "head",
	}
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			ck, err := model.FromFile(g.HF())
			require.NoError(t, err)
			if says, ok := refused[name]; ok {
				_, _, err := ck.Family.GGUFMeta(ck)
				require.ErrorIs(t, err, model.ErrUnsupported)
				require.ErrorContains(t, err, says)
				return
			}
			f := inGGUF(t, ck)
			m := build(t, f, model.Options{})
			if name == "mistral" || name == "phi3" || name == "qwen2 window" { // llama.cpp gives them no window
				wide := maps.Clone(g.Config)
				wide["sliding_window"], wide["use_sliding_window"] = nil, false
				delete(wide, "layer_types")
				g.Config = wide
				want := build(t, g.HF(), model.Options{}).Logits(nn.NewTape(), model.Sequence(g.Tokens, 0), nil)
				got := m.Logits(nn.NewTape(), model.Sequence(g.Tokens, 0), nil)
				require.Equal(t, want.Data, got.Data) // the same weights and sums
				return
			}
			require.Equal(t, ck.Family.Name(), m.Family.Name())
			g.compare(t, m)
			for _, e := range ck.Entries {
				want, err := e.T.AllFloats()
				require.NoError(t, err)
				got, err := m.Tensor(e.HF).AllFloats()
				require.NoError(t, err)
				require.Equal(t, e.T.Shape, m.Tensor(e.HF).Shape)
				require.InDeltaSlice(t, want, got, 2*bound.U, e.HF) // 1 is added to norms and taken off again: sums below 4
			}
			// A trained weight has Hugging Face's shape wherever it came from.
			for _, mod := range m.Modules {
				if mod.Linear != nil && !mod.Output {
					require.Equal(t, m.Shape(mod.Path+".weight"), mod.Linear.W.Unfreeze().Shape, mod.Path)
				}
			}
			g.compare(t, m)
		})
	}
}

// Checkpoints of the bare model lack the prefix of the class with a head.
func TestBareNames(t *testing.T) {
	for name, prefix := range map[string]string{"qwen2": "model.", "gpt2": "transformer."} {
		g := goldens(t)[name]
		f := g.HF()
		f.Config = []byte(strings.NewReplacer("Qwen2ForCausalLM", "Qwen2Model").Replace(string(f.Config)))
		for _, x := range f.Tensors {
			x.Name = strings.TrimPrefix(x.Name, prefix)
		}
		if name == "gpt2" {
			f.Tensors = append(f.Tensors, tensor.FromFloats("h.0.attn.bias", []int{1, 1, 2, 2}, make([]float32, 4)))
		}
		m := build(t, f, model.Options{Task: model.CausalLM})
		g.compare(t, m)
	}
}

// A language model becomes a classifier of the last row of each sequence, also of
// rows that methods have put in front, with a head drawn from the seed.
func TestNewClassifier(t *testing.T) {
	for _, name := range []string{"qwen2", "gpt2", "gemma2", "phi3"} {
		t.Run(name, func(t *testing.T) {
			g := goldens(t)[name]
			o := model.Options{Task: model.SequenceClassification, Labels: []string{"a", "b", "c", "d"}, Seed: 7}
			m := build(t, g.HF(), o)
			require.Equal(t, []string{"score.weight"}, m.Fresh)
			require.Equal(t, "score", m.Head.Path)
			require.Zero(t, m.Head.Cap)
			require.False(t, m.TiedHead)
			tape := nn.NewTape()
			one := append([]float32(nil), m.Logits(tape, model.Sequence(g.Tokens, 0), nil).Data[:4]...)
			again := build(t, g.HF(), o).Logits(nn.NewTape(), model.Sequence(g.Tokens, 0), nil).Data[:4]
			require.Equal(t, one, again)

			// Two sequences in one batch, and the same rows as an insertion.
			n := len(g.Tokens)
			b := model.Sequence(append(append([]int32(nil), g.Tokens[:4]...), g.Tokens...), 0)
			b.Seqs = []nn.Span{{Start: 0, End: 4}, {Start: 4, End: 4 + n}}
			for i := range n {
				b.Pos[4+i] = int32(i)
			}
			tape.Reset()
			two := m.Logits(tape, b, nil)
			require.Equal(t, 2, two.Rows)
			require.InDeltaSlice(t, one, two.Mat().Row(1), bound.Output)
			m.Inputs[0].Hook(func(tp *nn.Tape, r *model.Rows) {
				r.Insert(tp, m.Inputs[0].Embedding.Forward(tp, g.Tokens[:5]), 5)
			})
			tape.Reset()
			rest := m.Logits(tape, model.Sequence(g.Tokens[5:], 0), nil)
			require.InDeltaSlice(t, one, rest.Mat().Row(0), bound.Output)
		})
	}
}

func TestRefuses(t *testing.T) {
	all := goldens(t)
	cases := map[string]struct {
		of   string
		keys map[string]any
		want error
		says string
	}{
		"mixture of experts":  {"qwen2", map[string]any{"architectures": []string{"Qwen2MoeForCausalLM"}}, model.ErrUnsupported, "Qwen2MoeForCausalLM"},
		"multimodal":          {"gemma3", map[string]any{"architectures": []string{"PaliGemmaForConditionalGeneration"}}, model.ErrUnsupported, "gemma, gemma2, gemma3, gpt2, llama, mistral, phi3, qwen2, qwen3, smollm3"},
		"wrapper alone":       {"gemma3", map[string]any{"architectures": []string{"Gemma3ForConditionalGeneration"}}, model.ErrMismatch, "text_config"},
		"activation":          {"qwen3", map[string]any{"hidden_act": "gelu"}, model.ErrUnsupported, "gelu"},
		"unknown rope":        {"qwen2", map[string]any{"rope_scaling": map[string]any{"rope_type": "proportional", "factor": 2.0}}, model.ErrUnsupported, "proportional"},
		"phi3 with yarn keys": {"phi3", map[string]any{"rope_scaling": map[string]any{"type": "yarn", "factor": 2.0}}, model.ErrMismatch, "longrope"},
		"partial in qwen":     {"qwen2", map[string]any{"partial_rotary_factor": 0.5}, model.ErrUnsupported, "partial_rotary_factor"},
		"layer types":         {"gemma2", map[string]any{"layer_types": []string{"full_attention", "chunked_attention"}}, model.ErrUnsupported, "chunked_attention"},
		"too few types":       {"gemma2", map[string]any{"layer_types": []string{"full_attention"}}, model.ErrMismatch, "1 layer_types for 2"},
		"no window":           {"gemma2", map[string]any{"sliding_window": nil}, model.ErrMismatch, "sliding_window"},
		"bidirectional":       {"gemma3", map[string]any{"use_bidirectional_attention": true}, model.ErrUnsupported, "bidirectional"},
		"odd heads":           {"qwen3", map[string]any{"head_dim": 15}, model.ErrMismatch, "odd"},
		"no scalar":           {"gemma2", map[string]any{"query_pre_attn_scalar": 0}, model.ErrMismatch, "query_pre_attn_scalar"},
		"interval":            {"smollm3", map[string]any{"no_rope_layer_interval": 0}, model.ErrMismatch, "interval"},
		"absurd width":        {"gpt2", map[string]any{"n_embd": 1 << 40}, model.ErrMismatch, "n_embd"},
		"cross attention":     {"gpt2", map[string]any{"add_cross_attention": true}, model.ErrUnsupported, "cross"},
		"unknown activation":  {"gpt2", map[string]any{"activation_function": "mish"}, model.ErrUnsupported, "mish"},
		"no head":             {"gpt2 variant", map[string]any{"vocab_size": 47}, model.ErrMismatch, "wrong shape"},
		"dropout":             {"gpt2", map[string]any{"resid_pdrop": 10}, model.ErrMismatch, "resid_pdrop is 10"},
		"attention dropout":   {"qwen3", map[string]any{"attention_dropout": -1}, model.ErrMismatch, "attention_dropout is -1"},
		"yarn factor":         {"llama yarn", map[string]any{"rope_parameters": map[string]any{"rope_type": "yarn", "factor": 0.5}}, model.ErrMismatch, "factor"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := all[c.of]
			cfg := map[string]any{}
			for k, v := range g.Config {
				cfg[k] = v
			}
			for k, v := range c.keys {
				cfg[k] = v
			}
			g.Config = cfg
			_, err := model.FromFile(g.HF())
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
	m := all["llama"].HF()
	ck, err := model.FromFile(m)
	require.NoError(t, err)
	_, err = model.Build(ck, model.Options{Task: model.Seq2SeqLM})
	require.ErrorIs(t, err, model.ErrUnsupported)
}
