package t5

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Config is the part of config.json that the network depends on, with the names
// and defaults of transformers' T5Config.
type Config struct {
	Architectures     []string       `json:"architectures"`
	VocabSize         int            `json:"vocab_size"`
	DModel            int            `json:"d_model"`
	DKV               int            `json:"d_kv"`
	DFF               int            `json:"d_ff"`
	NumLayers         int            `json:"num_layers"`
	NumDecoderLayers  *int           `json:"num_decoder_layers"` // nil is NumLayers
	NumHeads          int            `json:"num_heads"`
	Buckets           int            `json:"relative_attention_num_buckets"`
	MaxDistance       int            `json:"relative_attention_max_distance"`
	Eps               float64        `json:"layer_norm_epsilon"`
	InitFactor        float64        `json:"initializer_factor"`
	FeedForward       string         `json:"feed_forward_proj"`
	DenseAct          *string        `json:"dense_act_fn"` // follows from feed_forward_proj, but counts where it stands
	GatedAct          *bool          `json:"is_gated_act"` // likewise
	TieWordEmbeddings *bool          `json:"tie_word_embeddings"`
	EncoderDecoder    *bool          `json:"is_encoder_decoder"`
	ScaleOutputs      *bool          `json:"scale_decoder_outputs"` // transformers 5
	NPositions        int            `json:"n_positions"`
	EOS               model.TokenIDs `json:"eos_token_id"`
	PAD               *int32         `json:"pad_token_id"`
	Start             *int32         `json:"decoder_start_token_id"`
	Dropout           float64        `json:"dropout_rate"`
	ClassifierDropout float64        `json:"classifier_dropout"`

	// encoderOnly is a T5EncoderModel, which has no decoder.
	encoderOnly bool
	gated       bool
	act         nn.Activation
}

// Limits that no real model comes near; beyond them a header is absurd.
const (
	maxDim    = 1 << 20
	maxLayers = 1024
	maxVocab  = 1 << 24
)

// parseConfig reads config.json and checks everything the network relies on.
func parseConfig(raw json.RawMessage) (*Config, error) {
	pad := int32(0)
	c := &Config{
		VocabSize: 32128, DModel: 512, DKV: 64, DFF: 2048, NumLayers: 6, NumHeads: 8, Buckets: 32, MaxDistance: 128,
		Eps: 1e-6, InitFactor: 1, FeedForward: "relu", NPositions: 512, EOS: model.TokenIDs{1}, PAD: &pad, Dropout: 0.1,
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if c.NumDecoderLayers == nil {
		c.NumDecoderLayers = &c.NumLayers
	}
	c.encoderOnly = len(c.Architectures) > 0 && c.Architectures[0] == encoderClass
	return c, c.check()
}

func (c *Config) check() error {
	for _, d := range []struct {
		name   string
		v, max int
	}{
		{"vocab_size", c.VocabSize, maxVocab}, {"d_model", c.DModel, maxDim}, {"d_kv", c.DKV, maxDim}, {"d_ff", c.DFF, maxDim},
		{"num_layers", c.NumLayers, maxLayers}, {"num_decoder_layers", *c.NumDecoderLayers, maxLayers}, {"num_heads", c.NumHeads, maxDim},
		{"relative_attention_num_buckets", c.Buckets, maxDim}, {"relative_attention_max_distance", c.MaxDistance, maxDim},
		{"n_positions", c.NPositions, 1 << 30},
	} {
		if d.v < 1 || d.v > d.max {
			return fmt.Errorf("config: %s is %d, expected 1 to %d: %w", d.name, d.v, d.max, model.ErrMismatch)
		}
	}
	switch {
	case c.EncoderDecoder != nil && !*c.EncoderDecoder && !c.encoderOnly:
		return fmt.Errorf("config: is_encoder_decoder is false, but architectures is not %s: %w", encoderClass, model.ErrUnsupported)
	case c.NumHeads*c.DKV > maxDim:
		return fmt.Errorf("config: %d heads of %d features: %w", c.NumHeads, c.DKV, model.ErrMismatch)
	case c.Buckets < 4 || c.Buckets%4 != 0 || c.MaxDistance <= c.Buckets/2:
		return fmt.Errorf("config: relative_attention_num_buckets %d and relative_attention_max_distance %d: expected a multiple of 4, and more than half of it: %w", c.Buckets, c.MaxDistance, model.ErrMismatch)
	case !(c.Eps > 0):
		return fmt.Errorf("config: layer_norm_epsilon %g must be positive: %w", c.Eps, model.ErrMismatch)
	}
	name, gated := strings.CutPrefix(c.FeedForward, "gated-")
	if c.gated = gated; gated && name == "gelu" {
		name = "gelu_new" // as transformers reads it, for the first checkpoints of version 1.1
	}
	if c.DenseAct != nil {
		name = *c.DenseAct
	}
	if c.GatedAct != nil {
		c.gated = *c.GatedAct
	}
	var ok bool
	if c.act, ok = nn.ActivationByName(name); !ok {
		return fmt.Errorf("config: activation %q of feed_forward_proj %q: %w", name, c.FeedForward, model.ErrUnsupported)
	}
	return c.dropout().Check()
}

func (c *Config) dropout() model.Dropout {
	return model.Dropout{"dropout_rate": c.Dropout, "classifier_dropout": c.ClassifierDropout}
}

// scaled says that the decoder's output is multiplied by d_model^-0.5 before the
// output embedding: in the models of 2019, which use the input embedding there.
func (c *Config) scaled() bool {
	if c.ScaleOutputs != nil {
		return *c.ScaleOutputs
	}
	return c.TieWordEmbeddings == nil || *c.TieWordEmbeddings
}

// inner is the number of features of all heads.
func (c *Config) inner() int { return c.NumHeads * c.DKV }
