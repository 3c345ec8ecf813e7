package bart_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	_ "github.com/peftkit/peftkit/formats/hfmodel"
	"github.com/peftkit/peftkit/internal/goldentest"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	"github.com/peftkit/peftkit/tensor"
)

// Logits and greedy texts are those of transformers, for every variant.
func TestGolden(t *testing.T) { goldentest.Run(t, "testdata/golden.json") }

// A user's model: 3 MB, one layer on each side, characters of words to phonemes.
func TestPronunciation(t *testing.T) {
	dir := testdata.Dir(t, "models", "us_bart")
	to := t.TempDir()
	for from, name := range map[string]string{"us_bart_config.json": "config.json", "us_bart.safetensors": "model.safetensors"} {
		b, err := os.ReadFile(filepath.Join(dir, from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, name), b, 0o600))
	}
	m, err := model.Load(to, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, model.Seq2SeqLM, m.Options.Task)
	require.Equal(t, int32(1), m.Start)
	require.True(t, m.TiedHead)
	require.Nil(t, m.Head.Bias, "final_logits_bias holds zeros")
	raw, err := os.ReadFile("testdata/us_bart.json")
	require.NoError(t, err)
	var cases []goldentest.Case
	require.NoError(t, json.Unmarshal(raw, &cases))
	goldentest.Check(t, m, cases)
}

func open(t *testing.T, s testmodel.Seeded, o model.Options) (*model.Model, error) {
	t.Helper()
	ck, err := model.FromFile(s.HF())
	if err != nil {
		return nil, err
	}
	return model.Build(ck, o)
}

func golden(t *testing.T, name string) testmodel.Seeded {
	g, ok := goldentest.Read(t, "testdata/golden.json")[name]
	require.True(t, ok)
	return g.Seeded
}

// Modules have the order of transformers' named_modules.
func TestModules(t *testing.T) {
	m, err := open(t, golden(t, "bart"), model.Options{})
	require.NoError(t, err)
	var paths []string
	for _, mod := range m.Modules {
		paths = append(paths, mod.Path)
	}
	require.Equal(t, []string{
		"model.encoder.embed_tokens", "model.encoder.embed_positions", "model.encoder.layers.0.self_attn.k_proj",
		"model.encoder.layers.0.self_attn.v_proj", "model.encoder.layers.0.self_attn.q_proj", "model.encoder.layers.0.self_attn.out_proj",
		"model.encoder.layers.0.self_attn_layer_norm", "model.encoder.layers.0.fc1", "model.encoder.layers.0.fc2",
		"model.encoder.layers.0.final_layer_norm",
	}, paths[:10])
	at := slices.Index(paths, "model.decoder.layers.0.encoder_attn.k_proj")
	require.Equal(t, "model.decoder.layers.0.self_attn_layer_norm", paths[at-1])
	require.Equal(t, "lm_head", paths[len(paths)-1])
	var ends []string
	for _, s := range m.Sublayers {
		ends = append(ends, s.Path)
		require.NotNil(t, s.Norm)
	}
	require.Equal(t, []string{
		"model.encoder.layers.0.self_attn", "model.encoder.layers.0.fc2", "model.encoder.layers.1.self_attn", "model.encoder.layers.1.fc2",
		"model.decoder.layers.0.self_attn", "model.decoder.layers.0.encoder_attn", "model.decoder.layers.0.fc2",
	}, ends)
	require.Len(t, m.Attentions, 4)
	require.True(t, m.Attentions[3].Cross)
	require.Len(t, m.Inputs, 2)
	require.Same(t, m.Module("lm_head").Weight(), m.Module("model.encoder.embed_tokens").Weight(), "tied")
}

// Tied weights may be stored under any of their names, but not with two values.
func TestTiedNames(t *testing.T) {
	s := golden(t, "bart")
	want, err := open(t, s, model.Options{})
	require.NoError(t, err)
	shared := want.Tensor("model.shared.weight")
	stored := func(names ...string) *model.Model {
		src := s.HF()
		src.Tensors = slices.DeleteFunc(src.Tensors, func(x *tensor.Tensor) bool { return x.Name == "model.shared.weight" })
		for _, name := range names {
			u := *shared
			u.Name = name
			src.Tensors = append(src.Tensors, &u)
		}
		ck, err := model.FromFile(src)
		if len(names) == 0 {
			require.ErrorIs(t, err, model.ErrMismatch)
			require.ErrorContains(t, err, "embed_tokens.weight")
			return nil
		}
		require.NoError(t, err)
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		return m
	}
	for _, names := range [][]string{{"lm_head.weight"}, {"model.decoder.embed_tokens.weight"}, {"model.shared.weight", "model.encoder.embed_tokens.weight", "lm_head.weight"}} {
		m := stored(names...)
		require.True(t, m.TiedHead)
		require.Same(t, m.Head.W, m.Module("model.encoder.embed_tokens").Weight(), "%v", names)
	}
	stored()

	s.Tensors["lm_head.weight"] = []int{48, 32} // numbers of its own
	_, err = open(t, s, model.Options{})
	require.ErrorIs(t, err, model.ErrMismatch)
	require.ErrorContains(t, err, "lm_head.weight differs")
	s.Config["tie_word_embeddings"] = false
	m, err := open(t, s, model.Options{})
	require.NoError(t, err)
	require.False(t, m.TiedHead)
	require.NotSame(t, m.Head.W, m.Module("model.encoder.embed_tokens").Weight())
}

// A bare BartModel has names without "model.".
func TestBareModel(t *testing.T) {
	s := golden(t, "bart")
	s.Config["architectures"] = []string{"BartModel"}
	src := s.HF()
	for _, x := range src.Tensors {
		x.Name = x.Name[len("model."):]
	}
	ck, err := model.FromFile(src)
	require.NoError(t, err)
	require.NotNil(t, ck.Tensor("model.encoder.layers.1.fc1.weight"))
	_, err = model.Build(ck, model.Options{Task: model.Seq2SeqLM})
	require.NoError(t, err)
}

func TestClassifierHeads(t *testing.T) {
	m, err := open(t, golden(t, "bart"), model.Options{Task: model.SequenceClassification, Labels: []string{"a", "b", "c", "d"}})
	require.NoError(t, err)
	require.Equal(t, []string{"classification_head.dense.weight", "classification_head.dense.bias", "classification_head.out_proj.weight", "classification_head.out_proj.bias"}, m.Fresh)
	require.Equal(t, []string{"classification_head"}, m.HeadModules)
	_, err = open(t, golden(t, "classifier"), model.Options{Task: model.SequenceClassification, Labels: []string{"a", "b"}})
	require.ErrorIs(t, err, model.ErrMismatch)
	_, err = open(t, golden(t, "bart"), model.Options{Task: model.CausalLM})
	require.ErrorIs(t, err, model.ErrUnsupported)
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		key  string
		v    any
		want string
	}{
		"heads":      {"encoder_attention_heads", 5, "no multiple"},
		"activation": {"activation_function", "mish", "mish"},
		"pre-norm":   {"normalize_before", true, "mbart"},
		"layers":     {"decoder_layers", 0, "decoder_layers is 0"},
		"positions":  {"max_position_embeddings", 41, "embed_positions.weight is [42 32]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := golden(t, "bart")
			s.Config[c.key] = c.v
			_, err := open(t, s, model.Options{})
			require.ErrorContains(t, err, c.want)
		})
	}
	m, err := open(t, golden(t, "bart"), model.Options{})
	require.NoError(t, err)
	_, err = m.Family.GGUFNames(m.Config)
	require.ErrorIs(t, err, model.ErrUnsupported)
	_, _, err = m.Family.GGUFMeta(m.Checkpoint)
	require.ErrorIs(t, err, model.ErrUnsupported)
}

// The seeded models of other packages' tests are of these families.
func TestTestModels(t *testing.T) {
	for want, s := range map[string]testmodel.Source{"bart": testmodel.BART(), "marian": testmodel.Marian()} {
		ck, err := model.FromFile(s.HF())
		require.NoError(t, err)
		require.Equal(t, want, ck.Family.Name())
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		require.Equal(t, want == "marian", m.Head.Bias != nil)
	}
}
