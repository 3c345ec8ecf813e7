// Package t5 is the T5 family of encoder-decoder models (Raffel et al. 2020,
// arXiv 1910.10683): version 1.0 with ReLU and an output embedding that is the
// scaled input embedding, version 1.1 and Flan-T5 with gated feed-forward blocks
// and an output embedding of their own, and the encoder alone.
//
// The network follows transformers' modeling_t5: RMS norm before each block, no
// biases, attention scores without a scale but with a learned bias per head and
// distance, which the first layer of a stack holds for all.
package t5

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
)

func init() { model.Register(family{}) }

type family struct{}

var _ model.Family = family{}

// Name implements model.Family.
func (family) Name() string { return "t5" }

// encoderClass is transformers' class of an encoder alone.
const encoderClass = "T5EncoderModel"

// Match implements model.Family.
func (family) Match(m *formats.Model) bool {
	if m.Naming == formats.GGUF {
		a := m.Meta.Str("general.architecture")
		return a == "t5" || a == "t5encoder"
	}
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if json.Unmarshal(m.Config, &c) != nil {
		return false
	}
	if len(c.Architectures) == 0 {
		return c.ModelType == "t5"
	}
	return slices.ContainsFunc(c.Architectures, func(a string) bool {
		return slices.Contains([]string{"T5ForConditionalGeneration", "T5WithLMHeadModel", "T5ForSequenceClassification", "T5Model", encoderClass}, a)
	})
}

// Open implements model.Family.
func (f family) Open(m *formats.Model) (*model.Checkpoint, error) {
	raw := m.Config
	if m.Naming == formats.GGUF {
		var err error
		if raw, err = configFromGGUF(m); err != nil {
			return nil, err
		}
	}
	c, err := parseConfig(raw)
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	named, stored := usualNames(m)
	entries, err := model.Bind(named, rules(c, named), func(name string) bool {
		// Never used, in files of 2019.
		return strings.HasSuffix(name, "layer.1.EncDecAttention.relative_attention_bias.weight") || name == "dec.blk.0.cross_attn_rel_b.weight" ||
			c.encoderOnly && (strings.HasPrefix(name, "decoder.") || name == head+".weight" || name == "output.weight")
	})
	if err != nil {
		return nil, err
	}
	if entries, err = withoutCopies(m.Path, entries); err != nil {
		return nil, err
	}
	classifier := false
	for _, was := range stored {
		classifier = classifier || strings.HasPrefix(was, classifierPrefix)
	}
	for i := range entries {
		e := &entries[i]
		was := stored[e.HF]
		if classifier && !strings.HasPrefix(e.HF, "classification_head.") {
			e.HF = classifierPrefix + e.HF
			e.T.Name = e.HF
		}
		if m.Naming == formats.HF && was != e.HF {
			e.Stored = was
		}
	}
	ck := &model.Checkpoint{Family: f, Source: m, Config: raw, Entries: entries}
	if out, in := ck.Tensor(head+".weight"), ck.Tensor(sharedEmbedding+".weight"); out != nil && in != nil &&
		(out.Type != in.Type || !bytes.Equal(out.Data, in.Data)) {
		if c.ScaleOutputs == nil && c.scaled() {
			return nil, fmt.Errorf("%s: tie_word_embeddings is true but %s.weight differs from %s.weight: %w; set it to false in config.json if the head is meant to be its own", m.Path, head, sharedEmbedding, model.ErrMismatch)
		}
		ck.Config = untied(raw)
	}
	return ck, nil
}

var tiedKey = regexp.MustCompile(`"tie_word_embeddings"(\s*):(\s*)true`)

// untied has a configuration say that the output embedding is one of its own:
// transformers 5 writes true for every T5 and looks at what is stored.
func untied(config json.RawMessage) json.RawMessage {
	return tiedKey.ReplaceAll(config, []byte(`"tie_word_embeddings"$1:${2}false`))
}

// The names under which the one input embedding is found.
const (
	sharedEmbedding = "shared"
	encoderEmbed    = "encoder.embed_tokens"
	decoderEmbed    = "decoder.embed_tokens"
)

// usualNames names the tensors as T5ForConditionalGeneration does, which has not
// the "transformer." of a classifier before them, and the input embedding "shared" when it is stored
// under another of its names alone. stored tells what the file calls each.
func usualNames(m *formats.Model) (named *formats.Model, stored map[string]string) {
	stored = map[string]string{}
	if m.Naming != formats.HF {
		return m, stored
	}
	named = &formats.Model{Path: m.Path, Format: m.Format, Naming: m.Naming, Config: m.Config}
	for _, t := range m.Tensors {
		u := *t
		u.Name = strings.TrimPrefix(t.Name, classifierPrefix)
		named.Tensors = append(named.Tensors, &u)
		stored[u.Name] = t.Name
	}
	if stored[sharedEmbedding+".weight"] != "" {
		return named, stored
	}
	for _, name := range []string{encoderEmbed, decoderEmbed} {
		if was := stored[name+".weight"]; was != "" {
			at := slices.IndexFunc(named.Tensors, func(t *tensor.Tensor) bool { return t.Name == name+".weight" })
			named.Tensors[at].Name = sharedEmbedding + ".weight"
			stored[sharedEmbedding+".weight"] = was
			delete(stored, name+".weight")
			break
		}
	}
	return named, stored
}

// withoutCopies leaves out what is stored beside the input embedding under
// another of its names; transformers keeps one of them, so they must not differ.
func withoutCopies(path string, entries []model.Entry) ([]model.Entry, error) {
	var shared *tensor.Tensor
	for _, e := range entries {
		if e.HF == sharedEmbedding+".weight" {
			shared = e.T
		}
	}
	var out []model.Entry
	for _, e := range entries {
		if e.HF != encoderEmbed+".weight" && e.HF != decoderEmbed+".weight" {
			out = append(out, e)
			continue
		}
		if e.T.Type != shared.Type || !bytes.Equal(e.T.Data, shared.Data) {
			return nil, fmt.Errorf("%s: %s differs from %s.weight: %w: T5 has one input embedding", path, e.HF, sharedEmbedding, model.ErrMismatch)
		}
	}
	return out, nil
}

// maxPositions bounds the length of sequences. T5 has no table of positions:
// n_positions only says how long those of its training were.
const maxPositions = 1 << 15

// Purpose implements model.Purposed: an encoder alone has features and no task.
func (family) Purpose(raw json.RawMessage) model.Task {
	c, err := parseConfig(raw)
	if err != nil || c.encoderOnly || c.TieWordEmbeddings != nil && !*c.TieWordEmbeddings {
		return "" // without an output embedding somebody has to say what it is for
	}
	return model.Seq2SeqLM
}

// Build implements model.Family.
func (family) Build(ck *model.Checkpoint, o model.Options) (*model.Model, error) {
	c, err := parseConfig(ck.Config)
	if err != nil {
		return nil, err
	}
	has := []model.Task{model.Seq2SeqLM, model.SequenceClassification, model.FeatureExtraction}
	if c.encoderOnly {
		has = has[2:]
		if o.Task == "" {
			o.Task = model.FeatureExtraction
		}
	}
	if o.Task != "" && !slices.Contains(has, o.Task) {
		return nil, o.Refuse("t5", has...)
	}
	n := &network{c: c, task: o.Task}
	m := &model.Model{
		Checkpoint: ck, VocabSize: c.VocabSize, HiddenSize: c.DModel, Layers: *c.NumDecoderLayers,
		MaxPositions: max(c.NPositions, maxPositions), KVSize: c.inner(), Start: -1, Dropout: c.dropout(), Run: n.run,
	}
	if o.Task == model.FeatureExtraction {
		m.Layers = c.NumLayers
		return m, n.build(m, o)
	}
	if m.Writing, err = model.ReadWriting(ck); err != nil {
		return nil, err
	}
	switch {
	case c.Start != nil:
		m.Start = *c.Start
	case c.PAD != nil:
		m.Start = *c.PAD
	}
	n.start = m.Start
	return m, n.build(m, o)
}
