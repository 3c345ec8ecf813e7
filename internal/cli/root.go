package cli

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/peftkit/peftkit/internal/spell"
	"github.com/peftkit/peftkit/kernels"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Groups of commands in the help text.
const (
	groupMake = "make"
	groupTry  = "try"
	groupLook = "look"
)

// root builds the command tree.
func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peftkit",
		Short: "Fine-tune language models on a plain CPU",
		Long: "peftkit fine-tunes language models on a plain CPU, straight on a GGUF file or a\n" +
			"Hugging Face folder, and carries the result to llama.cpp, Ollama and transformers.",
		Example: "peftkit demo\n" +
			"peftkit train -m model.gguf -d chat.jsonl -o adapters\n" +
			"peftkit generate -m model.gguf --lora adapters -p \"Hello\"\n" +
			"peftkit merge-lora -m model.gguf --lora adapters -o tuned.gguf",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			var names []string
			for _, c := range cmd.Commands() {
				names = append(append(names, c.Name()), c.Aliases...)
			}
			err := fmt.Errorf("unknown command %q", args[0])
			if near := spell.Nearest(args[0], names); near != "" {
				return withHint(err, "did you mean %q? %s %s", near, cmd.CommandPath(), near)
			}
			return err
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			return nil
		},
	}
	cmd.AddGroup(
		&cobra.Group{ID: groupMake, Title: "Make:"},
		&cobra.Group{ID: groupTry, Title: "Try:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
	)
	cmd.SetVersionTemplate("peftkit {{.Version}}\n")
	cmd.SetGlobalNormalizationFunc(normalizeFlag)
	cmd.SetHelpFunc(a.help)
	cmd.SetUsageFunc(func(*cobra.Command) error { return nil })
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return a.flagError(cmd, err) })
	for _, c := range []*cobra.Command{
		a.trainCommand(), a.convertCommand(), a.mergeCommand(),
		a.generateCommand(), a.classifyCommand(), a.evalCommand(), a.compareCommand(), a.compareRunCommand(), a.demoCommand(),
		a.inspectCommand(), a.methodsCommand(), a.pluginsCommand(), a.doctorCommand(), a.tokenizeCommand(), a.logitsCommand(), a.versionCommand(),
	} {
		cmd.AddCommand(c)
	}
	cmd.InitDefaultCompletionCmd()
	cmd.InitDefaultHelpCmd()
	for _, c := range cmd.Commands() {
		switch c.Name() {
		case "completion":
			c.Args = wordOf("shell", "bash", "zsh", "fish", "powershell")
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				if len(args) == 0 {
					return nil
				}
				if _, rest, err := cmd.Find(args); err != nil || len(rest) == len(args) {
					return cmd.Args(cmd, args)
				}
				return nil
			}
		}
	}
	return cmd
}

// flagError explains a flag that could not be read, with the nearest one that
// there is.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if len(name) == 1 {
			return fmt.Errorf("unknown flag -%s", name)
		}
		err := fmt.Errorf("unknown flag --%s", name)
		if hint := flagHint(cmd, name); hint != "" {
			return withHint(err, "%s", hint)
		}
		return err
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		f := invalid.GetFlag()
		err := fmt.Errorf("--%s: found %q: %s", f.Name, invalid.GetValue(), plainError(invalid.Unwrap()))
		if c, ok := f.Value.(*choice); ok {
			if hint := choiceHint(f.Name, invalid.GetValue(), c.of); hint != "" {
				return withHint(err, "%s", hint)
			}
		}
		return err
	}
	return err
}

// exactArgs wants these arguments, named as the usage line names them.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("missing argument %s", strings.Join(names[len(args):], " "))
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// wordOf wants no argument that is not one of these words, which commands take.
func wordOf(kind string, words ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &spell.UnknownError{Kind: kind, Word: args[0], Known: words}
		}
		return nil
	}
}

// noArgs wants none.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

// threadsFlag adds --threads; the function it returns applies it.
func threadsFlag(f *flags) (apply func() error) {
	n := f.Int("threads", 0, "worker threads (default: all cores)")
	return func() error {
		if *n < 0 {
			return usagef("--threads %d: expected 1 or more", *n)
		}
		if err := kernels.TierError(); err != nil {
			return usagef("%w", err)
		}
		if *n > 0 {
			kernels.SetThreads(*n)
		}
		return nil
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", GroupID: groupLook, Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "peftkit %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// version is that of the main module, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if info.Main.Path != modulePath { // a custom build: the version of the library in it
		for _, d := range info.Deps {
			if d.Path == modulePath {
				v = d.Version
			}
		}
	}
	if v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && info.Main.Path == modulePath:
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}

const modulePath = "github.com/peftkit/peftkit"
