package decoder

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Head describes the heads of a decoder's tasks.
type Head struct {
	Family string
	// Embed is the input embedding, LM the path of the output embedding.
	Embed *nn.Weight
	LM    string
	Tied  bool
	// Cap bounds the logits of the language model, 0 for no bound.
	Cap float32
	// Sequence and Token are the paths of the classifiers' last layers; that of
	// sequences never has a bias.
	Sequence, Token string
	TokenBias       bool
	Hidden          int
	// Sigma is the deviation of a new classifier (initializer_range).
	Sigma float64
}

// Build adds the head of the task to a model whose other modules are complete.
func (h Head) Build(m *model.Model, o model.Options) error {
	switch o.Task {
	case model.CausalLM, "":
		return h.language(m, o)
	case model.SequenceClassification:
		return h.classifier(m, o, h.Sequence, false)
	case model.TokenClassification:
		return h.classifier(m, o, h.Token, h.TokenBias)
	}
	return o.Refuse(h.Family, model.CausalLM, model.SequenceClassification, model.TokenClassification)
}

func (h Head) language(m *model.Model, o model.Options) error {
	w, err := m.LoadWeight(h.LM + ".weight")
	if err != nil {
		return err
	}
	switch {
	case h.Tied:
		w = h.Embed
	case w == nil && o.Task == "":
		return o.Refuse(h.Family, model.CausalLM, model.SequenceClassification, model.TokenClassification)
	case w == nil:
		return fmt.Errorf("%s.weight is missing, and tie_word_embeddings is false: %w", h.LM, model.ErrMismatch)
	}
	m.Head = &nn.LinearLayer{Path: h.LM, W: w, Cap: h.Cap}
	m.Modules = append(m.Modules, &model.Module{Path: h.LM, Linear: m.Head, Output: true})
	return nil
}

func (h Head) classifier(m *model.Model, o model.Options, path string, bias bool) error {
	m.TiedHead = false
	w, err := m.HeadWeight(o, path+".weight", h.Sigma, len(o.Labels), h.Hidden)
	if err != nil {
		return err
	}
	m.Head = &nn.LinearLayer{Path: path, W: w}
	if bias {
		if m.Head.Bias, err = m.HeadWeight(o, path+".bias", 0, len(o.Labels)); err != nil {
			return err
		}
	}
	m.Modules = append(m.Modules, &model.Module{Path: path, Linear: m.Head, Head: true})
	m.HeadModules = []string{path}
	return nil
}

// TokenDropout returns the share that training leaves out of what a token
// classifier reads: classifier_dropout, else hidden_dropout, else transformers'
// default of 0.1.
func TokenDropout(classifier, hidden *float64) float64 {
	switch {
	case classifier != nil:
		return *classifier
	case hidden != nil:
		return *hidden
	}
	return 0.1
}

// LastRows returns the row of each sequence that a classifier of sequences reads:
// as in transformers that of the last token that is not padding, nil for none, and
// the first row where all are. Where a method has put rows before the tokens
// transformers does not see them and takes the last.
func LastRows(t *nn.Tape, x *nn.Var, in *model.Rows, padding *int32) *nn.Var {
	rows := make([]int32, len(in.Seqs))
	for i, s := range in.Seqs {
		last := s.End - 1
		if padding != nil && in.Tokens() {
			for last > s.Start && in.Batch.Tokens[last] == *padding {
				last--
			}
		}
		rows[i] = int32(last)
	}
	return nn.GatherRows(t, x, rows)
}
