package t5_test

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/goldentest"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// Logits and greedy texts are those of transformers, for every variant.
func TestGolden(t *testing.T) { goldentest.Run(t, filepath.Join("testdata", "golden.json")) }

func golden(t *testing.T, name string) testmodel.Seeded {
	g, ok := goldentest.Read(t, "testdata/golden.json")[name]
	require.True(t, ok)
	return g.Seeded
}

func open(t *testing.T, src *formats.Model, o model.Options) (*model.Model, error) {
	t.Helper()
	ck, err := model.FromFile(src)
	if err != nil {
		return nil, err
	}
	return model.Build(ck, o)
}

func logits(m *model.Model) []float32 {
	b := model.Sequence([]int32{2, 7, 9}, 0)
	b.Source = model.Sequence([]int32{5, 6, 30, 1}, 0)
	out := m.Logits(nn.NewTape(), b, nil)
	return slices.Clone(out.Data[:out.Rows*out.Cols])
}

func TestModules(t *testing.T) {
	m, err := open(t, golden(t, "version 1.1").HF(), model.Options{})
	require.NoError(t, err)
	var paths []string
	for _, mod := range m.Modules {
		paths = append(paths, mod.Path)
	}
	p := "encoder.block.0.layer."
	require.Equal(t, []string{
		"encoder.embed_tokens", p + "0.SelfAttention.q", p + "0.SelfAttention.k", p + "0.SelfAttention.v", p + "0.SelfAttention.o",
		p + "0.SelfAttention.relative_attention_bias", p + "0.layer_norm", p + "1.DenseReluDense.wi_0", p + "1.DenseReluDense.wi_1",
		p + "1.DenseReluDense.wo", p + "1.layer_norm", "encoder.block.1.layer.0.SelfAttention.q",
	}, paths[:12])
	require.Equal(t, []string{"decoder.final_layer_norm", "lm_head"}, paths[len(paths)-2:])
	require.False(t, m.TiedHead)
	var ends []string
	for _, s := range m.Sublayers[len(m.Sublayers)-3:] {
		require.Nil(t, s.Norm)
		require.Equal(t, "decoder.block.1", s.LayerPath())
		ends = append(ends, s.Path)
	}
	require.Equal(t, []string{"decoder.block.1.layer.0", "decoder.block.1.layer.1", "decoder.block.1.layer.2"}, ends)
	require.Equal(t, model.Encoder, m.Inputs[0].Stack)
	require.Equal(t, model.Decoder, m.Inputs[1].Stack)
	require.Same(t, m.Inputs[0].Embedding.W, m.Inputs[1].Embedding.W)

	c, err := open(t, golden(t, "t5").HF(), model.Options{Task: model.SequenceClassification, Labels: []string{"a", "b"}})
	require.NoError(t, err)
	require.NotNil(t, c.Module("transformer.decoder.block.1.layer.1.EncDecAttention.q"))
	require.Len(t, c.Fresh, 4)
	file, err := open(t, golden(t, "classifier").HF(), model.Options{})
	require.NoError(t, err)
	require.NotNil(t, file.Tensor("transformer.encoder.final_layer_norm.weight"))
	require.Equal(t, "transformer.encoder.final_layer_norm.weight", file.Module("transformer.encoder.final_layer_norm").Norm.W.Name)
	require.Equal(t, "transformer.shared.weight", c.Module("transformer.encoder.embed_tokens").Weight().Name)
	_, err = open(t, golden(t, "t5").HF(), model.Options{Task: model.CausalLM})
	require.ErrorIs(t, err, model.ErrUnsupported)
}

// The table of biases of the first layer gets a gradient through every layer.
func TestBiasGradient(t *testing.T) {
	m, err := open(t, testmodel.T5().HF(), model.Options{})
	require.NoError(t, err)
	for _, path := range []string{"encoder.block.0.layer.0.SelfAttention.relative_attention_bias", "decoder.block.0.layer.0.SelfAttention.relative_attention_bias"} {
		p := m.Module(path).Embedding.W.Unfreeze()
		b := model.Sequence([]int32{0, 7, 9, 11, 3}, 0)
		b.Labels = []int32{7, 9, 11, 3, 1}
		b.Source = model.Sequence([]int32{5, 6, 30, 8, 22, 1}, 0)
		tape := nn.NewTape()
		tape.Train = true
		loss := func() float64 { tape.Reset(); s, _ := m.Loss(tape, b, 1); return s }
		loss()
		tape.Backward()
		grad := slices.Clone(p.V.Grad)
		require.NotZero(t, grad)
		for _, i := range []int{0, 5, 9, 14} {
			// Five losses, each of them off as a logit is: about 900 roundings, sums of a size
			// up to 2. The curve between the two points adds less than 1e-4.
			const h = 1e-2
			tol := math.Sqrt(5) * math.Sqrt2 * bound.Spread(900) * 2 / (2 * h)
			was := p.V.Data[i]
			p.V.Data[i] = was + h
			up := loss()
			p.V.Data[i] = was - h
			down := loss()
			p.V.Data[i] = was
			require.InDelta(t, (up-down)/(2*h), grad[i], tol, "%s %d", path, i)
		}
	}
}

// Files name the one input embedding in several ways.
func TestEmbeddingNames(t *testing.T) {
	s := golden(t, "t5")
	want, err := open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	require.True(t, want.TiedHead)
	shared := want.Tensor("shared.weight")
	for _, names := range [][]string{{"encoder.embed_tokens.weight"}, {"decoder.embed_tokens.weight", "encoder.embed_tokens.weight"}, {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}} {
		src := s.HF()
		src.Tensors = slices.DeleteFunc(src.Tensors, func(x *tensor.Tensor) bool { return x.Name == "shared.weight" })
		for _, name := range names {
			u := *shared
			u.Name = name
			src.Tensors = append(src.Tensors, &u)
		}
		src.Tensors = append(src.Tensors, tensor.FromFloats("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", []int{8, 4}, make([]float32, 32)))
		m, err := open(t, src, model.Options{})
		require.NoError(t, err, "%v", names)
		require.Equal(t, logits(want), logits(m), "%v", names)
		require.NotNil(t, m.Tensor("shared.weight"))
	}
	s.Tensors["decoder.embed_tokens.weight"] = []int{48, 32} // numbers of its own
	_, err = open(t, s.HF(), model.Options{})
	require.ErrorIs(t, err, model.ErrMismatch)
	s = golden(t, "t5")
	s.Tensors["lm_head.weight"] = []int{48, 32}
	_, err = open(t, s.HF(), model.Options{})
	require.ErrorContains(t, err, "lm_head.weight differs")
	s.Config["tie_word_embeddings"], s.Config["scale_decoder_outputs"] = true, false // as transformers 5 writes it
	m, err := open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	require.False(t, m.TiedHead)
	require.Contains(t, string(m.Config), `"tie_word_embeddings":false`)
	s = golden(t, "t5")
	delete(s.Tensors, "shared.weight")
	_, err = open(t, s.HF(), model.Options{})
	require.ErrorContains(t, err, "shared.weight")
}

// The encoder alone gives the rows that the decoder reads.
func TestEncoder(t *testing.T) {
	s := golden(t, "t5")
	full, err := open(t, s.HF(), model.Options{Task: model.FeatureExtraction})
	require.NoError(t, err)
	s.Config["architectures"] = []string{"T5EncoderModel"}
	for name := range s.Tensors {
		if name[:3] == "dec" {
			delete(s.Tensors, name)
		}
	}
	m, err := open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	require.False(t, m.EncoderDecoder())
	b := model.Sequence([]int32{4, 5, 6, 1}, 0)
	got := m.Hidden(nn.NewTape(), b)
	require.Equal(t, 4, got.Rows)
	require.Equal(t, full.Hidden(nn.NewTape(), b).Data, got.Data)
	_, err = open(t, s.HF(), model.Options{Task: model.Seq2SeqLM})
	require.ErrorIs(t, err, model.ErrUnsupported)
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		key  string
		v    any
		want string
	}{
		"activation": {"feed_forward_proj", "gated-mish", "gated-mish"},
		"act":        {"dense_act_fn", "mish", `"mish" of feed_forward_proj`},
		"layers":     {"num_layers", 0, "num_layers is 0"},
		"buckets":    {"relative_attention_num_buckets", 6, "multiple of 4"},
		"distance":   {"relative_attention_max_distance", 3, "relative_attention_max_distance 3"},
		"shape":      {"d_kv", 7, "SelfAttention.q.weight is [24 32]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := golden(t, "t5")
			s.Config[c.key] = c.v
			_, err := open(t, s.HF(), model.Options{})
			require.ErrorContains(t, err, c.want)
		})
	}
}

// asGGUF is what a GGUF file of the model holds.
func asGGUF(t *testing.T, m *model.Checkpoint) *formats.Model {
	t.Helper()
	meta, extra, err := m.Family.GGUFMeta(m)
	require.NoError(t, err)
	require.Empty(t, extra)
	names, err := m.Family.GGUFNames(m.Config)
	require.NoError(t, err)
	require.Empty(t, names.StoredRow)
	out := &formats.Model{Path: "x.gguf", Naming: formats.GGUF, Meta: meta}
	for _, e := range m.Entries {
		require.Equal(t, e.GGUF, names.ToGGUF[e.HF[:len(e.HF)-len(".weight")]]+".weight")
		u := *e.T
		u.Name = e.GGUF
		out.Tensors = append(out.Tensors, &u)
	}
	return out
}

func TestThroughGGUF(t *testing.T) {
	for _, name := range []string{"t5", "version 1.1"} {
		s := golden(t, name)
		s.Config["relative_attention_max_distance"] = 128
		m, err := open(t, s.HF(), model.Options{})
		require.NoError(t, err)
		g := asGGUF(t, m.Checkpoint)
		require.Equal(t, "t5", g.Meta.Str("general.architecture"))
		n, ok := g.Meta.Int("t5.decoder_block_count")
		require.True(t, ok)
		require.Equal(t, int64(2), n)
		back, err := open(t, g, model.Options{})
		require.NoError(t, err)
		require.Equal(t, logits(m), logits(back), name)
		require.Equal(t, m.Start, back.Start)
		require.Equal(t, m.TiedHead, back.TiedHead)
	}
	s := golden(t, "t5") // a distance that llama.cpp does not compute
	m, err := open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	_, _, err = m.Family.GGUFMeta(m.Checkpoint)
	require.ErrorIs(t, err, model.ErrUnsupported)
	s = golden(t, "version 1.1")
	s.Config["relative_attention_max_distance"], s.Config["scale_decoder_outputs"] = 128, true
	m, err = open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	_, _, err = m.Family.GGUFMeta(m.Checkpoint)
	require.ErrorContains(t, err, "scale_decoder_outputs true")
	m, err = open(t, golden(t, "gated silu").HF(), model.Options{})
	require.NoError(t, err)
	_, _, err = m.Family.GGUFMeta(m.Checkpoint)
	require.ErrorContains(t, err, "gated-silu")
}

// An encoder alone attends to everything whatever attention.causal says, as in
// llama.cpp; with a decoder the key is refused unless true.
func TestCausalKey(t *testing.T) {
	s := golden(t, "t5")
	s.Config["relative_attention_max_distance"] = 128
	full, err := open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	g := asGGUF(t, full.Checkpoint)
	g.Meta.Set("t5.attention.causal", true)
	same, err := open(t, g, model.Options{})
	require.NoError(t, err)
	require.Equal(t, logits(full), logits(same))
	g.Meta.Set("t5.attention.causal", false)
	_, err = open(t, g, model.Options{})
	require.ErrorIs(t, err, model.ErrUnsupported)
	require.ErrorContains(t, err, "x.gguf: metadata key t5.attention.causal is false")

	s.Config["architectures"] = []string{"T5EncoderModel"}
	for name := range s.Tensors {
		if name[:3] == "dec" {
			delete(s.Tensors, name)
		}
	}
	m, err := open(t, s.HF(), model.Options{})
	require.NoError(t, err)
	b := model.Sequence([]int32{4, 5, 6, 1}, 0)
	g = asGGUF(t, m.Checkpoint)
	require.Equal(t, "t5encoder", g.Meta.Str("general.architecture"))
	for _, causal := range []any{nil, false, true} {
		if causal != nil {
			g.Meta.Set("t5encoder.attention.causal", causal)
		}
		back, err := open(t, g, model.Options{})
		require.NoError(t, err, causal)
		require.Equal(t, m.Hidden(nn.NewTape(), b).Data, back.Hidden(nn.NewTape(), b).Data, causal)
	}
}
