package data

import (
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer/chat"
)

// encoder turns records into examples. It is used by one goroutine at a time.
type encoder struct {
	o      Options
	eos    int32
	hasEOS bool
	// closes says that the tokenizer itself ends a text with EOS.
	closes bool
	tmpl   *chat.Template // nil when the model has none
	// frame and word serve the other tasks.
	frame Framer
	word  func(word string) []int32
	// tasked says that records name their tasks.
	tasked bool
	// parts says for a role whether the template knows contents in parts.
	parts map[string]bool
}

func newEncoder(o Options) (*encoder, error) {
	e := &encoder{o: o, parts: map[string]bool{}}
	e.eos, e.hasEOS = o.Tokenizer.EOS()
	if around := o.Tokenizer.Encode("", true); e.hasEOS && len(around) > 0 {
		bos, hasBOS := o.Tokenizer.BOS()
		// A lone token that is BOS and EOS at once stands in front.
		e.closes = around[len(around)-1] == e.eos && !(len(around) == 1 && hasBOS && bos == e.eos)
	}
	if o.Task != model.CausalLM {
		e.frame = o.Tokenizer.(Framer) // checked with the options
		e.word = wordEncoder(o.Tokenizer)
		return e, nil
	}
	source := o.ChatTemplate
	if source == "" {
		source = o.Tokenizer.ChatTemplate()
	}
	if source == "" {
		return e, nil
	}
	name := func(id int32, ok bool) string {
		if !ok {
			return ""
		}
		return o.Tokenizer.Token(id)
	}
	t, err := chat.New(source, name(o.Tokenizer.BOS()), name(e.eos, e.hasEOS))
	if err != nil {
		return nil, &templateError{err}
	}
	e.tmpl = t
	return e, nil
}

// encode returns the examples of a record.
func (e *encoder) encode(r *Record) (res result, err error) {
	switch {
	case e.o.Task != model.CausalLM:
		return e.sequence(r)
	case r.Kind == Completion && !r.spoken() && !e.o.Chat && !r.Chat:
		res = e.completion(r.Prompt, r.Completion)
	case r.Kind == Instruction && e.tmpl == nil && !e.o.Chat && !r.Chat:
		res = e.completion(exercisePrompt(r), r.Output)
	case r.Kind == Text:
		res = e.text(r.Text)
	default:
		if res, err = e.chat(r); err != nil {
			return result{}, r.at(err)
		}
	}
	for i := range res.examples {
		ex := &res.examples[i]
		ex.File, ex.Line, ex.More = r.File, r.Line, i < len(res.examples)-1
	}
	return res, nil
}

// spoken reports whether the record itself is in messages, those of a history aside.
func (r *Record) spoken() bool { return len(r.Messages) > r.history }

// exercisePrompt is the prompt of an instruction for a model without a chat
// template, with the headings of the Alpaca data set.
func exercisePrompt(r *Record) string {
	var b strings.Builder
	for _, part := range []struct{ heading, text string }{{"", r.System}, {"### Instruction:\n", r.Instruction}, {"### Input:\n", r.Input}} {
		if part.text != "" {
			b.WriteString(part.heading + part.text + "\n\n")
		}
	}
	b.WriteString("### Response:\n")
	return b.String()
}

// whole tokenizes a text with what the tokenizer adds around it, and ends it with EOS.
func (e *encoder) whole(text string) []int32 {
	ids := e.o.Tokenizer.Encode(text, true)
	if e.hasEOS && (len(ids) == 0 || ids[len(ids)-1] != e.eos || (len(ids) == 1 && text == "")) {
		ids = append(ids, e.eos)
	}
	return ids
}

func (e *encoder) text(s string) result {
	ex := Example{Tokens: e.whole(s)}
	ex.label([]span{{0, len(ex.Tokens), 1}})
	ex.TrainFirst = len(ex.Tokens) > 0
	return result{examples: []Example{ex}}
}

// completion lays prompt and completion end to end as plain text.
func (e *encoder) completion(prompt, completion string) result {
	ex := Example{Tokens: e.whole(prompt + completion)}
	p := e.o.Tokenizer.Encode(prompt, true)
	if e.closes {
		p = p[:len(p)-1]
	}
	n := commonPrefix(p, ex.Tokens)
	start := n
	if e.o.TrainOn == Everything {
		start = 0
	}
	ex.label([]span{{start, len(ex.Tokens), 1}})
	ex.TrainFirst = start == 0 && len(ex.Tokens) > 0
	merged := n < len(p)
	return result{examples: []Example{ex}, merged: merged, spaced: merged && strings.HasSuffix(prompt, " ")}
}

// tokenAt returns the number of tokens that lie wholly before a byte offset of
// the text; split says that a token spans the offset.
func (e *encoder) tokenAt(text string, offset int, ids []int32) (n int, split bool) {
	if offset >= len(text) {
		return len(ids), false
	}
	p := e.o.Tokenizer.Encode(text[:offset], false)
	n = commonPrefix(p, ids)
	return n, n < len(p)
}

// span is a range of tokens and what each of them counts.
type span struct {
	start, end int
	weight     float32
}

// label trains the tokens of the spans; of several that cover a token the last counts.
func (e *Example) label(spans []span) {
	e.Labels = slices.Repeat([]int32{Ignore}, len(e.Tokens))
	for _, s := range spans {
		for i := s.start; i < s.end; i++ {
			if e.Labels[i] = e.Tokens[i]; s.weight == 0 {
				e.Labels[i] = Ignore
			}
			if s.weight != 1 && e.Weights == nil {
				e.Weights = slices.Repeat([]float32{1}, len(e.Tokens))
			}
			if e.Weights != nil {
				e.Weights[i] = s.weight
			}
		}
	}
	if len(e.Labels) > 0 {
		e.Labels[0] = Ignore
	}
	e.tidy()
}

// tidy leaves weights out that are 1 wherever a token is trained.
func (e *Example) tidy() {
	for i, w := range e.Weights {
		if w != 1 && e.Labels[i] != Ignore {
			return
		}
	}
	e.Weights = nil
}

func commonPrefix(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
