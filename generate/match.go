package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer"
)

// ErrNoAnswers says that a data set has no prompts with answers.
var ErrNoAnswers = errors.New("no prompts with answers")

// Match compares one greedy answer with the one in the data.
type Match struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Prompt is the end of what the model saw, Want and Got are the answers
	// without white space around them.
	Prompt string `json:"prompt"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	Equal  bool   `json:"equal"`
}

// MatchResult is the outcome of ExactMatch.
type MatchResult struct {
	Examples int `json:"examples"`
	Equal    int `json:"equal"`
}

// Score returns the share of equal answers.
func (r *MatchResult) Score() float64 { return float64(r.Equal) / float64(max(1, r.Examples)) }

// ExactMatch lets the model answer the last question of each example greedily
// and counts the answers whose text is that of the example, white space around
// both aside. each, when not nil, sees every one.
func ExactMatch(ctx context.Context, m *model.Model, tok *tokenizer.Tokenizer, ds *data.Dataset, each func(Match)) (*MatchResult, error) {
	if ds.Stats.Kind == data.Text {
		return nil, fmt.Errorf("exact match: %w: the data set is plain text; it needs prompt and completion, or messages", ErrNoAnswers)
	}
	r := &MatchResult{}
	stop := tok.EOGs()
	for i := range ds.Examples {
		ex := &ds.Examples[i]
		start, end := lastAnswer(ex)
		if start < 1 {
			continue
		}
		want := ex.Tokens[start:end]
		if at := slices.IndexFunc(want, func(id int32) bool { return slices.Contains(stop, id) }); at >= 0 {
			want = want[:at]
		}
		// Twice the length leaves room for the same text in other tokens.
		text, _, err := Text(ctx, m, tok, ex.Tokens[:start], Options{MaxTokens: 2*len(want) + 8, Stop: stop}, nil)
		if err != nil {
			return r, fmt.Errorf("%s:%d: %w", ex.File, ex.Line, err)
		}
		c := Match{File: ex.File, Line: ex.Line, Want: strings.TrimSpace(tok.Decode(want)), Got: strings.TrimSpace(text)}
		if c.Equal = c.Want == c.Got; c.Equal {
			r.Equal++
		}
		r.Examples++
		if each != nil {
			c.Prompt = tok.Decode(ex.Tokens[:start])
			each(c)
		}
	}
	if r.Examples == 0 {
		return nil, fmt.Errorf("exact match: %w", ErrNoAnswers)
	}
	return r, nil
}

// lastAnswer returns the last run of labelled tokens, start -1 when there is none.
func lastAnswer(ex *data.Example) (start, end int) {
	end = len(ex.Labels)
	for end > 0 && ex.Labels[end-1] == data.Ignore {
		end--
	}
	for start = end; start > 0 && ex.Labels[start-1] != data.Ignore; start-- {
	}
	if start == end {
		return -1, -1
	}
	return start, end
}
