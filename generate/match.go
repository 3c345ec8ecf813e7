package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tokenizer"
)

// ErrNoAnswers says that a data set has no prompts with answers.
var ErrNoAnswers = errors.New("no prompts with answers")

// Match compares one greedy answer with the one in the data.
type Match struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Prompt is what the model saw, without special tokens; Want and Got are the answers
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
// both aside. each, when not nil, sees every one, in order.
//
// Examples whose every token is the likeliest after those before it are found in
// batches, without writing them; only the others are written out.
func ExactMatch(ctx context.Context, m *model.Model, tok *tokenizer.Tokenizer, ds *data.Dataset, each func(Match)) (*MatchResult, error) {
	if ds.Stats.Kind == data.Text {
		return nil, fmt.Errorf("exact match: %w: the data set is plain text; it needs prompt and completion, or messages", ErrNoAnswers)
	}
	r := &MatchResult{}
	s := &scorer{m: m, tok: tok, target: tok, stop: tok.EOGs(), tape: nn.NewTape()}
	defer s.tape.Close()
	if m.EncoderDecoder() {
		s.target = tok.Target()
		s.stop = s.target.EOGs()
		return r, s.translate(ctx, ds, r, each)
	}
	var err error
	if s.plan, err = newPlan(m, Options{Stop: s.stop}); err != nil {
		return nil, err
	}
	for at := 0; at < len(ds.Examples); {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		var group []task
		for rows := 0; at < len(ds.Examples); at++ {
			t, ok := s.task(&ds.Examples[at])
			if !ok {
				continue
			}
			if rows += t.end; rows > scoreTokens && len(group) > 0 {
				break
			}
			group = append(group, t)
		}
		if len(group) == 0 {
			break
		}
		if err := s.certain(group); err != nil {
			return r, err
		}
		for i := range group {
			c, err := s.match(ctx, &group[i])
			if err != nil {
				return r, fmt.Errorf("%s:%d: %w", c.File, c.Line, err)
			}
			r.count(c, each)
		}
	}
	if r.Examples == 0 {
		return nil, fmt.Errorf("exact match: %w", ErrNoAnswers)
	}
	return r, nil
}

func (r *MatchResult) count(c Match, each func(Match)) {
	if r.Examples++; c.Equal {
		r.Equal++
	}
	if each != nil {
		each(c)
	}
}

// translate writes the answers of an encoder-decoder model, a group at a time.
func (s *scorer) translate(ctx context.Context, ds *data.Dataset, r *MatchResult, each func(Match)) error {
	for at := 0; at < len(ds.Examples); {
		var group []task
		var prompts [][]int32
		o := Options{Stop: s.stop}
		for tokens := 0; at < len(ds.Examples) && tokens < groupTokens; at++ {
			ex := &ds.Examples[at]
			t, ok := s.task(ex)
			if !ok || len(ex.Source) == 0 {
				continue
			}
			group, prompts, o.tasks = append(group, t), append(prompts, ex.Source), append(o.tasks, ex.Task)
			tokens += len(ex.Source)
			o.MaxTokens = max(o.MaxTokens, 2*(t.end-t.start)+8)
		}
		if len(group) == 0 {
			break
		}
		written, err := Batch(ctx, s.m, prompts, o)
		if err != nil {
			return err
		}
		for i, t := range group {
			c := Match{File: t.ex.File, Line: t.ex.Line, Prompt: s.tok.Decode(t.ex.Source)}
			c.Want = strings.TrimSpace(s.target.Decode(t.ex.Tokens[t.start:t.end]))
			c.Got = strings.TrimSpace(s.target.Decode(written[i].Tokens))
			c.Equal = c.Want == c.Got
			r.count(c, each)
		}
	}
	if r.Examples == 0 {
		return fmt.Errorf("exact match: %w", ErrNoAnswers)
	}
	return nil
}

// scoreTokens is about how many tokens go through the network at once;
// scoreLogits is about how many logits are held.
const (
	scoreTokens = 1024
	scoreLogits = 4 << 20
)

// task is one answer to be compared: tokens start to end of an example, without
// the token that ends it.
type task struct {
	ex         *data.Example
	start, end int
	ends       bool // a stop token follows
	equal      bool // greedy writing gives exactly these tokens
}

type scorer struct {
	*plan
	m *model.Model
	// target is the tokenizer of answers.
	tok, target *tokenizer.Tokenizer
	stop        []int32
	tape        *nn.Tape
}

func (s *scorer) task(ex *data.Example) (t task, ok bool) {
	start, end := lastAnswer(ex)
	if start < 1 {
		return t, false
	}
	t = task{ex: ex, start: start, end: end}
	if at := slices.IndexFunc(ex.Tokens[start:end], s.stops); at >= 0 {
		t.end, t.ends = start+at, true
	}
	return t, true
}

func (s *scorer) stops(id int32) bool { return slices.Contains(s.stop, id) }

// certain sets equal where every token of the answer, and a stop after it, is
// the likeliest after what the example has before it.
func (s *scorer) certain(group []task) error {
	b := &model.Batch{}
	var rows []int32 // those that predict the answers and what follows them
	for _, t := range group {
		if err := s.check(t.ex.Tokens[:t.end]); err != nil {
			return fmt.Errorf("%s:%d: %w", t.ex.File, t.ex.Line, err)
		}
		at := len(b.Tokens)
		b.Tokens = append(b.Tokens, t.ex.Tokens[:t.end]...)
		b.Seqs = append(b.Seqs, nn.Span{Start: at, End: len(b.Tokens)})
		b.Tasks = append(b.Tasks, t.ex.Task)
		for i := range t.end {
			b.Pos = append(b.Pos, int32(i))
			if i >= t.start-1 {
				rows = append(rows, int32(at+i))
			}
		}
	}
	best := s.likeliest(b, rows)
	for i := range group {
		t := &group[i]
		n := t.end - t.start
		t.equal = t.ends && slices.Equal(best[:n], t.ex.Tokens[t.start:t.end]) && s.stops(best[n])
		best = best[n+1:]
	}
	return nil
}

// likeliest returns the token of the highest logit for each of the rows.
func (s *scorer) likeliest(b *model.Batch, rows []int32) []int32 {
	s.tape.Reset()
	h := nn.GatherRows(s.tape, s.m.Hidden(s.tape, b), rows)
	// Out of the tape, so that it can be reset between chunks of logits.
	hidden, width := slices.Clone(h.Mat().Data), h.Cols
	out := make([]int32, len(rows))
	chunk := max(1, scoreLogits/s.m.VocabSize)
	for r0 := 0; r0 < len(rows); r0 += chunk {
		r1 := min(r0+chunk, len(rows))
		s.tape.Reset()
		logits := s.m.Head.Forward(s.tape, &nn.Var{Rows: r1 - r0, Cols: width, Data: hidden[r0*width : r1*width]}).Mat()
		for r := r0; r < r1; r++ {
			out[r] = argmax(logits.Row(r - r0))
		}
	}
	return out
}

// match writes the answer of a task, unless it is known, and compares.
func (s *scorer) match(ctx context.Context, t *task) (Match, error) {
	prompt, want := t.ex.Tokens[:t.start], t.ex.Tokens[t.start:t.end]
	c := Match{File: t.ex.File, Line: t.ex.Line, Prompt: s.tok.Decode(prompt), Want: strings.TrimSpace(s.text(prompt, want))}
	if t.equal {
		c.Got, c.Equal = c.Want, true
		return c, nil
	}
	// Twice the length leaves room for the same text in other tokens.
	text, _, err := Text(ctx, s.m, s.tok, prompt, Options{MaxTokens: 2*len(want) + 8, Stop: s.stop, Task: t.ex.Task}, nil)
	c.Got = strings.TrimSpace(text)
	c.Equal = err == nil && c.Want == c.Got
	return c, err
}

// text decodes tokens as they stand behind a prompt.
func (s *scorer) text(prompt, ids []int32) string {
	d := behind(s.tok, prompt)
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(d.Push(id))
	}
	b.WriteString(d.Flush())
	return b.String()
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
