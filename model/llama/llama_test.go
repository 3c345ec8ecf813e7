package llama

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/llama2c"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// edit returns the default test model with keys of config.json replaced.
func edit(t *testing.T, keys map[string]any) *formats.Model {
	m := testmodel.Default().HF()
	var cfg map[string]any
	require.NoError(t, json.Unmarshal(m.Config, &cfg))
	for k, v := range keys {
		cfg[k] = v
	}
	raw, err := json.Marshal(cfg)
	require.NoError(t, err)
	m.Config = raw
	return m
}

func TestRefuses(t *testing.T) {
	cases := map[string]struct {
		keys map[string]any
		want error
		says string
	}{
		"other family":        {map[string]any{"architectures": []string{"MambaForCausalLM"}, "model_type": "mamba"}, model.ErrUnsupported, "MambaForCausalLM"},
		"activation":          {map[string]any{"hidden_act": "gelu"}, model.ErrUnsupported, "gelu"},
		"rope type":           {map[string]any{"rope_scaling": map[string]any{"rope_type": "proportional", "factor": 4.0}}, model.ErrUnsupported, "proportional"},
		"llama3 without keys": {map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0}}, model.ErrMismatch, "low_freq_factor"},
		"absurd layers":       {map[string]any{"num_hidden_layers": 1 << 40}, model.ErrMismatch, "num_hidden_layers"},
		"negative":            {map[string]any{"hidden_size": -32}, model.ErrMismatch, "hidden_size"},
		"heads":               {map[string]any{"num_key_value_heads": 3}, model.ErrMismatch, "no multiple"},
		"one layer too many":  {map[string]any{"num_hidden_layers": 3}, model.ErrMismatch, "missing: model.layers.2."},
		"one layer too few":   {map[string]any{"num_hidden_layers": 1}, model.ErrMismatch, "not known"},
		"wrong size":          {map[string]any{"intermediate_size": 65}, model.ErrMismatch, "wrong shape"},
		"untied without head": {map[string]any{"tie_word_embeddings": false}, model.ErrMismatch, "lm_head.weight"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := model.FromFile(edit(t, c.keys))
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestTiedHeadCopyMustAgree(t *testing.T) {
	m := testmodel.Default().HF()
	emb := *m.Tensors[0]
	emb.Name = "lm_head.weight"
	m.Tensors = append(m.Tensors, &emb)
	_, err := model.FromFile(m)
	require.NoError(t, err)
	other := *tensor.FromFloats("lm_head.weight", emb.Shape, make([]float32, emb.Elements()))
	m.Tensors[len(m.Tensors)-1] = &other
	_, err = model.FromFile(m)
	require.ErrorIs(t, err, model.ErrMismatch)
}

// Every tensor must come back in its place and order after a trip to GGUF names.
func TestNamesAndRowsBothWays(t *testing.T) {
	cfg := testmodel.Default()
	cfg.Bias, cfg.Untied = true, true
	ck, err := model.FromFile(cfg.HF())
	require.NoError(t, err)
	meta, extra, err := ck.Family.GGUFMeta(ck)
	require.NoError(t, err)
	require.Empty(t, extra)
	names, err := ck.Family.GGUFNames(ck.Config)
	require.NoError(t, err)

	g := &formats.Model{Path: "g", Naming: formats.GGUF, Meta: meta}
	for _, e := range ck.Entries {
		mod := strings.TrimSuffix(strings.TrimSuffix(e.HF, ".weight"), ".bias")
		require.Equal(t, names.ToGGUF[mod]+strings.TrimPrefix(e.HF, mod), e.GGUF)
		view, err := model.GGUFView(e.T, e.GGUF, names.StoredRow[mod])
		require.NoError(t, err)
		// Lay the rows down in the order in which a writer would.
		v, err := view.AllFloats()
		require.NoError(t, err)
		g.Tensors = append(g.Tensors, tensor.FromFloats(e.GGUF, e.T.Shape, v))
	}
	back, err := model.FromFile(g)
	require.NoError(t, err)
	moved := 0
	for _, e := range ck.Entries {
		want, err := e.T.AllFloats()
		require.NoError(t, err)
		got, err := back.Tensor(e.HF).AllFloats()
		require.NoError(t, err)
		require.Equal(t, want, got, e.HF)
		stored, err := g.Tensors[moved].AllFloats()
		require.NoError(t, err)
		moved++
		if strings.Contains(e.HF, "q_proj.weight") {
			require.NotEqual(t, want, stored, "query rows must lie in llama.cpp's order")
		}
	}
	var a, b map[string]any
	require.NoError(t, json.Unmarshal(ck.Config, &a))
	require.NoError(t, json.Unmarshal(back.Config, &b))
	for k, v := range a {
		require.Equal(t, v, b[k], k)
	}
}

func TestLlama3RopeBothWays(t *testing.T) {
	m := edit(t, map[string]any{"rope_theta": 500000.0, "rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0,
		"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})
	ck, err := model.FromFile(m)
	require.NoError(t, err)
	_, extra, err := ck.Family.GGUFMeta(ck)
	require.NoError(t, err)
	require.Len(t, extra, 1)
	f, err := extra[0].T.AllFloats()
	require.NoError(t, err)
	require.Equal(t, float32(1), f[0])
	require.Equal(t, float32(8), f[len(f)-1])
	got, err := decoder.Llama3FromFactors("x", f, 8, 500000)
	require.NoError(t, err)
	require.Equal(t, 8192, got["original_max_position_embeddings"])
	f[1] *= 1.5
	_, err = decoder.Llama3FromFactors("x", f, 8, 500000)
	require.ErrorIs(t, err, model.ErrUnsupported)
}

// One token at a time through the cache must give what one pass gives.
func TestCacheEqualsOnePass(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	ids := []int32{5, 1, 9, 40, 7, 7, 3}
	tape := nn.NewTape()
	all := m.Logits(tape, model.Sequence(ids, 0), nil)
	want := append([]float32(nil), all.Data[:all.Rows*all.Cols]...)
	cache := m.NewCache(len(ids))
	for _, part := range [][2]int{{0, 3}, {3, 4}, {4, 7}} {
		tape.Reset()
		b := model.Sequence(ids[part[0]:part[1]], part[0])
		b.Cache = cache
		require.NoError(t, cache.Room(len(b.Tokens)))
		got := m.Logits(tape, b, nil)
		for i, v := range got.Data[:got.Rows*got.Cols] {
			require.InDelta(t, want[part[0]*m.VocabSize+i], v, bound.Output, fmt.Sprint(part))
		}
	}
	require.Error(t, cache.Room(1))
}

// stories260K tells its golden story (data/models/stories260K/golden.md).
func TestStories260K(t *testing.T) {
	src, err := llama2c.Format{}.OpenModel(testdata.Dir(t, "models", "stories260K", "stories260K.bin"))
	require.NoError(t, err)
	defer src.Close()
	ck, err := model.FromFile(src)
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	tokens, ok := src.Meta.Get("tokenizer.ggml.tokens").([]string)
	require.True(t, ok)
	cache := m.NewCache(64)
	tape := nn.NewTape()
	id, text := int32(1), "" // BOS
	for pos := range 60 {
		tape.Reset()
		b := model.Sequence([]int32{id}, pos)
		b.Cache = cache
		l := m.Logits(tape, b, nil).Data
		id = 0
		for i := range l[:m.VocabSize] {
			if l[i] > l[id] {
				id = int32(i)
			}
		}
		text += strings.ReplaceAll(tokens[id], "▁", " ")
	}
	golden := "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
	require.True(t, strings.HasPrefix(strings.TrimSpace(text), golden[:100]), text)
}
