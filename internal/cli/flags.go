package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flags are the flags of a command, collected into titled groups for its help.
type flags struct {
	*pflag.FlagSet
	cmd   *cobra.Command
	group string
}

const groupAnnotation = "peftkit-group"

func flagsOf(cmd *cobra.Command) *flags {
	cmd.Flags().SortFlags = false
	return &flags{FlagSet: cmd.Flags(), cmd: cmd}
}

// section gives all flags defined from now on a title.
func (f *flags) section(title string) {
	f.mark()
	f.group = title
}

// mark files the flags defined since the last section.
func (f *flags) mark() {
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Annotations[groupAnnotation] == nil {
			_ = f.SetAnnotation(fl.Name, groupAnnotation, []string{f.group})
		}
	})
}

// needFlags makes flags obligatory, with a message that shows how to give them.
func needFlags(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, n := range names {
		if fl := cmd.Flags().Lookup(n); fl != nil && fl.Value.String() == "" {
			text := "--" + n
			if fl.Shorthand != "" {
				text = "-" + fl.Shorthand
			}
			kind, _ := pflag.UnquoteUsage(fl)
			missing = append(missing, text+" "+kind)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &usageError{err: fmt.Errorf("missing %s", strings.Join(missing, " and ")), cmd: cmd}
}

// aliases are other names of flags and configuration keys, as people know them
// from other tools; of several meanings the first that the command has counts.
var aliases = map[string][]string{
	"model-name-or-path": {"model"}, "base-model": {"model"}, "base-model-name-or-path": {"model"},
	"fine-tune-type": {"method"}, "finetuning-type": {"method"}, "adapter": {"method", "lora"},
	"lora-rank": {"rank"}, "lora-r": {"rank"}, "r": {"rank"},
	"lora-alpha": {"alpha"}, "lora-dropout": {"dropout"},
	"target": {"target-modules"}, "targets": {"target-modules"}, "lora-target": {"target-modules"},
	"lora-target-modules": {"target-modules"}, "lora-modules": {"target-modules"},
	"dataset": {"data"}, "dataset-name": {"data"}, "train-file": {"data"},
	"val-size": {"val-split"}, "val-set-size": {"val-split"},
	"max-seq-length": {"max-seq-len"}, "cutoff-len": {"max-seq-len"}, "max-length": {"max-seq-len"}, "sequence-len": {"max-seq-len"},
	"iters": {"max-steps"}, "num-train-epochs": {"epochs"}, "num-epochs": {"epochs"},
	"per-device-train-batch-size": {"batch-size"}, "micro-batch-size": {"batch-size"},
	"grad-accumulation-steps": {"grad-accum"}, "gradient-accumulation-steps": {"grad-accum"},
	"learning-rate": {"lr"}, "lr-schedule": {"schedule"}, "lr-scheduler-type": {"schedule"}, "lr-scheduler": {"schedule"},
	"warmup-ratio": {"warmup"}, "max-grad-norm": {"clip"}, "grad-clip": {"clip"},
	"adapter-path": {"lora", "output"}, "output-dir": {"output"}, "output-adapter": {"output"}, "outfile": {"output"}, "save-path": {"output"},
	"save-every": {"save-steps"}, "resume-from-checkpoint": {"resume"}, "resume-adapter-file": {"init-adapter"},
	"outtype": {"quantize"}, "quant": {"quantize"}, "max-tokens": {"tokens"}, "n-predict": {"tokens"}, "temperature": {"temp"},
	"seq-len": {"max-seq-len"},
}

// normalizeFlag lets flags be written with underscores and by their aliases.
func normalizeFlag(f *pflag.FlagSet, name string) pflag.NormalizedName {
	name = strings.ReplaceAll(name, "_", "-")
	for _, target := range aliases[name] {
		if f.Lookup(target) != nil {
			return pflag.NormalizedName(target)
		}
	}
	return pflag.NormalizedName(name)
}

// choice is a flag value that is one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }
func (c *choice) Set(s string) error {
	s = strings.ReplaceAll(strings.ToLower(s), "_", "-")
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("expected %s", strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

// word is a text flag with a name of its own for its value in the help.
type word struct {
	value string
	kind  string
}

func (w *word) String() string     { return w.value }
func (w *word) Type() string       { return w.kind }
func (w *word) Set(s string) error { w.value = s; return nil }

// text adds a flag whose help shows kind as its value.
func (f *flags) text(name, short, kind, def, usage string) *string {
	w := &word{value: def, kind: kind}
	f.VarP(w, name, short, usage)
	return &w.value
}

// list is a flag that may be given several times; a value is taken whole.
type list struct {
	values []string
	kind   string
}

func (l *list) String() string     { return strings.Join(l.values, " ") }
func (l *list) Type() string       { return l.kind }
func (l *list) Set(s string) error { l.values = append(l.values, s); return nil }

// texts adds a flag that may be repeated.
func (f *flags) texts(name, short, kind, usage string) *[]string {
	l := &list{kind: kind}
	f.VarP(l, name, short, usage)
	return &l.values
}

// oneOf adds a flag that takes one of a few words.
func (f *flags) oneOf(name, short, def, usage string, of ...string) *string {
	c := &choice{value: def, of: of}
	f.VarP(c, name, short, usage)
	_ = f.cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(of, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return &c.value
}
