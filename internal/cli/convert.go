package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
	"github.com/spf13/cobra"
)

// outcome is the JSON of convert and merge-lora.
type outcome struct {
	Output string `json:"output"`
	*convert.Report
	Seconds float64 `json:"seconds"`
}

func (a *app) convertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "convert SRC -o OUT", GroupID: groupMake, Aliases: []string{"quantize"},
		Short: "Convert a model or adapter between formats and types",
		Long: "Convert a model between GGUF and a Hugging Face folder, or an adapter between a\n" +
			"PEFT folder and a GGUF adapter, or change the type of a model's weights. The output\n" +
			"format follows from the ending of OUT: .gguf is GGUF, anything else a folder.\n\n" +
			"Everything is streamed: a model larger than memory converts too. What had to be\n" +
			"rewritten or left out is listed; what cannot be carried is an error.",
		Example: "peftkit convert ./SmolLM2-135M -o model.gguf -q q8_0\n" +
			"peftkit convert model.gguf -o folder\n" +
			"peftkit convert adapters -o adapter.gguf --base model.gguf\n" +
			"peftkit convert loha -o lora --base model --svd-rank 16\n" +
			"peftkit convert stories260K.bin -o stories.gguf",
		Args: exactArgs("SRC"),
	}
	f := flagsOf(cmd)
	out := f.text("output", "o", "OUT", "", "file or folder to write")
	quant := f.text("quantize", "q", "TYPE", "", "type of the weights: "+writableTypes()+", keep or auto (default auto)")
	to := f.text("to", "", "FORMAT", "", "output format, when the name of OUT does not tell: gguf, safetensors, peft")
	base := f.text("base", "", "MODEL", "", "base model of an adapter that has to be renamed")
	rank := f.Int("svd-rank", 0, "write an adapter of any mergeable method as LoRA of this rank, and print what that leaves out")
	threads := threadsFlag(f)
	asJSON := f.Bool("json", false, "print the report as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := needFlags(cmd, "output"); err != nil {
			return err
		}
		if err := threads(); err != nil {
			return err
		}
		adapter := formats.IsAdapter(args[0])
		began, t := time.Now(), a.newTransfer("writing")
		report, err := convert.File(cmd.Context(), args[0], *out, convert.Options{To: *to, Type: strings.ToLower(*quant), Base: *base, Rank: *rank, Progress: t.report})
		t.done()
		if err != nil {
			return ofAdapter(err)
		}
		a.warnIgnored(report.Ignored)
		o := &outcome{*out, report, time.Since(began).Seconds()}
		if *asJSON {
			return printJSON(a.out, o)
		}
		a.printOutcome(args[0], o)
		if adapter {
			a.next("%s", tryAdapter(*base, *out))
		} else {
			a.next("%s", try(*out))
		}
		return nil
	}
	return cmd
}

func writableTypes() string {
	var names []string
	for _, d := range tensor.All() {
		if d.Encode != nil && d != tensor.F64 {
			names = append(names, strings.ToLower(d.Name))
		}
	}
	return strings.Join(names, ", ")
}

// printOutcome tells what a conversion or merge did.
func (a *app) printOutcome(src string, o *outcome) {
	fmt.Fprintf(a.out, "%s %s %s\n\n", src, a.out.paint(dim, "→"), a.out.paint(bold, o.Output))
	f := facts{s: a.out}
	format := o.From + " → " + o.To
	if o.Family != "" {
		format += ", " + o.Family
	}
	f.add("format", "%s", format)
	f.add("written", "%s, %s in %s", plural(o.Tensors, "tensor"), bytesText(o.Bytes), durationText(time.Duration(o.Seconds*float64(time.Second))))
	var types []string
	for _, k := range sortedKeys(o.Types) {
		types = append(types, fmt.Sprintf("%s × %d", k, o.Types[k]))
	}
	f.add("types", "%s", strings.Join(types, ", "))
	var parts []string
	for _, p := range []struct {
		n    int
		text string
	}{{o.Changed, "changed"}, {o.Copied, "copied as they are"}, {o.Reencoded, "written in another type"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	f.add("tensors", "%s", strings.Join(parts, ", "))
	for _, ad := range o.Adapters {
		f.add("adapter", "%s at scale %s: %d tensors matched, %d weights changed", ad.Path, floatText(float64(ad.Scale)), ad.Matched, ad.Changed)
	}
	for i, path := range o.Left {
		f.add(map[bool]string{true: "stays adapter"}[i == 0], "%s: apply it to the output with --lora %s", path, quote(path))
	}
	if o.Changed > 0 {
		f.add("update", "largest change %s, %.2f %% of it survives the rounding", floatText(o.MaxDelta), 100*o.Survived)
	}
	if o.PeakBytes > 0 {
		f.add("peak memory", "%s, mapped files included", bytesText(o.PeakBytes))
	}
	for i, n := range o.Notes {
		label := ""
		if i == 0 {
			label = "notes"
		}
		f.add(label, "%s", n)
	}
	f.print()
}

// quote writes a path so that a shell takes it as one word.
func quote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`_-./:@%+=,`, r) || r == filepath.Separator
	}
	if path != "" && !strings.ContainsFunc(path, func(r rune) bool { return !plain(r) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
