package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/spf13/cobra"
)

// groupOrder is the order of the surveys.
var groupOrder = []struct {
	group peft.Group
	title string
}{
	{peft.PromptBased, "Prompts: rows or keys before the text"},
	{peft.AdapterBased, "Adapters: small networks between the layers"},
	{peft.Reparametrisation, "Reparametrisation: changes of weights in few numbers"},
	{peft.Selective, "Selective: some of the weights there are"},
}

// methodRow is a method on a model.
type methodRow struct {
	methodInfo
	// Trainable counts the parameters of a fresh adapter with the defaults, Share is
	// that of the model's; null without a model and where the method does not fit.
	Trainable *int64   `json:"trainable_parameters,omitempty"`
	Share     *float64 `json:"trainable_share,omitempty"`
	// Problem says why the method does not fit the model.
	Problem string `json:"problem,omitempty"`
}

func (a *app) methodsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "methods [NAME]", GroupID: groupLook,
		Short: "List the fine-tuning methods, or explain one",
		Long: "List the fine-tuning methods by the groups of the surveys: whether the result can be\n" +
			"merged into the model, the format it is saved in, and where it comes from. With -m\n" +
			"each is attached to the model with its defaults and its trainable parameters are\n" +
			"counted; a method that does not fit says why. With a name, explain that method and\n" +
			"its options; several joined by + are explained as the parts of a combination.",
		Example:           "peftkit methods\npeftkit methods -m model.gguf\npeftkit methods lora\npeftkit methods -m ./minilm --task seq-cls --labels no,yes --json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMethods,
	}
	f := flagsOf(cmd)
	path := f.text("model", "m", "MODEL", "", "model to attach the methods to")
	task := addTaskFlags(f)
	asJSON := f.Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var rows []methodRow
		chosen := peft.Methods()
		if len(args) == 1 {
			var err error
			if chosen, err = peft.ParseMethods(args[0]); err != nil {
				return err
			}
		}
		infos := plugins().Methods
		for _, m := range chosen {
			i := slices.IndexFunc(infos, func(i methodInfo) bool { return i.Name == m.Info().Name })
			rows = append(rows, methodRow{methodInfo: infos[i]})
		}
		var l *loaded
		if *path != "" {
			o, err := task.options()
			if err != nil {
				return err
			}
			if l, err = a.fit(cmd, *path, o, chosen, rows); err != nil {
				return err
			}
			defer l.Close()
		}
		switch {
		case *asJSON:
			return printJSON(a.out, rows)
		case len(args) == 1:
			for i := range rows {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				a.explain(&rows[i])
			}
			if len(rows) > 1 {
				a.explainCombination(rows, args[0])
			}
			return nil
		}
		a.printMethods(rows, l)
		return nil
	}
	return cmd
}

// fit counts what each method would train in the model of a path.
func (a *app) fit(cmd *cobra.Command, path string, o model.Options, methods []peft.Method, rows []methodRow) (*loaded, error) {
	l, err := a.openWith(path, func(c *model.Checkpoint, _ *tokenizer.Tokenizer) (model.Options, error) {
		own, err := o.Resolve(c)
		if err != nil || own.Task != "" {
			return o, err
		}
		o.Task = model.SequenceClassification
		if o.Labels == nil {
			o.Labels = []string{"LABEL_0", "LABEL_1"}
		}
		a.warn("the model is a bare %s: counted with a head for %s into %s", c.Family.Name(), taskText(o.Task), plural(len(o.Labels), "label"))
		return o, nil
	})
	if err != nil {
		return nil, err
	}
	all := l.Parameters()
	act := a.start("attaching")
	defer act.end()
	for i, method := range methods {
		if err := cmd.Context().Err(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		// A fresh network: a method may leave weights of its own behind.
		m, err := model.Build(l.Checkpoint, l.Options)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		n, err := peft.Size(method, m, peft.Options{}, 42)
		if err != nil {
			rows[i].Problem = strings.TrimPrefix(err.Error(), rows[i].Name+": ")
			continue
		}
		share := float64(n) / float64(max(1, all))
		rows[i].Trainable, rows[i].Share = &n, &share
	}
	return l, nil
}

// printMethods writes the table, a part for each group.
func (a *app) printMethods(rows []methodRow, l *loaded) {
	s := a.out
	if l != nil {
		fmt.Fprintf(s, "%s %s parameters, %s\n\n", s.paint(bold, l.Source.Path), countText(l.Parameters()), taskText(l.Options.Task))
	}
	head := []string{"name"}
	if l != nil {
		head = append(head, ">trainable", ">share")
	}
	head = append(head, "merges", "saved as")
	narrow := s.tty && s.width() < 100
	switch {
	case l != nil:
		head = append(head, "|reference, or what is in the way")
	case narrow:
		head = append(head, "|what it trains")
	default:
		head = append(head, "|what it trains", "reference")
	}
	t := newTable(s, head...)
	for _, g := range groupOrder {
		t.title(g.title)
		for _, r := range rows {
			if r.Group != string(g.group) {
				continue
			}
			cells := []string{r.Name}
			last, _, _ := strings.Cut(r.Reference, ";")
			switch {
			case l != nil && r.Trainable != nil:
				cells = append(cells, countText(*r.Trainable), percentText(*r.Trainable, l.Parameters()))
			case l != nil:
				cells, last = append(cells, "–", "–"), "does not fit: "+r.Problem
				for _, kind := range []error{peft.ErrNoFit, peft.ErrConfig} { // it says so already
					last = strings.ReplaceAll(last, ": "+kind.Error(), "")
				}
			}
			cells = append(cells, map[bool]string{true: "yes", false: "no"}[r.Merges], r.Format)
			switch {
			case l != nil:
				cells = append(cells, last)
			case narrow:
				cells = append(cells, r.Doc)
			default:
				cells = append(cells, r.Doc, citation(r.Reference))
			}
			t.row(cells...)
		}
	}
	t.print()
	fmt.Fprintf(s, "\nExplain one: %s · train with it: %s · several at once: %s\n", s.paint(cyan, "peftkit methods NAME"),
		s.paint(cyan, "peftkit train --method NAME"), s.paint(cyan, "--method lora+prompt-tuning"))
}

// year ends the names of the authors of a reference.
var year = regexp.MustCompile(`[^,;:]*\b(19|20)\d\d\b`)

// citation shortens a reference to its authors and year.
func citation(reference string) string {
	if c := year.FindString(reference); c != "" {
		return strings.TrimSpace(c)
	}
	c, _, _ := strings.Cut(reference, ",")
	return c
}

// explain tells about one method.
func (a *app) explain(r *methodRow) {
	s := a.out
	name := s.paint(bold, r.Name)
	if len(r.Aliases) > 0 {
		name += " (" + strings.Join(r.Aliases, ", ") + ")"
	}
	fmt.Fprintf(s, "%s %s\n\n", name, r.Doc)
	f := facts{s: s}
	f.add("group", "%s", r.Group)
	f.add("reference", "%s", r.Reference)
	if r.Trainable != nil {
		f.add("trainable", "%s parameters, %.3g %% of the model's", countText(*r.Trainable), 100**r.Share)
	}
	if r.Problem != "" {
		f.add("problem", "%s", r.Problem)
	}
	rate := floatText(r.LearningRate)
	if r.WeightDecay > 0 {
		rate += ", weight decay " + floatText(r.WeightDecay)
	}
	f.add("learning rate", "%s", rate)
	saved := map[string]string{"peft": "a Hugging Face PEFT folder", "adapters": "a folder of the adapters library"}[r.Format]
	if saved == "" {
		saved = "format " + r.Format
	}
	if r.Format == "adapters" {
		saved = "a folder with a config of the adapters library: " + r.PeftType
	} else {
		saved += ", peft_type " + r.PeftType
	}
	f.add("saved as", "%s", saved)
	if r.Merges {
		f.add("merges", "yes, with peftkit merge-lora")
	} else {
		f.add("merges", "no: %s", orElse(r.NotMergeable, "its change is none of weights"))
	}
	f.add("GGUF", "%s", map[bool]string{true: "yes, with peftkit convert", false: "no"}[r.GGUF])
	f.add("example", "%s", r.example())
	f.print()
	if len(r.Options) > 0 {
		fmt.Fprintln(s)
		a.printOptions(r.Options)
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// example is a command line that trains with the method, with one option as an
// example of how they are given.
func (r *methodRow) example() string {
	line := "peftkit train -m MODEL -d DATA -o adapters --method " + r.Name
	for _, o := range r.Options {
		if o.Needed != "" {
			return fmt.Sprintf("%s --set %s=%s", line, o.Key, o.Needed)
		}
		switch o.Default.(type) {
		case int, float64, bool:
			if o.Flag != "" {
				return fmt.Sprintf("%s --%s %v", line, o.Flag, o.Default)
			}
			return fmt.Sprintf("%s --set %s=%v", line, o.Key, o.Default)
		}
	}
	return line
}

// printOptions lists the options of a method as they are given to train.
func (a *app) printOptions(list []optionInfo) {
	options := facts{s: a.out}
	for _, o := range list {
		flag, def := "--set "+o.Key+"=", ""
		if o.Default != nil && fmt.Sprint(o.Default) != "" {
			def = fmt.Sprintf(" (default %v)", o.Default)
		}
		if o.Flag != "" {
			flag = "--" + o.Flag
			if def == "" {
				def = fmt.Sprintf(" (%s)", o.Key)
			} else {
				def = strings.Replace(def, "(", "("+o.Key+", ", 1)
			}
		}
		options.add(flag, "%s%s", o.Doc, def)
	}
	options.print()
}

// explainCombination tells what several methods are together.
func (a *app) explainCombination(rows []methodRow, word string) {
	var merged, kept []string
	for _, r := range rows {
		if r.Merges {
			merged = append(merged, r.Name)
		} else {
			kept = append(kept, r.Name)
		}
	}
	fmt.Fprintf(a.out, "\n%s trained together, saved as one folder with a part for each\n\n", a.out.paint(bold, word))
	f := facts{s: a.out}
	f.add("learning rate", "%s, that of %s; the others keep their ratio to it", floatText(rows[0].LearningRate), rows[0].Name)
	f.add("merges", "%s", orElse(strings.Join(merged, ", "), "none"))
	if len(kept) > 0 {
		f.add("stays", "%s as an adapter", strings.Join(kept, ", "))
	}
	example := "peftkit train -m MODEL -d DATA -o adapters --method " + word
	for _, o := range rows[0].Options {
		if o.Default != nil && o.Default != "" {
			example += fmt.Sprintf(" --set %s.%s=%v", rows[0].Name, o.Key, o.Default)
			break
		}
	}
	f.add("example", "%s", example)
	f.print()
}
