package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// noShape is the error of a first record that is of no kind of the task: it says
// what to do, by what the record looks like.
func (in *reading) noShape(r *row, o *Options) *LineError {
	e := &LineError{File: r.file, Line: r.line, Err: ErrFields}
	switch {
	case r.columns != nil && in.headers && looksHeaderless(r):
		e.Line--
		e.Found = "the first line is no header, it looks like a record: " + excerpt([]byte(strings.Join(r.columns, ", ")))
		e.Want = "names of columns there, or given: " + namesExample(o.Task, r.columns)
	case len(o.Columns) > 0:
		e.Found = columnList(r.fields)
		e.Want = fmt.Sprintf("%s; the column map (%s) gives not all of one kind", expected[o.Task], strings.Join(mapFlags(o.Columns), " "))
	default:
		e.Found = columnList(r.fields)
		e.Want = expected[o.Task]
		if example := mapExample(o.Task, r); example != "" {
			e.Want += "; name the columns: " + example
		}
	}
	return e
}

// looksHeaderless reports a table whose first line is no names of columns: one that
// holds a text, a number or the same as another line.
func looksHeaderless(r *row) bool {
	for _, n := range r.columns {
		if _, err := strconv.ParseFloat(strings.TrimSpace(n), 64); err == nil {
			return true
		}
		if len(strings.Fields(n)) > 3 || len(n) > 40 || strings.ContainsAny(n, "\n.!?") || n != "" && r.fields[n] == n {
			return true
		}
	}
	return false
}

// namesExample proposes names for the columns of a table without a header line.
func namesExample(task model.Task, columns []string) string {
	names := map[model.Task][]string{
		model.CausalLM: {"prompt", "completion"}, model.SequenceClassification: {"text", "label"},
		model.TokenClassification: {"tokens", "tags"}, model.Seq2SeqLM: {"source", "target"},
	}[task]
	if len(columns) == 1 && task == model.CausalLM {
		names = []string{"text"}
	}
	out := slices.Clone(names)
	for len(out) < len(columns) {
		out = append(out, fmt.Sprintf("column%d", len(out)+1))
	}
	return "--columns " + strings.Join(out, ",")
}

// Words in the names of columns that tell what they hold.
var (
	asksWords    = []string{"prompt", "question", "query", "input", "instruction", "source", "user", "human", "problem", "ask", "title", "document", "article", "text", "context"}
	answersWords = []string{"completion", "answer", "response", "output", "reply", "target", "solution", "assistant", "bot", "summary", "result", "translation"}
	labelWords   = []string{"label", "class", "category", "sentiment", "intent", "target", "score", "rating", "stars", "tag"}
	otherWords   = []string{"id", "idx", "index", "uuid", "url", "date", "time", "timestamp", "lang", "language", "split", "license", "model", "hash", "index_level_0"}
)

// mapExample is a column map for a record, as flags that can be given as they
// stand; "" when the record has no columns that fit.
func mapExample(task model.Task, r *row) string {
	fits := map[model.Task]struct {
		fields []string
		words  [][]string
	}{
		model.CausalLM:               {[]string{"prompt", "completion"}, [][]string{asksWords, answersWords}},
		model.SequenceClassification: {[]string{"text", "label"}, [][]string{asksWords, labelWords}},
		model.TokenClassification:    {[]string{"tokens", "tags"}, [][]string{{"token", "word", "text"}, {"tag", "label", "entit"}}},
		model.Seq2SeqLM:              {[]string{"source", "target"}, [][]string{asksWords, answersWords}},
	}[task]
	var columns []string
	for _, c := range r.order() {
		if c != "" && !strings.ContainsAny(c, "{}=") && usable(task, r.fields[c]) {
			columns = append(columns, c)
		}
	}
	if task == model.CausalLM && len(columns) == 1 {
		return strings.Join(mapFlags(Columns{"text": columns[0]}), " ")
	}
	if len(columns) < len(fits.fields) {
		return ""
	}
	chosen := Columns{}
	for i, f := range fits.fields {
		best, most := "", -10
		for _, c := range columns {
			if score := fit(c, r.fields[c], fits.words[i], fits.words[1-i]); score > most && !chosen.names(c) {
				best, most = c, score
			}
		}
		chosen[f] = best
	}
	var flags []string
	for _, f := range fits.fields {
		flags = append(flags, mapFlags(Columns{f: chosen[f]})...)
	}
	return strings.Join(flags, " ")
}

// usable reports whether a value can be a field of a record of the task.
func usable(task model.Task, v any) bool {
	_, text := v.(string)
	switch task {
	case model.CausalLM, model.Seq2SeqLM:
		return text
	case model.SequenceClassification:
		_, name := className(v)
		return text || name
	}
	_, list := listOf(v)
	return text || list
}

// fit says how well a column fits by its name and its value.
func fit(column string, v any, words, others []string) int {
	name := strings.ToLower(column)
	has := func(w string) bool { return strings.Contains(name, w) }
	score := 0
	switch {
	case slices.ContainsFunc(words, has):
		score = 4
	case slices.ContainsFunc(others, has):
		score = -2
	}
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' || r == ' ' || r == '.' })
	if slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(otherWords, p) }) {
		score -= 4
	}
	if s, ok := v.(string); ok && strings.ContainsAny(s, " \n") {
		score++
	}
	return score
}

// mapFlags writes a column map as flags of the command line.
func mapFlags(c Columns) []string {
	var out []string
	for f, column := range c {
		flag := f + "=" + column
		if strings.ContainsFunc(flag, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("=_-./:", r))
		}) {
			flag = "'" + strings.ReplaceAll(flag, "'", `'\''`) + "'"
		}
		out = append(out, "--map "+flag)
	}
	slices.Sort(out)
	return out
}

// order returns the columns of a row as the file has them, those of JSON by name.
func (r *row) order() []string {
	if r.columns != nil {
		return r.columns
	}
	var out []string
	for n := range r.fields {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
