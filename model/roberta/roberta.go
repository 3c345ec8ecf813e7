// Package roberta is the RoBERTa family of encoders: RoBERTa, XLM-RoBERTa and
// CamemBERT, whose modules have the same names under three classes.
//
// It differs from BERT in that positions count from pad_token_id + 1, and in the
// head of sequence classification, which has a dense layer of its own
// (classifier.dense, classifier.out_proj) and leaves the pooler alone. The
// network, its tasks and what is left out are described in package encoder.
//
// GGUF files do not store the position rows that are never used; a file that is
// read back has zeros there.
package roberta

import (
	"encoding/json"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/encoder"
	"github.com/peftkit/peftkit/nn"
)

// defaultPad is RobertaConfig's pad_token_id.
const defaultPad = 1

func init() {
	model.Register(encoder.New(encoder.Spec{
		Name:           "roberta",
		Types:          []string{"roberta", "xlm-roberta", "camembert"},
		Classes:        []string{"Roberta", "XLMRoberta", "Camembert"},
		Base:           "roberta",
		Embeddings:     []string{"word_embeddings", "token_type_embeddings", "LayerNorm", "position_embeddings"},
		Layers:         "encoder.layer",
		Layer:          encoder.BERTLayer,
		Attention:      "attention.self",
		AttentionOut:   "attention.output",
		FeedForwardOut: "output",
		Head:           encoder.Head{Dense: "classifier.dense", Act: nn.Tanh, Out: "classifier.out_proj", Modules: []string{"classifier"}},
		Unused:         []string{"lm_head.", "qa_outputs.", "roberta.pooler."},
		Config: func(raw json.RawMessage) (*encoder.Config, error) {
			c, err := encoder.ParseBERT(raw, defaultPad)
			if err != nil {
				return nil, err
			}
			e := c.Config()
			e.Offset = e.Padding + 1
			e.Dropout.Dense = e.Dropout.Sequence
			return e, nil
		},
		Write: func(c *encoder.Config, put func(key string, v any)) {
			full := *c
			if full.Padding < 0 {
				full.Padding = defaultPad
			}
			full.Positions += full.Padding + 1
			encoder.WriteBERT(&full, put)
		},
		GGUF: func(types, bytesOrPieces bool) bool { return types && bytesOrPieces },
	}))
}
