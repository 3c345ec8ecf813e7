// Package bart is the BART branch of encoder-decoder models: BART (Lewis et al.
// 2019, arXiv 1910.13461), mBART (Liu et al. 2020, arXiv 2001.08210), which norms
// before each block, and Marian's translation models (Junczys-Dowmunt et al.
// 2018), which have fixed sinusoidal positions and may have a vocabulary for each
// side.
//
// The networks follow transformers' modeling_bart, modeling_mbart and
// modeling_marian. llama.cpp has no such architecture, so there are no GGUF names.
package bart

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
)

// variant is what tells the three families apart.
type variant struct {
	name string
	// classes are the beginnings of transformers' class names.
	classes []string
	// preNorm norms before each block and once more at the end of a stack.
	preNorm bool
	// sinusoid has fixed positions, and no norm of the embeddings.
	sinusoid bool
	// Defaults of config.json.
	vocab    int
	pad, eos int32
	start    *int32
}

func id(n int32) *int32 { return &n }

func init() {
	for _, v := range []variant{
		{name: "bart", classes: []string{"Bart"}, vocab: 50265, pad: 1, eos: 2, start: id(2)},
		{name: "mbart", classes: []string{"MBart"}, preNorm: true, vocab: 50265, pad: 1, eos: 2},
		{name: "marian", classes: []string{"Marian"}, sinusoid: true, vocab: 58101, pad: 58100, eos: 0, start: id(58100)},
	} {
		model.Register(family{&v})
	}
}

type family struct{ v *variant }

var _ model.Family = family{}

// Name implements model.Family.
func (f family) Name() string { return f.v.name }

// heads are the endings of transformers' class names that are computed; "Model"
// is a network without a head.
var heads = []string{"ForConditionalGeneration", "MTModel", "ForSequenceClassification", "Model"}

// Match implements model.Family.
func (f family) Match(m *formats.Model) bool {
	if m.Naming != formats.HF {
		return false
	}
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if json.Unmarshal(m.Config, &c) != nil {
		return false
	}
	if len(c.Architectures) == 0 {
		return c.ModelType == f.v.name
	}
	return slices.ContainsFunc(c.Architectures, func(a string) bool {
		for _, class := range f.v.classes {
			if rest, ok := strings.CutPrefix(a, class); ok && slices.Contains(heads, rest) {
				return c.ModelType == "" || c.ModelType == f.v.name
			}
		}
		return false
	})
}

// Open implements model.Family.
func (f family) Open(m *formats.Model) (*model.Checkpoint, error) {
	c, err := parseConfig(f.v, m.Config)
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	named := withPrefix(m)
	entries, err := model.Bind(named, rules(c, named), func(name string) bool {
		return name == "model.encoder.version" || name == "model.decoder.version" // fairseq's
	})
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if named != m && strings.HasPrefix(entries[i].HF, "model.") {
			entries[i].Stored = strings.TrimPrefix(entries[i].HF, "model.")
		}
	}
	ck := &model.Checkpoint{Family: f, Source: m, Config: m.Config, Entries: entries}
	return ck, copiesAgree(ck, c)
}

// withPrefix names the tensors of a bare BartModel as those of a model with a
// head, which have "model." before them.
func withPrefix(m *formats.Model) *formats.Model {
	if slices.ContainsFunc(m.Tensors, func(t *tensor.Tensor) bool { return strings.HasPrefix(t.Name, "model.") }) {
		return m
	}
	named := &formats.Model{Path: m.Path, Format: m.Format, Naming: m.Naming, Config: m.Config}
	for _, t := range m.Tensors {
		u := *t
		for _, top := range []string{"shared.", "encoder.", "decoder."} {
			if strings.HasPrefix(u.Name, top) {
				u.Name = "model." + u.Name
				break
			}
		}
		named.Tensors = append(named.Tensors, &u)
	}
	return named
}

// GGUFNames implements model.Family: llama.cpp has no such architecture.
func (f family) GGUFNames(json.RawMessage) (*model.Names, error) { return nil, f.noGGUF() }

// GGUFMeta implements model.Family: llama.cpp has no such architecture.
func (f family) GGUFMeta(*model.Checkpoint) (formats.Meta, []model.Entry, error) {
	return nil, nil, f.noGGUF()
}

func (f family) noGGUF() error {
	return fmt.Errorf("%s in GGUF: %w: llama.cpp has no architecture for it; keep the Hugging Face folder", f.v.name, model.ErrUnsupported)
}

// Purpose implements model.Purposed.
func (f family) Purpose(json.RawMessage) model.Task { return model.Seq2SeqLM }

// Build implements model.Family.
func (f family) Build(ck *model.Checkpoint, o model.Options) (*model.Model, error) {
	if o.Task != model.Seq2SeqLM && o.Task != model.SequenceClassification && o.Task != "" {
		return nil, o.Refuse(f.v.name, model.Seq2SeqLM, model.SequenceClassification)
	}
	c, err := parseConfig(f.v, ck.Config)
	if err != nil {
		return nil, err
	}
	w, err := model.ReadWriting(ck)
	if err != nil {
		return nil, err
	}
	n := &network{c: c}
	m := &model.Model{
		Checkpoint: ck, VocabSize: c.DecoderVocabSize, HiddenSize: c.DModel, Layers: c.DecoderLayers,
		MaxPositions: c.MaxPositionEmbeddings, KVSize: c.DModel, Writing: w, Start: -1, Dropout: c.dropout(), Run: n.run,
	}
	if c.Start != nil {
		m.Start = *c.Start
	}
	if err := n.build(m, o); err != nil {
		return nil, err
	}
	return m, nil
}
