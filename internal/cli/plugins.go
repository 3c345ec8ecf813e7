package cli

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
	"github.com/spf13/cobra"
)

type pluginList struct {
	Formats  []formatInfo `json:"formats"`
	Families []string     `json:"families"`
	Methods  []methodInfo `json:"methods"`
	Types    []typeInfo   `json:"types"`
}

type formatInfo struct {
	Name    string   `json:"name"`
	Doc     string   `json:"doc"`
	Model   []string `json:"model"`
	Adapter []string `json:"adapter"`
}

type methodInfo struct {
	Name         string       `json:"name"`
	Aliases      []string     `json:"aliases,omitempty"`
	PeftType     string       `json:"peft_type"`
	Group        string       `json:"group"`
	Doc          string       `json:"doc"`
	Reference    string       `json:"reference"`
	LearningRate float64      `json:"learning_rate"`
	WeightDecay  float64      `json:"weight_decay"`
	Merges       bool         `json:"merges"`
	NotMergeable string       `json:"not_mergeable,omitempty"`
	Format       string       `json:"format"`
	GGUF         bool         `json:"gguf"`
	Options      []optionInfo `json:"options"`
}

type optionInfo struct {
	Key     string `json:"key"`
	Flag    string `json:"flag,omitempty"`
	Default any    `json:"default"`
	Needed  string `json:"needed,omitempty"`
	Doc     string `json:"doc"`
}

type typeInfo struct {
	Name string  `json:"name"`
	Bits float64 `json:"bits_per_weight"`
	Read bool    `json:"read"`
	// Write says that it can be given to -q.
	Write bool `json:"write"`
}

func plugins() pluginList {
	l := pluginList{Formats: []formatInfo{}, Families: []string{}, Methods: []methodInfo{}}
	for _, f := range formats.All() {
		i := formatInfo{Name: f.Name(), Doc: f.Doc(), Model: []string{}, Adapter: []string{}}
		if _, ok := f.(formats.ModelReader); ok {
			i.Model = append(i.Model, "read")
		}
		if _, ok := f.(formats.ModelWriter); ok {
			i.Model = append(i.Model, "write")
		}
		if _, ok := f.(formats.AdapterReader); ok {
			i.Adapter = append(i.Adapter, "read")
		}
		if _, ok := f.(formats.AdapterWriter); ok {
			i.Adapter = append(i.Adapter, "write")
		}
		l.Formats = append(l.Formats, i)
	}
	for _, f := range model.Families() {
		l.Families = append(l.Families, f.Name())
	}
	for _, m := range peft.Methods() {
		info := m.Info()
		_, gguf := m.(peft.GGUFConverter)
		i := methodInfo{Name: info.Name, PeftType: info.PeftType, Group: string(info.Group), Doc: info.Doc, Reference: info.Reference,
			LearningRate: info.LearningRate, WeightDecay: info.WeightDecay, Merges: mergeable(m), NotMergeable: info.NotMergeable,
			Aliases: info.Aliases, Format: orElse(info.Format, "peft"), GGUF: gguf, Options: []optionInfo{}}
		for _, o := range info.Options {
			i.Options = append(i.Options, optionInfo(o))
		}
		l.Methods = append(l.Methods, i)
	}
	for _, d := range tensor.All() {
		if d.Decode != nil {
			l.Types = append(l.Types, typeInfo{d.Name, 8 * float64(d.Bytes) / float64(d.Block), true, d.Encode != nil})
		}
	}
	return l
}

func (a *app) pluginsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "plugins [NAME]", GroupID: groupLook,
		Short: "List formats, model families, methods and types",
		Long: "List the file formats, model families, fine-tuning methods and tensor types that\n" +
			"this build knows. With the name of a method, list its options.",
		Example:           "peftkit plugins\npeftkit plugins lora\npeftkit plugins --json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMethods,
	}
	f := flagsOf(cmd)
	asJSON := f.Bool("json", false, "print one JSON object")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return a.printMethod(args[0], *asJSON)
		}
		l := plugins()
		if *asJSON {
			return printJSON(a.out, l)
		}
		a.printPlugins(l)
		return nil
	}
	return cmd
}

// completeMethods offers the methods' names to the shell, also after a + or a comma.
func completeMethods(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	before := begun[:strings.LastIndexAny(begun, "+,")+1]
	var names []string
	for _, m := range peft.Methods() {
		names = append(names, before+m.Info().Name+"\t"+m.Info().Doc)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) printPlugins(l pluginList) {
	title := func(t string) { fmt.Fprintln(a.out, a.out.paint(bold, t)) }
	can := func(words []string) string {
		if len(words) == 0 {
			return "–"
		}
		return strings.Join(words, " ")
	}
	title("Formats")
	t := newTable(a.out, "name", "models", "adapters", "|what it is")
	for _, f := range l.Formats {
		t.row(f.Name, can(f.Model), can(f.Adapter), f.Doc)
	}
	t.print()
	list := func(words []string) {
		width := a.out.width()
		if !a.out.tty {
			width = tableWidth
		}
		for _, line := range wrap(strings.Join(words, ", "), min(width, tableWidth)-2) {
			fmt.Fprintf(a.out, "  %s\n", line)
		}
	}

	fmt.Fprintln(a.out)
	title("Model families")
	list(l.Families)

	for _, g := range groupOrder {
		var names []string
		for _, m := range l.Methods {
			if m.Group == string(g.group) {
				names = append(names, m.Name)
			}
		}
		if len(names) > 0 {
			fmt.Fprintln(a.out)
			title("Methods · " + g.title)
			list(names)
		}
	}
	yes := map[bool]string{true: "yes", false: "no"}

	fmt.Fprintln(a.out)
	title("Tensor types")
	t = newTable(a.out, "name", ">bits per weight", "read", "write (-q)")
	for _, d := range l.Types {
		t.row(d.Name, fmt.Sprintf("%.4g", d.Bits), yes[d.Read], yes[d.Write])
	}
	t.print()
	fmt.Fprintf(a.out, "\nWhat the methods train: %s · one with its options: %s\n", a.out.paint(cyan, "peftkit methods"), a.out.paint(cyan, "peftkit methods NAME"))
}

// printMethod shows one method with its options.
func (a *app) printMethod(name string, asJSON bool) error {
	m, err := peft.ByName(name)
	if err != nil {
		return err
	}
	name = m.Info().Name
	var info methodInfo
	for _, i := range plugins().Methods {
		if i.Name == name {
			info = i
		}
	}
	if asJSON {
		return printJSON(a.out, info)
	}
	a.explain(&methodRow{methodInfo: info})
	return nil
}
