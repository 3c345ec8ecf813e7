// Package encoder is the engine of the encoder-only families: BERT, RoBERTa and
// DistilBERT are one network under different names. A family describes its names
// and configuration in a [Spec]; the package does the rest.
//
// The network follows transformers' modeling_bert: words, token types and
// positions are summed and normed; every layer is self-attention that sees the
// whole sequence and a feed-forward block, each followed by the norm of its sum
// with the stream (post-norm).
//
// Tasks are sequence classification (the head reads the first row of each
// sequence, which is a method's own row when it put rows there, as in HF PEFT),
// token classification (the head reads every token's row) and feature extraction
// (no head: [model.Model.Hidden] gives the rows). A checkpoint whose architecture
// names no task is built for feature extraction.
//
// Training applies the dropout of config.json where transformers does
// ([nn.BaseDropout]).
package encoder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Spec is what tells one family from another.
type Spec struct {
	// Name is the family's name: "bert".
	Name string
	// Types are the values of model_type, Classes the beginnings of transformers'
	// class names: "Bert" for BertModel and BertForSequenceClassification.
	Types, Classes []string
	// Base is the module that holds the network inside of a task's model: "bert".
	Base string
	// Embeddings are the modules below Base.embeddings in the order of
	// named_modules: word_embeddings, position_embeddings, token_type_embeddings
	// (may be absent) and LayerNorm.
	Embeddings []string
	// Layers is the list of layers below Base: "encoder.layer".
	Layers string
	// Layer are the modules of a layer: query, key, value and output projection of
	// attention, its norm, the two linears of the feed-forward block, its norm.
	Layer [8]string
	// Attention is the module of a layer that holds the projections, AttentionOut
	// and FeedForwardOut those whose outputs join the stream.
	Attention, AttentionOut, FeedForwardOut string
	// Head describes the head of sequence classification.
	Head Head
	// Unused are the beginnings of names of tensors that no task computes with: the
	// heads of pretraining. They are kept when files are converted.
	Unused []string
	// Keys are the decisions about the keys of config.json.
	Keys []model.Key
	// Config reads config.json.
	Config func(raw json.RawMessage) (*Config, error)
	// Write gives the keys of config.json that Config reads to put. Positions of c
	// counts the rows that GGUF keeps, Padding is -1 if unknown.
	Write func(c *Config, put func(key string, v any))
	// GGUF reports whether a GGUF file of llama.cpp's architecture bert is of this
	// family: whether it has token types, and a tokenizer of bytes or of
	// SentencePiece rather than WordPiece.
	GGUF func(types, bytesOrPieces bool) bool
}

// Head is a sequence classifier: Out(Act(Dense(row))).
type Head struct {
	// Dense is the path of the first linear, Pooled that it is a part of the base
	// model (BERT's pooler) and not of the head.
	Dense  string
	Pooled bool
	Act    nn.Activation
	// Out is the path of the last linear, [labels, hidden size].
	Out string
	// Modules are what modules_to_save calls the head.
	Modules []string
}

// tokenHead is the path of the head of token classification in all families.
const tokenHead = "classifier"

// tasks that these families compute.
var tasks = []model.Task{model.SequenceClassification, model.TokenClassification, model.FeatureExtraction}

// family is a described family.
type family struct{ s Spec }

var _ model.Family = (*family)(nil)

// New returns the family of a description.
func New(s Spec) model.Family { return &family{s} }

// Name implements model.Family.
func (f *family) Name() string { return f.s.Name }

// Match implements model.Family.
func (f *family) Match(m *formats.Model) bool {
	if m.Naming == formats.GGUF {
		return f.matchGGUF(m)
	}
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if json.Unmarshal(m.Config, &c) != nil {
		return false
	}
	if len(c.Architectures) > 0 {
		return slices.ContainsFunc(c.Architectures, f.isClass)
	}
	return slices.Contains(f.s.Types, c.ModelType)
}

// isClass reports whether a class of transformers is of the family: its base
// model, or one with a head.
func (f *family) isClass(name string) bool {
	for _, c := range f.s.Classes {
		if rest, ok := strings.CutPrefix(name, c); ok && (rest == "Model" || strings.HasPrefix(rest, "For")) {
			return true
		}
	}
	return false
}

// Build implements model.Family.
func (f *family) Build(ck *model.Checkpoint, o model.Options) (*model.Model, error) {
	if o.Task != "" && !slices.Contains(tasks, o.Task) {
		return nil, o.Refuse(f.s.Name, tasks...)
	}
	c, err := f.s.config(ck.Config)
	if err != nil {
		return nil, err
	}
	n := &network{s: &f.s, c: c, task: o.Task}
	m := &model.Model{
		Checkpoint: ck, VocabSize: c.Vocab, HiddenSize: c.Hidden, Layers: c.Layers,
		MaxPositions: c.Positions - c.Offset, KVSize: c.Hidden, Dropout: c.Dropouts, Run: n.run,
	}
	if err := n.build(m, o); err != nil {
		return nil, err
	}
	return m, nil
}

// config reads and checks config.json.
func (s *Spec) config(raw json.RawMessage) (*Config, error) {
	c, err := s.Config(raw)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	return c, c.check(s.Name)
}
