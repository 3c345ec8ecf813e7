package cli

import (
	"strings"
	"time"

	"github.com/peftkit/peftkit/convert"
	"github.com/spf13/cobra"
)

func (a *app) mergeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "merge-lora -m MODEL --lora ADAPTER -o OUT", GroupID: groupMake,
		Aliases: []string{"merge", "fuse", "export-lora"},
		Short:   "Write a model with adapters merged into its weights",
		Long: "Write a model with one or more adapters merged into its weights. Model and adapters\n" +
			"may be of any format; OUT that ends in .gguf is written as GGUF, anything else as a\n" +
			"Hugging Face folder. Weights keep their types unless -q asks for another.\n\n" +
			"What matched, what did not and how much of the update survives the rounding to the\n" +
			"output type is printed. An adapter tensor without a place in the model is an error.",
		Example: "peftkit merge-lora -m model.gguf --lora adapters -o tuned.gguf\n" +
			"peftkit merge-lora -m ./SmolLM2-135M --lora adapters:0.7 -o tuned -q bf16\n" +
			"peftkit merge-lora -m model.gguf --lora style:0.5 --lora facts -o both.gguf -q q8_0",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	base := f.text("model", "m", "MODEL", "", "base model: GGUF file or Hugging Face folder")
	loras := f.texts("lora", "", "ADAPTER[:SCALE]", "adapter to merge; may be repeated")
	out := f.text("output", "o", "OUT", "", "file or folder to write")
	quant := f.text("quantize", "q", "TYPE", "", "type of the weights: "+writableTypes()+", auto or keep (default keep)")
	to := f.text("to", "", "FORMAT", "", "output format, when the name of OUT does not tell: gguf, safetensors")
	threads := threadsFlag(f)
	asJSON := f.Bool("json", false, "print the report as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needFlags(cmd, "model", "lora", "output"); err != nil {
			return err
		}
		if err := threads(); err != nil {
			return err
		}
		refs, err := adapterRefs(*loras)
		if err != nil {
			return err
		}
		began, t := time.Now(), a.newTransfer("merging")
		report, err := convert.Merge(cmd.Context(), *base, refs, *out, convert.Options{To: *to, Type: strings.ToLower(*quant), Progress: t.report})
		t.done()
		if err != nil {
			return ofAdapter(err)
		}
		a.warnIgnored(report.Ignored)
		o := &outcome{*out, report, time.Since(began).Seconds()}
		if report.Changed > 0 && report.Survived < mostSurvives {
			a.warn("only %.1f %% of the adapter's update is left after rounding: the steps of the output's type are too coarse for it, the merged model will not do what the adapter does. Merge with -q q8_0 or -q f16", 100*report.Survived)
		}
		if *asJSON {
			return printJSON(a.out, o)
		}
		a.printOutcome(*base, o)
		a.next("%s", try(*out, report.Left...))
		return nil
	}
	return cmd
}

// mostSurvives is the share of an update below which rounding has spoilt it.
// Q8_0 keeps more than 0.99 of ordinary adapters; a 4-bit model merged back onto
// its own grid kept 0.135 in the case that set this.
const mostSurvives = 0.9
