package encoder

import (
	"encoding/json"
	"fmt"

	"github.com/peftkit/peftkit/model"
)

// BERTLayer are the modules of a layer in families with BERT's names.
var BERTLayer = [8]string{
	"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
	"intermediate.dense", "output.dense", "output.LayerNorm",
}

// BERT is the part of config.json that the network depends on, with transformers'
// names and defaults (BertConfig), in families that have its keys.
type BERT struct {
	VocabSize             int     `json:"vocab_size"`
	HiddenSize            int     `json:"hidden_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	IntermediateSize      int     `json:"intermediate_size"`
	HiddenAct             string  `json:"hidden_act"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"`
	TypeVocabSize         int     `json:"type_vocab_size"`
	InitializerRange      float64 `json:"initializer_range"`
	LayerNormEps          float64 `json:"layer_norm_eps"`
	PadTokenID            int     `json:"pad_token_id"`
	IsDecoder             bool    `json:"is_decoder"`
	AddCrossAttention     bool    `json:"add_cross_attention"`

	HiddenDropout     float64  `json:"hidden_dropout_prob"`
	AttentionDropout  float64  `json:"attention_probs_dropout_prob"`
	ClassifierDropout *float64 `json:"classifier_dropout"` // nil is HiddenDropout
}

// ParseBERT reads config.json of BERT and of families that have its keys. pad is
// the family's default of pad_token_id.
func ParseBERT(raw json.RawMessage, pad int) (*BERT, error) {
	c := &BERT{
		VocabSize: 30522, HiddenSize: 768, NumHiddenLayers: 12, NumAttentionHeads: 12, IntermediateSize: 3072, HiddenAct: "gelu",
		MaxPositionEmbeddings: 512, TypeVocabSize: 2, InitializerRange: 0.02, LayerNormEps: 1e-12, PadTokenID: pad,
		HiddenDropout: 0.1, AttentionDropout: 0.1,
	}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, err
	}
	switch {
	case c.IsDecoder || c.AddCrossAttention:
		return nil, fmt.Errorf("is_decoder %v, add_cross_attention %v: %w; the model is computed as an encoder", c.IsDecoder, c.AddCrossAttention, model.ErrUnsupported)
	case c.TypeVocabSize < 1:
		return nil, fmt.Errorf("type_vocab_size is %d, expected 1 or more: %w", c.TypeVocabSize, model.ErrMismatch)
	}
	return c, nil
}

// Config returns what the engine wants to know.
func (c *BERT) Config() *Config {
	drop := model.Dropout{"hidden_dropout_prob": c.HiddenDropout, "attention_probs_dropout_prob": c.AttentionDropout}
	head := c.HiddenDropout
	if c.ClassifierDropout != nil {
		head = *c.ClassifierDropout
		drop["classifier_dropout"] = head
	}
	return &Config{
		Vocab: c.VocabSize, Hidden: c.HiddenSize, FFN: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads,
		Positions: c.MaxPositionEmbeddings, Padding: c.PadTokenID, Types: c.TypeVocabSize,
		Act: c.HiddenAct, Eps: c.LayerNormEps, Init: c.InitializerRange,
		Dropout: Dropout{Hidden: c.HiddenDropout, AttentionOut: c.HiddenDropout, Attention: c.AttentionDropout, Sequence: head, Token: head}, Dropouts: drop,
		Keys: Keys{
			Vocab: "vocab_size", Hidden: "hidden_size", FFN: "intermediate_size", Layers: "num_hidden_layers", Heads: "num_attention_heads",
			Positions: "max_position_embeddings", Act: "hidden_act", Types: "type_vocab_size",
		},
	}
}

// WriteBERT gives the keys that ParseBERT reads to put.
func WriteBERT(c *Config, put func(key string, v any)) {
	put("attention_probs_dropout_prob", 0.1)
	put("hidden_act", c.Act)
	put("hidden_dropout_prob", 0.1)
	put("hidden_size", c.Hidden)
	put("initializer_range", c.Init)
	put("intermediate_size", c.FFN)
	put("layer_norm_eps", c.Eps)
	put("max_position_embeddings", c.Positions)
	put("num_attention_heads", c.Heads)
	put("num_hidden_layers", c.Layers)
	if c.Padding >= 0 {
		put("pad_token_id", c.Padding)
	}
	put("position_embedding_type", "absolute")
	put("type_vocab_size", c.Types)
	put("vocab_size", c.Vocab)
}
