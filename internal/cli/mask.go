package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/tokenizer"
)

// maskedLine is the JSON of one sequence of tokenize --mask.
type maskedLine struct {
	File   string  `json:"file"`
	Line   int     `json:"line"`
	Tokens []int32 `json:"tokens"`
	// Labels are the tokens that are trained, -100 for the others.
	Labels []int32 `json:"labels"`
	// Weights of the labels in the loss, left out when all are 1.
	Weights []float32 `json:"weights,omitempty"`
}

// shownRecords is how many records tokenize --mask shows a person.
const shownRecords = 10

// printMasks shows what of a data set is trained. limit is the number of records, 0
// for all.
func (a *app) printMasks(tok *tokenizer.Tokenizer, ds *data.Dataset, limit int, asJSON bool) error {
	all := ds.RecordCount()
	if limit > 0 {
		ds.First(limit)
	}
	for i := range ds.Examples {
		ex := &ds.Examples[i]
		if asJSON {
			if err := printJSONLine(a.out, maskedLine{ex.File, ex.Line, ex.Tokens, ex.Labels, ex.Weights}); err != nil {
				return err
			}
			continue
		}
		head := fmt.Sprintf("%s:%d  %d tokens, %d trained", ex.File, ex.Line, len(ex.Tokens), ex.Trained())
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintln(a.out, a.out.paint(dim, head))
		fmt.Fprintln(a.out, strings.TrimRight(a.maskText(tok, ex), "\n"))
	}
	for _, n := range ds.Stats.Notes() {
		a.warn("%s", n)
	}
	if limit > 0 && limit < all {
		fmt.Fprintf(a.err, "\n%d of %d records shown (--limit 0 shows all)\n", limit, all)
	}
	return nil
}

// maskText writes a sequence with the trained tokens in brackets, coloured where the
// output has colours. A weight stands behind the opening bracket.
func (a *app) maskText(tok *tokenizer.Tokenizer, ex *data.Example) string {
	kind := func(i int) (trained bool, weight float32) {
		if ex.Labels[i] == data.Ignore {
			return false, 1
		}
		if ex.Weights != nil {
			return true, ex.Weights[i]
		}
		return true, 1
	}
	var b strings.Builder
	for start := 0; start < len(ex.Tokens); {
		trained, weight := kind(start)
		end := start + 1
		for end < len(ex.Tokens) {
			if t, w := kind(end); t != trained || w != weight {
				break
			}
			end++
		}
		text := piece(tok, ex.Tokens, start, end)
		switch {
		case trained && weight != 1:
			text = a.out.paint(yellow, fmt.Sprintf("[%g:%s]", weight, text))
		case trained:
			text = a.out.paint(green, "["+text+"]")
		}
		b.WriteString(text)
		start = end
	}
	return b.String()
}

// piece is the text of some of the tokens, as they stand in the whole.
func piece(tok *tokenizer.Tokenizer, ids []int32, start, end int) string {
	before, with := tok.DecodeAll(ids[:start]), tok.DecodeAll(ids[:end])
	if rest, ok := strings.CutPrefix(with, before); ok {
		return rest
	}
	return tok.DecodeAll(slices.Clone(ids[start:end])) // a character lies across the border
}
