package decoder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
)

// Family is one model family. It implements model.Family.
type Family struct {
	// Model is transformers' model_type.
	Model string
	// Short is the family's name where it is not Model.
	Short string
	// Class is the beginning of transformers' class names: "Qwen2" of
	// Qwen2ForCausalLM.
	Class string
	// TextClass is another beginning, "Gemma3Text", "" for none.
	TextClass string
	// Wrapper is a class that holds the network as the half that reads text.
	Wrapper Wrapper
	// Arch is general.architecture of its GGUF files.
	Arch string
	// Activations are those that the feed-forward blocks compute, as nn calls them.
	Activations []string
	// RopeTypes are the kinds of rotary scaling that the family computes.
	RopeTypes []string
	// StoresHeadDim says that transformers works head_dim out once and keeps it, whatever
	// is done to the sizes then.
	StoresHeadDim bool
	// PartialRotary says that transformers rotates only a part of each head on request.
	PartialRotary bool

	// Defaults presets transformers' defaults, nil for Llama's.
	Defaults func(c *Config)
	// Derive fills in c.Variant from what was read.
	Derive func(c *Config) error
	// Windowed says that llama.cpp's network has layers with a sliding window.
	Windowed bool
	// GGUFKeys are the keys of metadata that llama.cpp reads beside those of all decoders.
	GGUFKeys []model.Key
	// MatchGGUF decides between families that share an architecture; nil for always.
	MatchGGUF func(m *formats.Model) bool
	// FromGGUF adds what GGUF metadata say beside the common keys to config.json.
	FromGGUF func(m *formats.Model, config Object) error
	// ToGGUF writes the metadata in gguf-py's order; nil for the common ones.
	ToGGUF func(c *Config) formats.Meta
	// CheckGGUF refuses what a GGUF file of the family cannot say; nil for nothing.
	CheckGGUF func(c *Config) error
}

var _ model.Family = (*Family)(nil)

// CommonRopes are the rotary scalings of most of transformers' families.
func CommonRopes() []string {
	return []string{ropeDefault, ropeLinear, ropeDynamic, ropeLlama3, ropeYarn, ropeLongrope}
}

// Name implements model.Family.
func (f *Family) Name() string {
	if f.Short != "" {
		return f.Short
	}
	return f.Model
}

// The endings of transformers' class names that a family answers to.
const (
	causalClass   = "ForCausalLM"
	sequenceClass = "ForSequenceClassification"
	tokenClass    = "ForTokenClassification"
	baseClass     = "Model"
)

// Classes are the endings of transformers' class names for decoders.
var Classes = []string{causalClass, sequenceClass, tokenClass, baseClass}

// classOf returns the ending of the class that a config.json names, "" when it is
// none of this family.
func (f *Family) classOf(raw json.RawMessage) string {
	var c struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if json.Unmarshal(raw, &c) != nil {
		return ""
	}
	if f.Wrapper.names(c.Architectures, c.ModelType) {
		return causalClass
	}
	if len(c.Architectures) == 0 {
		if c.ModelType == f.Model {
			return causalClass
		}
		return ""
	}
	for _, a := range c.Architectures {
		for _, class := range Classes {
			if strings.EqualFold(a, f.Class+class) || f.TextClass != "" && a == f.TextClass+class {
				return class
			}
		}
	}
	return ""
}

// Match implements model.Family.
func (f *Family) Match(m *formats.Model) bool {
	if m.Naming == formats.GGUF {
		return m.Meta.Str("general.architecture") == f.Arch && (f.MatchGGUF == nil || f.MatchGGUF(m))
	}
	return f.classOf(m.Config) != ""
}

// Open implements model.Family.
func (f *Family) Open(m *formats.Model) (*model.Checkpoint, error) {
	m, stored, notes, err := f.textHalf(m)
	if err != nil {
		return nil, err
	}
	source, raw := m, m.Config
	if m.Naming == formats.GGUF {
		if raw, err = f.configFromGGUF(m); err != nil {
			return nil, err
		}
	}
	c, err := f.parse(raw)
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	m = WithPrefix(m, "model.", headPath, scorePath)
	entries, err := model.Bind(m, c.rules(f.classOf(raw)), func(name string) bool {
		// A cached table that old transformers wrote.
		return strings.HasSuffix(name, ".rotary_emb.inv_freq")
	})
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if was := stored[e.HF]; was != e.HF {
			entries[i].Stored = was
		}
	}
	ck := &model.Checkpoint{Family: f, Source: source, Config: raw, Entries: entries, Notes: notes}
	if !c.TieWordEmbeddings {
		return ck, nil
	}
	return ck, HeadAgrees(ck, embedPath+".weight", headPath+".weight")
}

// GGUFNames implements model.Family.
func (f *Family) GGUFNames(config json.RawMessage) (*model.Names, error) {
	c, err := f.parse(config)
	if err != nil {
		return nil, err
	}
	return c.names(f.Arch), nil
}

// GGUFMeta implements model.Family.
func (f *Family) GGUFMeta(ck *model.Checkpoint) (formats.Meta, []model.Entry, error) {
	if ck.Source.Naming == formats.GGUF {
		return slices.Clone(ck.Source.Meta), nil, nil // rope_freqs is among the entries
	}
	c, err := f.parse(ck.Config)
	if err != nil {
		return nil, nil, err
	}
	if class := f.classOf(ck.Config); class == sequenceClass || class == tokenClass {
		return nil, nil, fmt.Errorf("%s: %s%s: llama.cpp computes no such head: %w", ck.Source.Path, f.Class, class, model.ErrUnsupported)
	}
	if f.CheckGGUF != nil {
		if err := f.CheckGGUF(c); err != nil {
			return nil, nil, formats.At(ck.Source.Path, err)
		}
	}
	meta := c.Meta(f.Arch)
	if f.ToGGUF != nil {
		meta = f.ToGGUF(c)
	}
	rope, extra, err := f.ropeMeta(c)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", ck.Source.Path, err)
	}
	for _, kv := range rope {
		meta.Set(kv.Key, kv.Value)
	}
	return meta, extra, nil
}

func floats32(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}
