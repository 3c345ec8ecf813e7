package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer"
)

// next suggests a command to go on with.
func (a *app) next(format string, args ...any) {
	fmt.Fprintf(a.out, "\n  %s  %s\n", a.out.paint(dim, "next"), a.out.paint(cyan, fmt.Sprintf(format, args...)))
}

// try is the command that shows what a model does with adapters; for one that cannot
// be run, what is in it.
func try(path string, adapters ...string) string {
	look := "peftkit inspect " + quote(path)
	c, err := model.Open(path)
	if err != nil {
		return look
	}
	defer c.Close()
	if _, err := tokenizer.FromModel(c.Source); err != nil {
		return look
	}
	if _, err := model.Build(c, model.Options{}); err != nil {
		return look
	}
	var o model.Options
	if r, err := o.Resolve(c); err == nil {
		o = r
	}
	with := quote(path)
	for _, adapter := range adapters {
		if own, err := adapterOptions(adapter); err == nil && own.Task != "" {
			o = own
		}
		with += " --lora " + quote(adapter)
	}
	switch {
	case o.Task == model.SequenceClassification || o.Task == model.TokenClassification:
		return fmt.Sprintf("peftkit classify -m %s \"...\"", with)
	case o.Task.Generates():
		return fmt.Sprintf("peftkit generate -m %s -p \"Hello\"", with)
	}
	return look // a bare encoder
}

// tryAdapter is the command that shows what an adapter does, on the base model that
// was given or that the adapter names, if that is here.
func tryAdapter(base, adapter string) string {
	if base == "" {
		if in, closer, err := inspect(adapter, false, model.Options{}); err == nil {
			base, _ = in.Facts["base_model_name_or_path"].(string)
			closer()
		}
	}
	if base != "" {
		if c, err := model.Open(base); err == nil {
			c.Close()
			return try(base, adapter)
		}
	}
	return "peftkit inspect " + quote(adapter)
}

// freshName returns a name that nothing has yet: name, or with a number before its ending.
func freshName(name string) string {
	ext := filepath.Ext(name)
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); err != nil {
			return name
		}
		name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(strings.TrimSuffix(name, ext), fmt.Sprintf("-%d", i-1)), i, ext)
	}
}

// mergedName names an output that a saved adapter can be merged into, "" when there
// is none.
func (r *trainRun) mergedName(ctx context.Context) string {
	name := r.mergesTo()
	if name == "" {
		return ""
	}
	for _, name := range []string{name, "tuned"} {
		name = freshName(name)
		_, err := convert.Merge(ctx, *r.flags.model, []convert.AdapterRef{{Path: r.flags.cfg.Output, Scale: 1}}, name, convert.Options{DryRun: true})
		if err == nil {
			return name
		}
	}
	return ""
}

// heldOut is data beside those that were trained on, "" when there are none: what
// the run was validated on, a part of the folder, or test.jsonl beside train.jsonl.
func (r *trainRun) heldOut() string {
	path := *r.flags.data.path
	if *r.flags.valid != "" {
		return *r.flags.valid
	}
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	if st.IsDir() {
		if part, err := evalPart(path, ""); err != nil || part == "train" {
			return ""
		}
		return path
	}
	rest, ok := strings.CutPrefix(filepath.Base(path), "train")
	if !ok {
		return ""
	}
	for _, part := range []string{"test", "valid", "validation", "dev"} {
		other := filepath.Join(filepath.Dir(path), part+rest)
		if st, err := os.Stat(other); err == nil && st.Mode().IsRegular() {
			return other
		}
	}
	return ""
}

// flagsText writes the flags that say how data are read, as they were given.
func (d *dataFlags) flagsText() string {
	var b strings.Builder
	for _, m := range *d.columns {
		b.WriteString(" --map " + quote(m))
	}
	if *d.names != "" {
		b.WriteString(" --columns " + quote(*d.names))
	}
	if *d.chat {
		b.WriteString(" --chat")
	}
	return b.String()
}
