// Command render renders conversations with chat templates and finds the answers
// to train in them, for the comparison with transformers: it reads requests from
// standard input and answers each with one line, all JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/peftkit/peftkit/tokenizer/chat"
	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// request asks for the text of a conversation, or with TrainOn ("assistant" or
// "last") for the sequences that teach its answers.
type request struct {
	Template            string // a file
	BOS, EOS            string
	Messages            []json.RawMessage
	Tools, Documents    json.RawMessage
	Kwargs              json.RawMessage
	AddGenerationPrompt bool   `json:"add_generation_prompt"`
	TrainOn             string `json:"train_on"`
}

type answer struct {
	Text      string     `json:"text"`
	Sequences []sequence `json:"sequences"`
	Error     string     `json:"error"`
}

// sequence is a text and its answers: the message of each, what stands before it,
// and itself.
type sequence struct {
	Text    string `json:"text"`
	Answers []span `json:"answers"`
}

type span struct {
	Message int    `json:"message"`
	Before  string `json:"before"`
	Answer  string `json:"answer"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run() error {
	templates := map[string]*chat.Template{}
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for in.More() {
		var r request
		if err := in.Decode(&r); err != nil {
			return err
		}
		key := r.Template + "\x00" + r.BOS + "\x00" + r.EOS
		var a answer
		var err error
		if templates[key] == nil {
			source, err := os.ReadFile(r.Template)
			if err != nil {
				return err
			}
			templates[key], err = chat.New(string(source), r.BOS, r.EOS)
			if err != nil {
				a.Error = err.Error()
			}
		}
		if a.Error == "" {
			a, err = render(templates[key], &r)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

func render(t *chat.Template, r *request) (a answer, err error) {
	c, err := conversation(r)
	if err != nil {
		return a, err
	}
	if r.TrainOn == "" {
		a.Text, err = t.Render(c, r.AddGenerationPrompt)
		return a, err
	}
	last := -1
	for i, m := range c.Messages {
		if m.Role == "assistant" {
			last = i
		}
	}
	seqs, err := t.Sequences(c, func(i int) bool { return r.TrainOn == "assistant" || i == last })
	for _, s := range seqs {
		out := sequence{Text: s.Text}
		for _, x := range s.Answers {
			out.Answers = append(out.Answers, span{x.Message, s.Text[:x.Start], s.Text[x.Start:x.End]})
		}
		a.Sequences = append(a.Sequences, out)
	}
	return a, err
}

func conversation(r *request) (*chat.Conversation, error) {
	c := &chat.Conversation{}
	for i, raw := range r.Messages {
		v, err := jinja.FromJSON(raw)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		d, ok := v.(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("message %d is no object", i)
		}
		m := chat.Message{Fields: d}
		m.Role, _ = m.Field("role").(string)
		m.Content, _ = m.Field("content").(string)
		c.Messages = append(c.Messages, m)
	}
	for _, p := range []struct {
		raw json.RawMessage
		to  **jinja.List
	}{{r.Tools, &c.Tools}, {r.Documents, &c.Documents}} {
		if len(p.raw) == 0 {
			continue
		}
		v, err := jinja.FromJSON(p.raw)
		if err != nil {
			return nil, err
		}
		*p.to, _ = v.(*jinja.List)
	}
	if len(r.Kwargs) > 0 {
		v, err := jinja.FromJSON(r.Kwargs)
		if err != nil {
			return nil, err
		}
		c.Kwargs, _ = v.(*jinja.Dict)
	}
	return c, nil
}
