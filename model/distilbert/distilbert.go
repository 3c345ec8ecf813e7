// Package distilbert is the DistilBERT family of encoders: BERT's network with
// half of the layers, without token types and without a pooler.
//
// Sequence classification has a head of two layers, pre_classifier and
// classifier, with a ReLU between them. HF PEFT finds both by the one name
// "classifier" in modules_to_save, which it compares with the ends of paths. The
// network, its tasks and what is left out are described in package encoder.
//
// llama.cpp computes classifiers with tanh where this one has ReLU, so a GGUF
// file holds the head but does not ask for ranking.
package distilbert

import (
	"encoding/json"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/encoder"
	"github.com/peftkit/peftkit/nn"
)

func init() {
	model.Register(encoder.New(encoder.Spec{
		Name:       "distilbert",
		Types:      []string{"distilbert"},
		Classes:    []string{"DistilBert"},
		Base:       "distilbert",
		Embeddings: []string{"word_embeddings", "position_embeddings", "LayerNorm"},
		Layers:     "transformer.layer",
		Layer: [8]string{"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
			"ffn.lin1", "ffn.lin2", "output_layer_norm"},
		Attention:      "attention",
		AttentionOut:   "attention",
		FeedForwardOut: "ffn",
		Head: encoder.Head{Dense: "pre_classifier", Act: nn.ReLU, Out: "classifier",
			Modules: []string{"pre_classifier", "classifier"}},
		Unused: []string{"vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "qa_outputs."},
		Config: parse,
		Write:  write,
		GGUF:   func(types, _ bool) bool { return !types },
	}))
}

// Config is the part of config.json that the network depends on, with
// transformers' names and defaults (DistilBertConfig). Its norms have a fixed
// epsilon. sinusoidal_pos_embds only says how the stored table began.
type Config struct {
	VocabSize             int     `json:"vocab_size"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"`
	NLayers               int     `json:"n_layers"`
	NHeads                int     `json:"n_heads"`
	Dim                   int     `json:"dim"`
	HiddenDim             int     `json:"hidden_dim"`
	Activation            string  `json:"activation"`
	InitializerRange      float64 `json:"initializer_range"`
	PadTokenID            int     `json:"pad_token_id"`
	Dropout               float64 `json:"dropout"`
	AttentionDropout      float64 `json:"attention_dropout"`
	SeqClassifDropout     float64 `json:"seq_classif_dropout"`
}

// eps is the epsilon of every norm.
const eps = 1e-12

func parse(raw json.RawMessage) (*encoder.Config, error) {
	c := Config{
		VocabSize: 30522, MaxPositionEmbeddings: 512, NLayers: 6, NHeads: 12, Dim: 768, HiddenDim: 3072,
		Activation: "gelu", InitializerRange: 0.02,
		Dropout: 0.1, AttentionDropout: 0.1, SeqClassifDropout: 0.2,
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	return &encoder.Config{
		Vocab: c.VocabSize, Hidden: c.Dim, FFN: c.HiddenDim, Layers: c.NLayers, Heads: c.NHeads,
		Positions: c.MaxPositionEmbeddings, Padding: c.PadTokenID, Act: c.Activation, Eps: eps, Init: c.InitializerRange,
		Dropout:  encoder.Dropout{Hidden: c.Dropout, Attention: c.AttentionDropout, Sequence: c.SeqClassifDropout, Token: c.Dropout},
		Dropouts: model.Dropout{"dropout": c.Dropout, "attention_dropout": c.AttentionDropout, "seq_classif_dropout": c.SeqClassifDropout},
		Keys: encoder.Keys{
			Vocab: "vocab_size", Hidden: "dim", FFN: "hidden_dim", Layers: "n_layers", Heads: "n_heads",
			Positions: "max_position_embeddings", Act: "activation",
		},
	}, nil
}

func write(c *encoder.Config, put func(key string, v any)) {
	put("activation", c.Act)
	put("attention_dropout", 0.1)
	put("dim", c.Hidden)
	put("dropout", 0.1)
	put("hidden_dim", c.FFN)
	put("initializer_range", c.Init)
	put("max_position_embeddings", c.Positions)
	put("n_heads", c.Heads)
	put("n_layers", c.Layers)
	if c.Padding >= 0 {
		put("pad_token_id", c.Padding)
	}
	put("vocab_size", c.Vocab)
}
