package gpt2

import (
	"encoding/json"
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/nn"
)

// config is the part of config.json that the network depends on, with
// transformers' names and defaults (GPT2Config).
type config struct {
	Embd              int               `json:"n_embd"`
	Layers            int               `json:"n_layer"`
	Heads             int               `json:"n_head"`
	Inner             *int              `json:"n_inner"`
	Positions         int               `json:"n_positions"`
	VocabSize         int               `json:"vocab_size"`
	Activation        string            `json:"activation_function"`
	Eps               float64           `json:"layer_norm_epsilon"`
	InitializerRange  float64           `json:"initializer_range"`
	ScaleAttn         bool              `json:"scale_attn_weights"`
	ScaleByLayer      bool              `json:"scale_attn_by_inverse_layer_idx"`
	CrossAttention    bool              `json:"add_cross_attention"`
	TieWordEmbeddings bool              `json:"tie_word_embeddings"`
	PadTokenID        *int32            `json:"pad_token_id"`
	ID2Label          map[string]string `json:"id2label"`
	NumLabels         int               `json:"num_labels"`
	EmbdDropout       float64           `json:"embd_pdrop"`
	AttnDropout       float64           `json:"attn_pdrop"`
	ResidDropout      float64           `json:"resid_pdrop"`
	ClassifierDropout *float64          `json:"classifier_dropout"`
	HiddenDropout     *float64          `json:"hidden_dropout"`

	act nn.Activation
}

// aliases are transformers' attribute_map: other keys for the same settings.
var aliases = map[string]string{
	"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "max_position_embeddings": "n_positions",
}

func parseConfig(raw json.RawMessage) (*config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	for other, key := range aliases {
		if v, ok := keys[other]; ok && keys[key] == nil {
			keys[key] = v
		}
	}
	raw, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	c := &config{
		Embd: 768, Layers: 12, Heads: 12, Positions: 1024, VocabSize: 50257, Activation: "gelu_new", Eps: 1e-5,
		InitializerRange: 0.02, ScaleAttn: true, TieWordEmbeddings: true,
		EmbdDropout: 0.1, AttnDropout: 0.1, ResidDropout: 0.1,
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	return c, c.check()
}

func (c *config) check() error {
	const most = 1 << 20 // beyond it a header is absurd
	for _, d := range []struct {
		name   string
		v, max int
	}{
		{"n_embd", c.Embd, most}, {"n_layer", c.Layers, 1024}, {"n_head", c.Heads, most}, {"n_inner", c.inner(), most},
		{"n_positions", c.Positions, 1 << 24}, {"vocab_size", c.VocabSize, 1 << 24},
	} {
		if d.v < 1 || d.v > d.max {
			return fmt.Errorf("config: %s is %d, expected 1 to %d: %w", d.name, d.v, d.max, model.ErrMismatch)
		}
	}
	var known bool
	c.act, known = nn.ActivationByName(c.Activation)
	switch {
	case c.Embd%c.Heads != 0:
		return fmt.Errorf("config: n_embd %d is no multiple of %d heads: %w", c.Embd, c.Heads, model.ErrMismatch)
	case !known:
		return fmt.Errorf("config: activation_function %q: %w", c.Activation, model.ErrUnsupported)
	case c.CrossAttention:
		return fmt.Errorf("config: add_cross_attention: %w by the gpt2 family, which has no encoder", model.ErrUnsupported)
	case c.Eps <= 0:
		return fmt.Errorf("config: layer_norm_epsilon %g must be positive: %w", c.Eps, model.ErrMismatch)
	}
	return c.dropout(model.TokenClassification).Check()
}

// dropout returns what training leaves out for a task.
func (c *config) dropout(task model.Task) model.Dropout {
	d := model.Dropout{"embd_pdrop": c.EmbdDropout, "attn_pdrop": c.AttnDropout, "resid_pdrop": c.ResidDropout}
	if task == model.TokenClassification {
		d["classifier_dropout"] = c.tokenDropout()
	}
	return d
}

func (c *config) tokenDropout() float64 {
	return decoder.TokenDropout(c.ClassifierDropout, c.HiddenDropout)
}

func (c *config) inner() int {
	if c.Inner == nil {
		return 4 * c.Embd
	}
	return *c.Inner
}

// labels returns the number of classes of a classifier, as transformers counts.
func (c *config) labels() int {
	switch {
	case len(c.ID2Label) > 0:
		return len(c.ID2Label)
	case c.NumLabels > 0:
		return c.NumLabels
	}
	return 2
}
