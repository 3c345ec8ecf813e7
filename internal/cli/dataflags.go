package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
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
}

func addDataFlags(f *flags, usage string) *dataFlags {
	return &dataFlags{
		path:     f.text("data", "d", "DATA", "", usage),
		columns:  f.texts("map", "", "FIELD=COLUMN", `take a field from another column, or from a pattern such as "Review: {text}\nSentiment:"; may be repeated`),
		names:    f.text("columns", "", "A,B,...", "", "names of the columns of a CSV or TSV file without a header line"),
		template: f.text("chat-template", "", "FILE", "", "Jinja file to use instead of the model's chat template, or the word chatml"),
		chat:     f.Bool("chat", false, "render prompt and completion as a chat"),
		trainOn:  f.oneOf("train-on", "", string(data.Answers), "tokens that count", string(data.Answers), string(data.LastAnswer), string(data.Everything)),
	}
}

// options turns the flags into those of package data.
func (d *dataFlags) options(tok *tokenizer.Tokenizer, maxSeqLen int) (data.Options, error) {
	o := data.Options{Tokenizer: tok, MaxSeqLen: maxSeqLen, Chat: *d.chat, TrainOn: data.TrainOn(*d.trainOn)}
	for _, m := range *d.columns {
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
	var err error
	o.ChatTemplate, err = templateSource(*d.template, tok)
	return o, err
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
	case errors.Is(err, data.ErrFields):
		return withHint(withCode(exitData, err), "--map FIELD=COLUMN takes a field from a column of another name")
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
	text := fmt.Sprintf("%s (%s), %s tokens, %s trained", plural(s.Examples, "example"), s.Kind, countText(s.Tokens), percentText(s.Trained, s.Tokens))
	if s.Truncated > 0 {
		text += fmt.Sprintf(", %s cut to %d", percentText(int64(s.Truncated), int64(max(1, s.Records))), d.MaxSeqLen)
	}
	return text
}

// evalPart finds the part of a data folder to evaluate on: test, else valid, else train.
func evalPart(path, part string) (string, error) {
	st, err := os.Stat(path)
	if err != nil || !st.IsDir() || part != "" {
		return part, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", err
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			stem, _, _ := strings.Cut(e.Name(), ".")
			return slices.Contains(names, stem)
		})
	}
	switch {
	case has("test"):
		return "test", nil
	case has("valid", "validation", "val", "dev"):
		return "valid", nil
	}
	return "train", nil
}
