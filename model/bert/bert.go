// Package bert is the BERT family of encoders: BERT, MiniLM, the BERTs of other
// languages, BGE, E5 and GTE, and everything else whose config.json says
// BertModel or BertFor... with absolute positions.
//
// The network, its tasks and what is left out are described in package encoder.
// A checkpoint of the bare BertModel is read as bert.* of a task's model, and
// norms with the old names gamma and beta are known. Sequence classification
// reads the pooler; one that the checkpoint lacks is drawn, and then trained and
// saved with the head.
package bert

import (
	"encoding/json"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/encoder"
	"github.com/peftkit/peftkit/nn"
)

func init() {
	model.Register(encoder.New(encoder.Spec{
		Name:           "bert",
		Types:          []string{"bert"},
		Classes:        []string{"Bert"},
		Base:           "bert",
		Embeddings:     []string{"word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm"},
		Layers:         "encoder.layer",
		Layer:          encoder.BERTLayer,
		Attention:      "attention.self",
		AttentionOut:   "attention.output",
		FeedForwardOut: "output",
		Head:           encoder.Head{Dense: "bert.pooler.dense", Pooled: true, Act: nn.Tanh, Out: "classifier", Modules: []string{"classifier"}},
		Unused:         []string{"cls.", "qa_outputs."},
		Config: func(raw json.RawMessage) (*encoder.Config, error) {
			c, err := encoder.ParseBERT(raw, 0)
			if err != nil {
				return nil, err
			}
			return c.Config(), nil
		},
		Write: encoder.WriteBERT,
		GGUF:  func(types, bytesOrPieces bool) bool { return types && !bytesOrPieces },
	}))
}
