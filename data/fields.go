package data

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// Columns says where the fields of a record come from: field name (prompt,
// completion, text, messages, instruction, input, output, system; text_pair,
// label, tokens, tags, source, target, task) to the name of a column, or to a pattern
// with columns in braces such as "Review: {text}\nSentiment:". In a pattern {{
// and }} stand for braces.
type Columns map[string]string

// shape is a kind with its fields.
type shape struct {
	task               model.Task
	kind               Kind
	required, optional []string
}

// aroundChat are the columns that belong to a chat beside its messages: TRL's tools,
// documents and chat_template_kwargs, LLaMA-Factory's system and history.
var aroundChat = []string{"system", "history", "tools", "documents", "chat_template_kwargs"}

// shapes in the order in which they are tried.
var shapes = []shape{
	{model.CausalLM, Chat, []string{"messages"}, aroundChat},
	{model.CausalLM, ShareGPT, []string{"conversations"}, aroundChat},
	{model.CausalLM, Completion, []string{"prompt", "completion"}, aroundChat},
	{model.CausalLM, Instruction, []string{"instruction", "output"}, append([]string{"input"}, aroundChat...)},
	{model.CausalLM, Text, []string{"text"}, nil},
	{model.TokenClassification, Tagged, []string{"tokens", "tags"}, nil},
	{model.SequenceClassification, TextLabel, []string{"text", "label"}, []string{"text_pair"}},
	{model.Seq2SeqLM, Instruction, []string{"instruction", "output"}, []string{"input", "system"}},
	{model.Seq2SeqLM, Pairs, []string{"source", "target"}, nil},
}

// expected tells people what a record of a task may look like.
var expected = map[model.Task]string{
	model.CausalLM:               "messages, conversations, prompt and completion (question and answer, input and output, ...), instruction and output, or text",
	model.SequenceClassification: "text and label (and text_pair for two texts)",
	model.TokenClassification:    "tokens and tags",
	model.Seq2SeqLM:              "source and target, prompt and completion, instruction and output, or document and summary",
}

// synonyms are other names of the fields of a kind, the usual ones of public
// data sets; of several that a record has, the first counts. A kind whose fields
// have their own names goes before one that is found by synonyms.
var synonyms = map[Kind]map[string][]string{
	Chat: {"messages": {"conversation", "dialogue", "dialog", "chat"}},
	Completion: {
		"prompt":     {"question", "query", "problem", "input", "inputs", "user", "human", "source", "input_text", "context", "document", "article", "dialogue"},
		"completion": {"answer", "response", "solution", "output", "outputs", "assistant", "bot", "gpt", "target", "targets", "output_text", "target_text", "reply", "summary", "highlights"},
	},
	Instruction: {
		"instruction": {"instructions"},
		"output":      {"response", "answer", "completion", "outputs"},
		"input":       {"context", "inputs"},
		"system":      {"system_prompt"},
	},
	TextLabel: {
		"text":      {"sentence", "text_a", "sentence1", "text1", "premise", "question1"},
		"text_pair": {"text_b", "sentence2", "text2", "hypothesis", "question2"},
		"label":     {"labels"},
	},
	Tagged: {
		"tokens": {"words"},
		"tags":   {"ner_tags", "pos_tags", "chunk_tags", "labels"},
	},
	Pairs: {
		"source": {"prompt", "input", "document", "article", "input_text", "question"},
		"target": {"completion", "output", "summary", "highlights", "target_text", "answer"},
	},
}

// shapesOf lists the shapes of a task.
func shapesOf(task model.Task) []*shape {
	var out []*shape
	for i := range shapes {
		if shapes[i].task == task {
			out = append(out, &shapes[i])
		}
	}
	return out
}

// names returns a field's name and its synonyms.
func (s *shape) names(field string) []string {
	if field == taskField {
		return taskFields
	}
	out := []string{field}
	for _, n := range synonyms[s.kind][field] {
		out = append(out, n)
		if s.task == model.CausalLM {
			out = append(out, strings.ToUpper(n[:1])+n[1:])
		}
	}
	return out
}

// validate refuses a mapping of fields that no kind of the task has.
func (c Columns) validate(task model.Task) error {
	var known, all []string
	for _, s := range shapesOf(task) {
		for _, f := range slices.Concat(s.required, s.optional) {
			if !slices.Contains(known, f) {
				known = append(known, f)
			}
			all = append(all, s.names(f)...)
		}
	}
	known, all = append(known, taskField), append(all, taskFields...)
	for _, f := range slices.Sorted(maps.Keys(c)) {
		if !slices.Contains(all, f) {
			return fmt.Errorf("column map: field %q: %w; expected one of %s", f, ErrFields, strings.Join(known, ", "))
		}
	}
	return nil
}

// detect finds the shape of a record, nil when there is none.
func (c Columns) detect(fields map[string]any, task model.Task) *shape {
	if task == model.CausalLM {
		if s := c.detectBy(fields, task, func(_ *shape, field string) []string { return []string{field} }); s != nil {
			return s
		}
	}
	s := c.detectBy(fields, task, (*shape).names)
	if _, ok := fields["instruction"]; ok && s != nil && s.kind == Completion && len(c) == 0 && task == model.CausalLM {
		for i := range shapes { // a context goes with an instruction, and is no question
			if in := &shapes[i]; in.task == task && in.kind == Instruction && has(fields, in.names("output")) {
				return in
			}
		}
	}
	return s
}

// has reports whether a record has a field of one of the names.
func has(fields map[string]any, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { _, ok := fields[n]; return ok })
}

// fix returns a map that takes the fields of all records from where those of the
// first one lie: a record with other names is an error, and no other kind of record.
func (c Columns) fix(s *shape, first map[string]any) Columns {
	if s.task != model.CausalLM {
		return c
	}
	out := Columns{}
	maps.Copy(out, c)
	for _, f := range s.required {
		column := c.column(s, first, f)
		for _, n := range s.names(f) {
			delete(out, n)
		}
		out[f] = column
	}
	return out
}

func (c Columns) detectBy(fields map[string]any, task model.Task, names func(s *shape, field string) []string) *shape {
	for _, s := range shapesOf(task) {
		mapped := len(c) == 0
		complete := true
		for _, f := range s.required {
			have := false
			for _, name := range names(s, f) {
				_, m := c[name]
				v, own := fields[name]
				if own && s.kind == Chat && name != f {
					_, own = listOf(v) // a dialogue may be a text
				}
				mapped = mapped || m
				have = have || m || own
			}
			complete = complete && have
		}
		if mapped && complete {
			return s
		}
	}
	return nil
}

// column returns where a field of a record lies: the column it is mapped to, or
// the first of its names that the record has.
func (c Columns) column(s *shape, fields map[string]any, field string) string {
	names := s.names(field)
	for _, n := range names {
		if col, ok := c[n]; ok {
			return col
		}
	}
	for _, n := range names {
		if _, ok := fields[n]; ok {
			return n
		}
	}
	return field
}

// value returns a field of a record. used collects the columns that were read.
func (c Columns) value(s *shape, fields map[string]any, field string, used map[string]bool) (v any, missing string) {
	column := c.column(s, fields, field)
	if !strings.ContainsAny(column, "{}") {
		v, ok := fields[column]
		if !ok {
			return nil, column
		}
		used[column] = true
		return v, ""
	}
	return fill(column, func(name string) (string, bool) {
		used[name] = true
		s, ok := fields[name].(string)
		return s, ok
	})
}

// fill replaces the columns in braces; missing is one that get does not know.
func fill(pattern string, get func(name string) (string, bool)) (text any, missing string) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; {
		case i+1 < len(pattern) && (ch == '{' || ch == '}') && pattern[i+1] == ch:
			b.WriteByte(ch)
			i++
		case ch == '{':
			end := strings.IndexByte(pattern[i:], '}')
			if end < 0 {
				return "", pattern[i:]
			}
			name := pattern[i+1 : i+end]
			s, ok := get(name)
			if !ok {
				return "", name
			}
			b.WriteString(s)
			i += end
		default:
			b.WriteByte(ch)
		}
	}
	return b.String(), ""
}

// columnList names the columns of a record for an error.
func columnList(fields map[string]any) string {
	names := slices.Sorted(maps.Keys(fields))
	if len(names) == 0 {
		return "an object without fields"
	}
	const most = 12
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return "fields " + strings.Join(names, ", ")
}

// jsonType names the type of a decoded value.
func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case float64, int64:
		return "a number"
	case *jinja.List:
		return "a list"
	case []byte:
		return "binary data"
	}
	return "an object"
}
