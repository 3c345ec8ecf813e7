package bart

import (
	"encoding/json"
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Config is the part of config.json that the network depends on, with the names
// and defaults of transformers' BartConfig, MBartConfig and MarianConfig.
type Config struct {
	VocabSize             int            `json:"vocab_size"`
	DecoderVocabSize      int            `json:"decoder_vocab_size"` // Marian; 0 is vocab_size
	MaxPositionEmbeddings int            `json:"max_position_embeddings"`
	DModel                int            `json:"d_model"`
	EncoderLayers         int            `json:"encoder_layers"`
	EncoderFFN            int            `json:"encoder_ffn_dim"`
	EncoderHeads          int            `json:"encoder_attention_heads"`
	DecoderLayers         int            `json:"decoder_layers"`
	DecoderFFN            int            `json:"decoder_ffn_dim"`
	DecoderHeads          int            `json:"decoder_attention_heads"`
	Activation            string         `json:"activation_function"`
	ScaleEmbedding        bool           `json:"scale_embedding"`
	TieWordEmbeddings     bool           `json:"tie_word_embeddings"`
	ShareEmbeddings       bool           `json:"share_encoder_decoder_embeddings"` // Marian
	NormalizeBefore       *bool          `json:"normalize_before"`                 // of configurations before 2021
	InitStd               float64        `json:"init_std"`
	PAD                   *int32         `json:"pad_token_id"`
	EOS                   model.TokenIDs `json:"eos_token_id"`
	Start                 *int32         `json:"decoder_start_token_id"`
	Dropout               float64        `json:"dropout"`
	AttentionDropout      float64        `json:"attention_dropout"`
	ActivationDropout     float64        `json:"activation_dropout"`
	ClassifierDropout     float64        `json:"classifier_dropout"`
	EncoderLayerdrop      float64        `json:"encoder_layerdrop"` // of whole layers
	DecoderLayerdrop      float64        `json:"decoder_layerdrop"`

	kind *variant
	act  nn.Activation
}

// Limits that no real model comes near; beyond them a header is absurd.
const (
	maxDim    = 1 << 20
	maxLayers = 1024
	maxVocab  = 1 << 24
)

// parseConfig reads config.json and checks everything the network relies on.
func parseConfig(kind *variant, raw json.RawMessage) (*Config, error) {
	pad, start := kind.pad, kind.start // copies: JSON is decoded into what a pointer points to
	if start != nil {
		first := *start
		start = &first
	}
	c := &Config{
		VocabSize: kind.vocab, MaxPositionEmbeddings: 1024, DModel: 1024, EncoderLayers: 12, EncoderFFN: 4096, EncoderHeads: 16,
		DecoderLayers: 12, DecoderFFN: 4096, DecoderHeads: 16, Activation: "gelu", TieWordEmbeddings: true, ShareEmbeddings: true,
		InitStd: 0.02, PAD: &pad, EOS: model.TokenIDs{kind.eos}, Start: start, Dropout: 0.1, kind: kind,
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("config.json: %w", err)
	}
	if c.DecoderVocabSize == 0 {
		c.DecoderVocabSize = c.VocabSize
	}
	return c, c.check()
}

func (c *Config) check() error {
	for _, d := range []struct {
		name   string
		v, max int
	}{
		{"vocab_size", c.VocabSize, maxVocab}, {"decoder_vocab_size", c.DecoderVocabSize, maxVocab},
		{"max_position_embeddings", c.MaxPositionEmbeddings, 1 << 24}, {"d_model", c.DModel, maxDim},
		{"encoder_layers", c.EncoderLayers, maxLayers}, {"decoder_layers", c.DecoderLayers, maxLayers},
		{"encoder_ffn_dim", c.EncoderFFN, maxDim}, {"decoder_ffn_dim", c.DecoderFFN, maxDim},
		{"encoder_attention_heads", c.EncoderHeads, maxDim}, {"decoder_attention_heads", c.DecoderHeads, maxDim},
	} {
		if d.v < 1 || d.v > d.max {
			return fmt.Errorf("config: %s is %d, expected 1 to %d: %w", d.name, d.v, d.max, model.ErrMismatch)
		}
	}
	if c.DModel%c.EncoderHeads != 0 || c.DModel%c.DecoderHeads != 0 {
		return fmt.Errorf("config: d_model %d is no multiple of %d encoder and %d decoder heads: %w", c.DModel, c.EncoderHeads, c.DecoderHeads, model.ErrMismatch)
	}
	if c.NormalizeBefore != nil && *c.NormalizeBefore != c.kind.preNorm {
		return fmt.Errorf("config: normalize_before %v: %w in the %s family; model_type mbart norms before each block, bart and marian after it", *c.NormalizeBefore, model.ErrUnsupported, c.kind.name)
	}
	if !c.kind.sinusoid {
		c.DecoderVocabSize, c.ShareEmbeddings = c.VocabSize, true
	} else if c.DModel%2 != 0 {
		return fmt.Errorf("config: d_model %d is odd, sinusoidal positions need pairs: %w", c.DModel, model.ErrMismatch)
	}
	if c.ShareEmbeddings && c.DecoderVocabSize != c.VocabSize {
		return fmt.Errorf("config: share_encoder_decoder_embeddings with a vocabulary of %d and one of %d: %w", c.VocabSize, c.DecoderVocabSize, model.ErrMismatch)
	}
	var ok bool
	if c.act, ok = nn.ActivationByName(c.Activation); !ok {
		return fmt.Errorf("config: activation_function %q: %w", c.Activation, model.ErrUnsupported)
	}
	return c.dropout().Check()
}

func (c *Config) dropout() model.Dropout {
	return model.Dropout{
		"dropout": c.Dropout, "attention_dropout": c.AttentionDropout, "activation_dropout": c.ActivationDropout, "classifier_dropout": c.ClassifierDropout,
		"encoder_layerdrop": c.EncoderLayerdrop, "decoder_layerdrop": c.DecoderLayerdrop,
	}
}
