package decoder

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Config is the part of config.json that the networks depend on, with
// transformers' names. A family presets its defaults; null unsets a pointer.
type Config struct {
	HiddenSize            int  `json:"hidden_size"`
	IntermediateSize      int  `json:"intermediate_size"`
	NumHiddenLayers       int  `json:"num_hidden_layers"`
	NumAttentionHeads     int  `json:"num_attention_heads"`
	NumKeyValueHeads      *int `json:"num_key_value_heads"`
	HeadDim               *int `json:"head_dim"`
	MaxPositionEmbeddings int  `json:"max_position_embeddings"`
	VocabSize             int  `json:"vocab_size"`

	HiddenAct         string  `json:"hidden_act"`
	HiddenActivation  *string `json:"hidden_activation"` // Gemma
	RMSNormEps        float64 `json:"rms_norm_eps"`
	InitializerRange  float64 `json:"initializer_range"`
	TieWordEmbeddings bool    `json:"tie_word_embeddings"`
	AttentionBias     bool    `json:"attention_bias"`
	MLPBias           bool    `json:"mlp_bias"`

	RopeTheta             float64         `json:"rope_theta"`
	RopeLocalBaseFreq     float64         `json:"rope_local_base_freq"` // Gemma 3
	RopeScaling           *Rope           `json:"rope_scaling"`
	RopeParameters        json.RawMessage `json:"rope_parameters"` // transformers 5: theta and scaling in one, or one per type of layer
	PartialRotaryFactor   *float64        `json:"partial_rotary_factor"`
	OriginalMaxPositions  *int            `json:"original_max_position_embeddings"` // Phi-3
	NoRopeLayers          []int           `json:"no_rope_layers"`                   // SmolLM3: 0 for layers without
	NoRopeLayerInterval   int             `json:"no_rope_layer_interval"`
	SlidingWindow         *int            `json:"sliding_window"`
	UseSlidingWindow      bool            `json:"use_sliding_window"`
	MaxWindowLayers       int             `json:"max_window_layers"`
	SlidingWindowPattern  int             `json:"sliding_window_pattern"`
	LayerTypes            []string        `json:"layer_types"`
	QueryPreAttnScalar    float64         `json:"query_pre_attn_scalar"`
	AttnLogitSoftcapping  *float64        `json:"attn_logit_softcapping"`
	FinalLogitSoftcapping *float64        `json:"final_logit_softcapping"`
	Bidirectional         *bool           `json:"use_bidirectional_attention"`

	PadTokenID *int32 `json:"pad_token_id"`

	AttentionDropout  float64  `json:"attention_dropout"`
	ResidDropout      float64  `json:"resid_pdrop"` // Phi-3
	ClassifierDropout *float64 `json:"classifier_dropout"`
	HiddenDropout     *float64 `json:"hidden_dropout"`

	ID2Label  map[string]string `json:"id2label"`
	NumLabels int               `json:"num_labels"`

	// Variant is derived by the family.
	Variant Variant `json:"-"`

	global, local *Rope // of full_attention and of sliding_attention layers
	act           nn.Activation
}

// Variant says how the blocks of a family differ from Llama's.
type Variant struct {
	// QKVBias, OutBias and MLPBias say which linear layers have biases.
	QKVBias, OutBias, MLPBias bool
	// QKNorm norms every head of queries and keys before they are rotated.
	QKNorm bool
	// FusedQKV and FusedMLP are single layers for q, k, v and for gate, up (Phi-3).
	FusedQKV, FusedMLP bool
	// PostNorms norms the output of attention and of the feed-forward block before
	// it joins the stream (Gemma 2 and 3).
	PostNorms bool
	// Plus1 says that norms multiply by one plus their weight (Gemma).
	Plus1 bool
	// ScaledEmbedding multiplies embeddings by the root of hidden_size (Gemma).
	ScaledEmbedding bool
	// Interleaved says that llama.cpp keeps the rows of queries and keys in
	// another order (model.HeadOrder).
	Interleaved bool
	// AttnScale multiplies the scores of attention; 0 is 1/sqrt(head_dim).
	AttnScale float64
	// AttnCap bounds the scores, HeadCap the logits of a language model; 0 for no bound.
	AttnCap, HeadCap float64
	// Windows holds the sliding window of each layer, 0 for none; nil when there
	// are none at all.
	Windows []int
	// NoRope marks layers that do not rotate; nil when all do.
	NoRope []bool
	// ResidDropout is the share that training leaves out of what attention and the
	// feed-forward block give to the stream (Phi-3).
	ResidDropout float64
	// LocalRope says that layers with a window use the rotary parameters of
	// sliding_attention (Gemma 3).
	LocalRope bool
}

// Ptr returns a pointer to a default value.
func Ptr[T any](v T) *T { return &v }

// parse reads config.json over the family's defaults and checks everything that
// the network relies on.
func (f *Family) parse(raw json.RawMessage) (*Config, error) {
	c := &Config{
		HiddenAct: "silu", RMSNormEps: 1e-6, InitializerRange: 0.02, MaxPositionEmbeddings: 2048,
		RopeTheta: 10000, RopeLocalBaseFreq: 10000,
	}
	if f.Defaults != nil {
		f.Defaults(c)
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if c.NumKeyValueHeads == nil {
		c.NumKeyValueHeads = Ptr(c.NumAttentionHeads)
	}
	if c.HeadDim == nil {
		c.HeadDim = Ptr(c.HiddenSize / max(1, c.NumAttentionHeads))
	}
	if err := c.ropes(); err != nil {
		return nil, err
	}
	if err := c.sizes(); err != nil {
		return nil, err
	}
	if f.Derive != nil {
		if err := f.Derive(c); err != nil {
			return nil, err
		}
	}
	if c.HiddenActivation != nil {
		c.HiddenAct = *c.HiddenActivation
	}
	return c, c.check(f)
}

// Limits that no real model comes near; beyond them a header is absurd.
const (
	maxDim    = 1 << 20
	maxLayers = 1024
	maxVocab  = 1 << 24
)

func (c *Config) sizes() error {
	for _, d := range []struct {
		name   string
		v, max int
	}{
		{"hidden_size", c.HiddenSize, maxDim}, {"intermediate_size", c.IntermediateSize, maxDim},
		{"num_hidden_layers", c.NumHiddenLayers, maxLayers}, {"num_attention_heads", c.NumAttentionHeads, maxDim},
		{"num_key_value_heads", *c.NumKeyValueHeads, maxDim}, {"head_dim", *c.HeadDim, maxDim},
		{"vocab_size", c.VocabSize, maxVocab}, {"max_position_embeddings", c.MaxPositionEmbeddings, 1 << 30},
	} {
		if d.v < 1 || d.v > d.max {
			return fmt.Errorf("config: %s is %d, expected 1 to %d: %w", d.name, d.v, d.max, model.ErrMismatch)
		}
	}
	return nil
}

func (c *Config) check(f *Family) error {
	var known bool
	c.act, known = nn.ActivationByName(c.HiddenAct)
	switch {
	case c.NumAttentionHeads%c.kvHeads() != 0:
		return fmt.Errorf("config: %d attention heads are no multiple of %d key/value heads: %w", c.NumAttentionHeads, c.kvHeads(), model.ErrMismatch)
	case c.headDim()%2 != 0:
		return fmt.Errorf("config: head_dim %d is odd, rotary positions need pairs: %w", c.headDim(), model.ErrMismatch)
	case !known || !slices.Contains(f.Activations, c.act.Name):
		return fmt.Errorf("config: hidden_act %q: %w; the %s family computes %v", c.HiddenAct, model.ErrUnsupported, f.Name(), f.Activations)
	case c.RMSNormEps <= 0 || c.RopeTheta <= 0:
		return fmt.Errorf("config: rms_norm_eps %g and rope_theta %g must be positive: %w", c.RMSNormEps, c.RopeTheta, model.ErrMismatch)
	case c.Bidirectional != nil && *c.Bidirectional:
		return fmt.Errorf("config: use_bidirectional_attention: %w; the %s family attends to earlier tokens only", model.ErrUnsupported, f.Name())
	case c.Variant.AttnCap < 0 || c.Variant.HeadCap < 0:
		return fmt.Errorf("config: soft caps must be positive: %w", model.ErrMismatch)
	}
	for _, w := range c.Variant.Windows {
		if w < 0 || w > 1<<30 {
			return fmt.Errorf("config: sliding_window %d: expected a positive number: %w", w, model.ErrMismatch)
		}
	}
	for _, r := range []*Rope{c.global, c.local} {
		if r.Partial != nil && *r.Partial != 1 && !f.PartialRotary {
			return fmt.Errorf("config: partial_rotary_factor %g: %w in the %s family", *r.Partial, model.ErrUnsupported, f.Name())
		}
		if !slices.Contains(f.RopeTypes, r.Type) {
			return fmt.Errorf("config: rope type %q: %w; the %s family computes %v", r.Type, model.ErrUnsupported, f.Name(), f.RopeTypes)
		}
	}
	if err := c.dropout(model.TokenClassification).Check(); err != nil {
		return err
	}
	_, err := c.tables()
	return err
}

// dropout returns what training leaves out for a task.
func (c *Config) dropout(task model.Task) model.Dropout {
	d := model.Dropout{"attention_dropout": c.AttentionDropout, "resid_pdrop": c.Variant.ResidDropout}
	if task == model.TokenClassification {
		d["classifier_dropout"] = c.tokenDropout()
	}
	return d
}

func (c *Config) tokenDropout() float64 { return TokenDropout(c.ClassifierDropout, c.HiddenDropout) }

func (c *Config) kvHeads() int { return *c.NumKeyValueHeads }
func (c *Config) headDim() int { return *c.HeadDim }

// labels returns the number of classes of a classifier, as transformers counts.
func (c *Config) labels() int {
	switch {
	case len(c.ID2Label) > 0:
		return len(c.ID2Label)
	case c.NumLabels > 0:
		return c.NumLabels
	}
	return 2
}

// WindowsByType derives the windows from layer_types, which by default has a
// sliding layer where sliding says so.
func (c *Config) WindowsByType(sliding func(layer int) bool) error {
	types := c.LayerTypes
	if types == nil {
		for l := range c.NumHiddenLayers {
			t := fullAttention
			if sliding(l) {
				t = slidingAttention
			}
			types = append(types, t)
		}
	}
	if len(types) != c.NumHiddenLayers {
		return fmt.Errorf("config: %d layer_types for %d layers: %w", len(types), c.NumHiddenLayers, model.ErrMismatch)
	}
	windows, any := make([]int, len(types)), false
	for l, t := range types {
		switch t {
		case fullAttention:
		case slidingAttention:
			if c.SlidingWindow == nil || *c.SlidingWindow < 1 {
				return fmt.Errorf("config: layer %d has a sliding window but sliding_window is no positive number: %w", l, model.ErrMismatch)
			}
			windows[l], any = *c.SlidingWindow, true
		default:
			return fmt.Errorf("config: layer_types: %q: %w; %s and %s are computed", t, model.ErrUnsupported, fullAttention, slidingAttention)
		}
	}
	if any {
		c.Variant.Windows = windows
	}
	return nil
}

// The values of layer_types.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)
