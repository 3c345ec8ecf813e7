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
}

func newEncoder(o Options) (*encoder, error) {
	e := &encoder{o: o}
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

// encode returns the example of a record; merged says that a token spans the
// border of a prompt and an answer.
func (e *encoder) encode(r *Record) (res result, err error) {
	var ex Example
	var merged bool
	switch {
	case e.o.Task != model.CausalLM:
		return e.sequence(r)
	case r.Messages != nil:
		ex, merged, err = e.chat(r.Messages, r.Context)
	case r.Kind == Completion && e.o.Chat:
		ex, merged, err = e.chat([]Message{{Role: "user", Content: r.Prompt}, {Role: "assistant", Content: r.Completion}}, 0)
	case r.Kind == Completion:
		ex, merged = e.completion(r.Prompt, r.Completion)
	case r.Kind == Instruction && (e.tmpl != nil || e.o.Chat):
		ex, merged, err = e.chat(exercise(r), 0)
	case r.Kind == Instruction:
		ex, merged = e.completion(exercisePrompt(r), r.Output)
	default:
		ex = e.text(r.Text)
	}
	ex.File, ex.Line = r.File, r.Line
	if err != nil {
		return result{}, &LineError{File: r.File, Line: r.Line, Err: &templateError{err}}
	}
	return result{ex: ex, merged: merged}, nil
}

// exercise renders an instruction as a chat.
func exercise(r *Record) []Message {
	var out []Message
	if r.System != "" {
		out = append(out, Message{Role: "system", Content: r.System})
	}
	question := r.Instruction
	if r.Input != "" {
		question += "\n" + r.Input
	}
	return append(out, Message{Role: "user", Content: question}, Message{Role: "assistant", Content: r.Output})
}

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

func (e *encoder) text(s string) Example {
	ids := e.whole(s)
	return Example{Tokens: ids, Labels: labels(ids, []span{{0, len(ids)}}), TrainFirst: len(ids) > 0}
}

// completion lays prompt and completion end to end as plain text.
func (e *encoder) completion(prompt, completion string) (Example, bool) {
	ids := e.whole(prompt + completion)
	p := e.o.Tokenizer.Encode(prompt, true)
	if e.closes {
		p = p[:len(p)-1]
	}
	n := commonPrefix(p, ids)
	s := span{n, len(ids)}
	if e.o.TrainOn == Everything {
		s.start = 0
	}
	return Example{Tokens: ids, Labels: labels(ids, []span{s}), TrainFirst: s.start == 0 && len(ids) > 0}, n < len(p)
}

// chat renders messages by the template. Answers among the first context
// messages carry no labels.
func (e *encoder) chat(msgs []Message, context int) (Example, bool, error) {
	if e.tmpl == nil {
		return Example{}, false, errNoTemplate
	}
	if e.o.TrainOn == Everything {
		text, err := e.tmpl.Render(chat.Talk(msgs...), false)
		ids := e.o.Tokenizer.Encode(text, false) // the template writes BOS itself
		return Example{Tokens: ids, Labels: labels(ids, []span{{0, len(ids)}}), TrainFirst: len(ids) > 0}, false, err
	}
	seqs, err := e.tmpl.Sequences(chat.Talk(msgs...), func(int) bool { return true })
	if err != nil {
		return Example{}, false, err
	}
	text := seqs[len(seqs)-1].Text
	var answers [][2]int
	for _, a := range seqs[len(seqs)-1].Answers {
		answers = append(answers, [2]int{a.Start, a.End})
	}
	for _, m := range msgs[:context] {
		if m.Role == "assistant" && len(answers) > 0 {
			answers = answers[1:]
		}
	}
	if e.o.TrainOn == LastAnswer && len(answers) > 1 {
		answers = answers[len(answers)-1:]
	}
	ids := e.o.Tokenizer.Encode(text, false)
	var spans []span
	merged := false
	for _, a := range answers {
		start, split := e.tokenAt(text, a[0], ids)
		end, cut := e.tokenAt(text, a[1], ids)
		if cut {
			end++ // a token that begins in the answer belongs to it
		}
		merged = merged || split
		spans = append(spans, span{start, min(end, len(ids))})
	}
	return Example{Tokens: ids, Labels: labels(ids, spans)}, merged, nil
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

// span is a range of tokens.
type span struct{ start, end int }

func labels(ids []int32, spans []span) []int32 {
	out := slices.Repeat([]int32{Ignore}, len(ids))
	for _, s := range spans {
		copy(out[s.start:max(s.start, s.end)], ids[s.start:max(s.start, s.end)])
	}
	if len(out) > 0 {
		out[0] = Ignore
	}
	return out
}

func commonPrefix(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
