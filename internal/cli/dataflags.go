package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/tokenizer/chat"
)

// dataFlags say how a data set is read.
type dataFlags struct {
	path     *string
	columns  *[]string
	names    *string
	template *string
	chat     *bool
	trainOn  *string
	splitBy  *string // nil where there is no flag for it
	// maxTarget cuts what a decoder writes; nil where there is no flag for it.
	maxTarget *int
}

func addDataFlags(f *flags, usage string) *dataFlags {
	return &dataFlags{
		path:     f.text("data", "d", "DATA", "", usage),
		columns:  f.texts("map", "", "FIELD=COLUMN", `take a field (prompt, completion, text, label, source, target, ...) from another column, or from a pattern such as "Review: {text}\nSentiment:"; may be repeated`),
		names:    f.text("columns", "", "A,B,...", "", "names of the columns of a CSV or TSV file without a header line"),
		splitBy:  f.oneOf("text-by", "", string(data.ByFile), "what of a .txt file is a text: the file, split into windows of --max-seq-len; a paragraph; or a line", string(data.ByFile), string(data.ByParagraph), string(data.ByLine)),
		template: f.text("chat-template", "", "FILE", "", "Jinja file to use instead of the model's chat template, or the word chatml"),
		chat:     f.Bool("chat", false, "render prompt and completion as a chat"),
		trainOn:  f.oneOf("train-on", "", string(data.Answers), "tokens that count", string(data.Answers), string(data.LastAnswer), string(data.Everything)),
	}
}

// options turns the flags into those of package data.
func (d *dataFlags) options(tok *tokenizer.Tokenizer, maxSeqLen int) (data.Options, error) {
	o, err := d.table()
	if err != nil {
		return o, err
	}
	o.Tokenizer, o.MaxSeqLen, o.Chat, o.TrainOn = tok, maxSeqLen, *d.chat, data.TrainOn(*d.trainOn)
	if d.maxTarget != nil {
		o.MaxTargetLen = *d.maxTarget
	}
	o.ChatTemplate, err = templateSource(*d.template, tok)
	return o, err
}

// source is the data set as one that may decide what a model is for. part is that
// of a folder to evaluate on.
func (d *dataFlags) source(part string) (*dataSource, error) {
	o, err := d.table()
	if err != nil {
		return nil, err
	}
	o.Part, err = evalPart(*d.path, part)
	return &dataSource{*d.path, o}, err
}

// table says which columns are read.
func (d *dataFlags) table() (data.Options, error) {
	var o data.Options
	if d.splitBy != nil && *d.splitBy != string(data.ByFile) { // the default asks for nothing
		o.SplitText = data.SplitText(*d.splitBy)
	}
	for _, m := range mapParts(*d.columns) {
		field, column, ok := strings.Cut(m, "=")
		if !ok || field == "" || column == "" {
			return o, usagef("--map %q: expected FIELD=COLUMN, as in --map prompt=question", m)
		}
		if o.Columns == nil {
			o.Columns = data.Columns{}
		}
		if _, twice := o.Columns[field]; twice {
			return o, usagef("--map: field %q is given twice", field)
		}
		o.Columns[field] = unescape(column)
	}
	if *d.names != "" {
		for _, n := range strings.Split(*d.names, ",") {
			o.Names = append(o.Names, strings.TrimSpace(n))
		}
	}
	return o, nil
}

// nextField begins another field in one --map: prompt=question,completion=answer.
var nextField = regexp.MustCompile(`,([a-z_]+)=`)

// mapParts divides maps of several fields. A pattern with columns in braces may
// have commas of its own and is left whole.
func mapParts(maps []string) []string {
	var out []string
	for _, m := range maps {
		for at := nextField.FindStringIndex(m); at != nil && !strings.ContainsAny(m, "{}"); at = nextField.FindStringIndex(m) {
			out, m = append(out, m[:at[0]]), m[at[0]+1:]
		}
		out = append(out, m)
	}
	return out
}

// templateSource reads --chat-template.
func templateSource(name string, tok *tokenizer.Tokenizer) (string, error) {
	switch name {
	case "":
		return "", nil
	case "chatml":
		eos := ""
		if id, ok := tok.EOS(); ok {
			eos = tok.Token(id)
		}
		return chat.Fallback(eos).Source(), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", usagef("--chat-template: %w", err)
	}
	return string(b), nil
}

// dataError gives errors of package data their exit code and a next step.
func dataError(err error, path string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return withCode(exitData, err)
	case errors.Is(err, data.ErrTemplate) && strings.Contains(err.Error(), "has none"):
		return withHint(withCode(exitData, err), "--chat-template chatml trains the model on a chat format of its own")
	}
	var code *usageError
	if errors.As(err, &code) {
		return err
	}
	if !strings.Contains(err.Error(), path) {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return withCode(exitData, err)
}

// dataText describes a data set on a line.
func dataText(d *data.Dataset) string {
	s := &d.Stats
	kind := string(s.Kind)
	if s.Of > 0 {
		kind += fmt.Sprintf(", the first of %d", s.Of)
	}
	text := fmt.Sprintf("%s (%s), %s tokens", plural(s.Examples, "example"), kind, countText(s.Tokens))
	switch {
	case d.Problem == model.Regression:
		text += ", " + plural(len(d.Labels), "number") + " each"
	case len(s.Classes) > 0:
		text += ", " + classText(s)
	default:
		text += fmt.Sprintf(", %s trained", percentText(s.Trained, s.Tokens))
	}
	if len(s.Tasks) > 1 && !s.Taskless {
		text += ", " + tasksText(s)
	}
	if s.Truncated > 0 {
		text += fmt.Sprintf(", %s cut to %d", percentText(int64(s.Truncated), int64(max(1, s.Records))), d.MaxSeqLen)
	}
	return text
}

// tasksText counts the examples of each task.
func tasksText(s *data.Stats) string {
	const most = 6
	var parts []string
	for i, n := range s.Tasks[:min(most, len(s.Tasks))] {
		name := fmt.Sprint(i)
		if i < len(s.TaskNames) {
			name = s.TaskNames[i]
		}
		parts = append(parts, fmt.Sprintf("%s (%d)", name, n))
	}
	if len(s.Tasks) > most {
		parts = append(parts, "…")
	}
	return fmt.Sprintf("%s: %s", plural(len(s.Tasks), "task"), strings.Join(parts, ", "))
}

// classText lists the most frequent labels with their shares.
func classText(s *data.Stats) string {
	var total int64
	order := make([]int, len(s.Classes))
	for i, n := range s.Classes {
		order[i] = i
		total += int64(n)
	}
	slices.SortStableFunc(order, func(a, b int) int { return s.Classes[b] - s.Classes[a] })
	const most = 4
	var parts []string
	for _, i := range order[:min(most, len(order))] {
		parts = append(parts, fmt.Sprintf("%s (%s)", s.Labels[i], percentText(int64(s.Classes[i]), total)))
	}
	if len(order) > most {
		parts = append(parts, "…")
	}
	return fmt.Sprintf("%s: %s", plural(len(order), "label"), strings.Join(parts, ", "))
}

// evalPart finds the part of a data folder to evaluate on: test, else valid, else train.
func evalPart(path, part string) (string, error) {
	st, err := os.Stat(path)
	if err != nil || !st.IsDir() || part != "" {
		return part, nil // package data says what is wrong with a path
	}
	have, err := data.Parts(path)
	if err != nil {
		return "", err
	}
	for _, p := range []string{"test", "valid"} {
		if slices.Contains(have, p) {
			return p, nil
		}
	}
	return "train", nil
}
