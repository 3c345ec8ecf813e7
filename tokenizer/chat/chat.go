// Package chat renders conversations with the Jinja chat templates that models
// carry, as transformers' apply_chat_template does, and tells which parts of the
// text are answers of the assistant.
package chat

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/parser"
)

// Message is one turn of a conversation. Role is "system", "user", "assistant"
// or whatever else the template knows.
type Message struct{ Role, Content string }

// Template is a parsed chat template. It may be used by several goroutines at once.
type Template struct {
	source   string
	template *exec.Template
	bos, eos string
	marked   bool // has {% generation %} blocks
}

// Raised is the error of a template that refuses a conversation by calling
// raise_exception, for instance when roles do not alternate.
type Raised struct{ Message string }

func (e *Raised) Error() string {
	return "the chat template refuses the conversation: " + e.Message
}

// New parses a template. bos and eos are the texts of the model's tokens, "" for
// those it does not have. A template cannot read files or reach anything else
// but the conversation.
func New(source, bos, eos string) (t *Template, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("chat template: %v", r)
		}
	}()
	cfg := config.New()
	cfg.TrimBlocks, cfg.LeftStripBlocks = true, true
	t = &Template{source: source, bos: bos, eos: eos}
	t.template, err = exec.NewTemplate(rootName, cfg, only(source), environment(&t.marked))
	if err != nil {
		return nil, fmt.Errorf("chat template: %w", short(err, source))
	}
	return t, nil
}

// Source returns the text of the template.
func (t *Template) Source() string { return t.source }

// Fallback returns the template for models without one, close to ChatML:
//
//	<|im_start|>ROLE
//	CONTENT<end>
//
// where end is eos, so that a model ends its turn with the token it knows, and
// <|im_end|> when eos is empty. A model that was not trained on this format first
// learns it while it is fine-tuned.
func Fallback(eos string) *Template {
	end := eos
	if end == "" {
		end = "<|im_end|>"
	}
	t, err := New("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n' }}{% endfor %}"+
		"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", "", end)
	if err != nil {
		panic(err) // the source is a constant
	}
	return t
}

// Render writes a conversation. With addGenerationPrompt it ends where the
// assistant's answer begins. The text holds the special tokens, BOS included where
// the template writes one: encode it without adding them again.
func (t *Template) Render(msgs []Message, addGenerationPrompt bool) (string, error) {
	s, err := t.render(msgs, addGenerationPrompt)
	if err != nil || !t.marked {
		return s, err
	}
	return strings.NewReplacer(markStart, "", markEnd, "").Replace(s), nil
}

func (t *Template) render(msgs []Message, addGenerationPrompt bool) (out string, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = "", fmt.Errorf("chat template: %v", r)
		}
	}()
	list := make(messages, len(msgs))
	for i, m := range msgs {
		if t.marked && (strings.Contains(m.Content, markStart) || strings.Contains(m.Content, markEnd)) {
			return "", fmt.Errorf("chat template: message %d holds a noncharacter (U+FDD0 or U+FDD1)", i)
		}
		list[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	var raised *Raised
	data := map[string]any{
		"messages":              list,
		"add_generation_prompt": addGenerationPrompt,
		"tools":                 nil,
		"documents":             nil,
		"raise_exception": func(_ *exec.Evaluator, args *exec.VarArgs) (any, error) {
			raised = &Raised{}
			if len(args.Args) > 0 {
				raised.Message = args.Args[0].String()
			}
			return nil, raised
		},
	}
	if t.bos != "" {
		data["bos_token"] = t.bos
	}
	if t.eos != "" {
		data["eos_token"] = t.eos
	}
	out, err = t.template.ExecuteToString(exec.NewContext(data))
	switch {
	case raised != nil:
		return "", raised
	case err != nil:
		return "", fmt.Errorf("chat template: %w", short(err, t.source))
	}
	return out, nil
}

// messages is a list whose negative indices reach the first element too: gonja
// 2.9.1 makes messages[-1] of a single message None.
type messages []any

// GetItem implements exec.ItemGetter.
func (m messages) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if i < 0 {
		i += len(m)
	}
	if !ok || i < 0 || i >= len(m) {
		return exec.AsValue(nil), false
	}
	return exec.ToValue(m[i]), true
}

const rootName = "chat_template"

// only is a loader that has the template itself and nothing else: no include
// or import reaches a file.
type only string

func (o only) Read(path string) (io.Reader, error) {
	if path != rootName {
		return nil, fmt.Errorf("a chat template cannot load %q", path)
	}
	return strings.NewReader(string(o)), nil
}

func (o only) Resolve(path string) (string, error) {
	if path != rootName {
		return "", fmt.Errorf("a chat template cannot load %q", path)
	}
	return path, nil
}

func (o only) Inherit(string) (loaders.Loader, error) { return o, nil }

// environment is Jinja as transformers sets it up.
func environment(marked *bool) *exec.Environment {
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	_ = filters.Replace("tojson", toJSON)
	structures := exec.NewControlStructureSet(map[string]parser.ControlStructureParser{}).Update(builtins.ControlStructures)
	_ = structures.Register("generation", generationParser(marked))
	globals := exec.EmptyContext().Update(builtins.GlobalFunctions)
	globals.Set("range", boundedRange)
	globals.Set("strftime_now", func(format string) string { return strftime(time.Now(), format) })
	return &exec.Environment{
		Context:           globals,
		Filters:           filters,
		Tests:             builtins.Tests,
		ControlStructures: structures,
		Methods:           builtins.Methods,
	}
}

// maxRange bounds range(), as Jinja's sandbox does.
const maxRange = 100000

// boundedRange is range() without a goroutine that outlives a broken loop.
func boundedRange(_ *exec.Evaluator, args *exec.VarArgs) ([]int, error) {
	start, stop, step := 0, 0, 1
	at := []*int{&stop}
	if n := len(args.Args); n == 2 || n == 3 {
		at = []*int{&start, &stop, &step}
	} else if n != 1 {
		return nil, fmt.Errorf("range takes 1 to 3 numbers, got %d", n)
	}
	for i, a := range args.Args {
		if !a.IsInteger() {
			return nil, fmt.Errorf("range takes whole numbers, got %s", a.String())
		}
		*at[i] = a.Integer()
	}
	if step == 0 {
		return nil, fmt.Errorf("range with step 0")
	}
	out := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) == maxRange {
			return nil, fmt.Errorf("range of more than %d numbers", maxRange)
		}
		out = append(out, i)
	}
	return out, nil
}

// short takes the template's text out of an error, which repeats all of it.
func short(err error, source string) error {
	msg := strings.ReplaceAll(err.Error(), source, "...")
	if len(msg) > 400 {
		msg = strings.ToValidUTF8(msg[:400], "") + "..."
	}
	return fmt.Errorf("%s", msg)
}
