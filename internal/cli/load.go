package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/tokenizer/chat"
	"github.com/spf13/cobra"
)

// modelFlags are those of commands that run a model.
type modelFlags struct {
	model *string
	loras *[]string
	task  *taskFlags
	// taskID is the task of every text, for adapters that tell several apart.
	taskID  *string
	threads func() error
}

func addModelFlags(f *flags) *modelFlags {
	m := &modelFlags{}
	m.model = f.text("model", "m", "MODEL", "", "GGUF file or Hugging Face folder")
	m.loras = f.texts("lora", "", "ADAPTER[:SCALE]", "adapter to apply; may be repeated")
	m.task = addTaskFlags(f)
	m.taskID = f.text("task-id", "", "N", "", "task of the texts, by number or name, for an adapter of several tasks (multitask-prompt-tuning, poly); default: what the data say, else 0")
	m.threads = threadsFlag(f)
	return m
}

// loaded is a model that is ready to run.
type loaded struct {
	*model.Model
	tok *tokenizer.Tokenizer
	// template is a chat template that an adapter brought along.
	template string
	// taskNames are the names of the tasks that the adapter tells apart, taskID is the
	// one that was asked for.
	taskNames []string
	taskID    *string
	// vocab is the number of tokens that the tokenizer is for.
	vocab int
	// tokenizerFiles are those of the adapter that gave the model another vocabulary.
	tokenizerFiles map[string][]byte
	// ignored are the keys of the adapters that nothing reads.
	ignored []peft.IgnoredKey
}

// load opens the model, its tokenizer and its adapters. The head is for what the
// flags say, else the first adapter, else the model, else src when it is not nil.
func (a *app) load(cmd *cobra.Command, f *modelFlags, src *dataSource) (*loaded, error) {
	if err := needFlags(cmd, "model"); err != nil {
		return nil, err
	}
	if err := f.threads(); err != nil {
		return nil, err
	}
	refs, err := adapterRefs(*f.loras)
	if err != nil {
		return nil, err
	}
	o, err := f.task.options()
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		own, err := adapterOptions(r.Path)
		if err != nil {
			return nil, ofAdapter(err)
		}
		o = over(o, own)
	}
	ignored, err := a.tellIgnored(refs...)
	if err != nil {
		return nil, err
	}
	trained := len(refs) > 0
	l, err := a.openWith(*f.model, func(c *model.Checkpoint, _ *tokenizer.Tokenizer) (model.Options, error) {
		if src == nil {
			return o, nil
		}
		o, note, err := src.choose(c, o)
		if note != "" {
			a.warn("%s", note)
		}
		return o, dataError(err, src.path)
	})
	if err != nil {
		return nil, err
	}
	l.ignored = ignored
	for _, r := range refs {
		if _, err := peft.Attach(l.Model, r.Path, r.Scale); err != nil {
			l.Close()
			return nil, ofAdapter(err)
		}
		if err := a.tokenizerOf(l, r.Path); err != nil {
			l.Close()
			return nil, err
		}
		if b, err := os.ReadFile(filepath.Join(r.Path, "chat_template.jinja")); err == nil {
			l.template = string(b)
		}
		if l.taskNames, err = readTasks(r.Path, l.taskNames); err != nil {
			l.Close()
			return nil, err
		}
	}
	if cmd.Flags().Changed("task-id") {
		if err := l.chooseTask(*f.taskID); err != nil {
			l.Close()
			return nil, err
		}
	}
	a.warnFresh(l, trained)
	return l, nil
}

// tellIgnored warns of the keys of adapters that nothing reads, and returns them.
func (a *app) tellIgnored(refs ...convert.AdapterRef) ([]peft.IgnoredKey, error) {
	var out []peft.IgnoredKey
	for _, r := range refs {
		keys, err := peft.IgnoredIn(r.Path)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
	}
	a.warnIgnored(out)
	return out, nil
}

func (a *app) warnIgnored(keys []peft.IgnoredKey) {
	for _, k := range keys {
		a.warn("%s", k)
	}
}

// readTasks returns the names of the tasks beside an adapter, names when it has none.
func readTasks(path string, names []string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(path, data.TaskFile))
	if err != nil {
		return names, nil // a file, or an adapter that tells no tasks apart
	}
	names, err = data.ReadTasks(b)
	if err != nil {
		err = withCode(exitFormat, formats.At(path, err))
	}
	return names, err
}

// chooseTask sets the task of all texts.
func (l *loaded) chooseTask(id string) error {
	if l.Tasks == 0 {
		return usagef("--task-id %s: no adapter of this model tells tasks apart (multitask-prompt-tuning does)", id)
	}
	if _, err := data.TaskNumber(id, l.taskNames, l.Tasks); err != nil {
		return usagef("--task-id: %w", err)
	}
	l.taskID = &id
	return nil
}

// taskNumber is the number of the task that was asked for, else 0.
func (l *loaded) taskNumber() int32 {
	if l.taskID == nil {
		return 0
	}
	n, _ := data.TaskNumber(*l.taskID, l.taskNames, l.Tasks) // checked by chooseTask
	return n
}

func adapterRefs(texts []string) ([]convert.AdapterRef, error) {
	var out []convert.AdapterRef
	for _, t := range texts {
		r, err := convert.ParseAdapterRef(t)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// adapterPaths are the paths of --lora, without their scales.
func adapterPaths(texts []string) []string {
	var out []string
	refs, _ := adapterRefs(texts) // read before
	for _, r := range refs {
		out = append(out, r.Path)
	}
	return out
}

// chatTemplate parses the model's chat template; nil when it has none.
func (l *loaded) chatTemplate() (*chat.Template, error) {
	source := l.template
	if source == "" {
		source = l.tok.ChatTemplate()
	}
	if source == "" {
		return nil, nil
	}
	name := func(id int32, ok bool) string {
		if !ok {
			return ""
		}
		return l.tok.Token(id)
	}
	t, err := chat.New(source, name(l.tok.BOS()), name(l.tok.EOS()))
	return t, withCode(exitFormat, err)
}

// unescape replaces \n, \t and \\, which are hard to type in a shell.
func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t").Replace(s)
}
