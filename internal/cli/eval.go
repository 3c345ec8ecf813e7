package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/train"
	"github.com/spf13/cobra"
)

// evaluation is the JSON of eval. A loss that is no number is null.
type evaluation struct {
	Task       model.Task `json:"task"`
	Loss       *float64   `json:"loss"`
	Perplexity *float64   `json:"perplexity,omitempty"`
	// Tokens counts labels: examples for a text classifier.
	Tokens int `json:"tokens"`
	// Metrics of the task by name; Score is the value of Metric, the main one.
	Metrics  map[string]*float64 `json:"metrics"`
	Metric   string              `json:"metric"`
	Score    *float64            `json:"score"`
	Top1     float64             `json:"top1"`
	Examples int                 `json:"examples"`
	// Of is how many examples the data have when --limit leaves some out.
	Of         int      `json:"of,omitempty"`
	ExactMatch *float64 `json:"exact_match,omitempty"`
	Matched    *int     `json:"matched,omitempty"`
	// Dropped examples had no token that counts.
	Dropped   int `json:"dropped"`
	Truncated int `json:"truncated"`
	// Ignored are keys of the adapters that nothing reads.
	Ignored []peft.IgnoredKey `json:"ignored_keys,omitempty"`
}

func (a *app) evalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "eval -m MODEL -d DATA", GroupID: groupTry,
		Short: "Measure a model on a data set",
		Long: "Measure how well a model predicts the answers of a data set: loss (mean\n" +
			"cross-entropy in nats), perplexity, and the share of tokens that had the highest\n" +
			"probability. --exact-match also lets the model answer every prompt greedily and\n" +
			"counts the answers that are equal. Of a folder the test part is taken, else valid.\n\n" +
			"Classifiers are measured by accuracy, F1 and Matthews correlation, regressions by\n" +
			"Pearson and Spearman correlation, as scikit-learn and SciPy define them. F1 is that\n" +
			"of the second of two classes, the mean over more (macro), or for words over all\n" +
			"tags but O.",
		Example: "peftkit eval -m model.gguf -d test.jsonl\n" +
			"peftkit eval -m model.gguf --lora adapters -d data/ --exact-match\n" +
			"peftkit eval -m model.gguf -d test.tsv --columns text,label --map \"prompt={text} =>\" --map completion=label --json\n" +
			"peftkit eval -m ./minilm --lora adapters -d dev.tsv --columns text,label",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	f.section("Model")
	m := addModelFlags(f)
	f.section("Data")
	d := addDataFlags(f, ".jsonl, .json, .csv, .tsv, .parquet or .txt file, also .gz or .zst, or a folder with test*")
	part := f.oneOf("part", "", "", "part of a folder (default test, else valid)", "test", "valid", "train")
	limit := f.Int("limit", 0, "use the first N examples only; 0 for all")
	maxLen := f.Int("max-seq-len", 0, "cut examples to this many tokens; 0 for what the model takes")
	f.section("Result")
	exact := f.Bool("exact-match", false, "generate the answers and compare them")
	answers := f.text("answers", "", "FILE", "", "write each answer of --exact-match as a line of JSON")
	asJSON := f.Bool("json", false, "print one JSON object")
	f.mark()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needFlags(cmd, "model", "data"); err != nil {
			return err
		}
		if *limit < 0 || *maxLen < 0 {
			return usagef("--limit and --max-seq-len: expected 0 or more")
		}
		if *answers != "" && !*exact {
			return usagef("--answers needs --exact-match")
		}
		src, err := d.source(*part)
		if err != nil {
			return dataError(err, *d.path)
		}
		l, err := a.load(cmd, m, src)
		if err != nil {
			return err
		}
		defer l.Close()
		ds, err := l.evalData(d, src.options.Part, *maxLen, *limit)
		if err != nil {
			return dataError(err, *d.path)
		}
		act := a.start("evaluating")
		r, err := train.Evaluate(cmd.Context(), l.Model, ds)
		act.end()
		if err != nil {
			return err
		}
		e := &evaluation{Task: r.Task, Loss: finiteOrNil(r.Loss), Tokens: r.Tokens, Top1: r.Top1, Metrics: map[string]*float64{}, Metric: r.Metric,
			Score: finiteOrNil(r.Score), Examples: len(ds.Examples), Of: ds.Stats.Of, Dropped: ds.Stats.Untrained, Truncated: ds.Stats.Truncated, Ignored: l.ignored}
		if r.Task.Generates() {
			e.Perplexity = finiteOrNil(r.Perplexity)
		}
		for name, v := range r.Metrics {
			e.Metrics[name] = finiteOrNil(v)
		}
		if *exact {
			if !r.Task.Generates() {
				return usagef("--exact-match: a model for %s writes no text", taskText(r.Task))
			}
			if err := a.exactMatch(cmd, l, ds, *answers, e); err != nil {
				return err
			}
		}
		if *asJSON {
			return printJSON(a.out, e)
		}
		a.printEvaluation(e, r, ds)
		return nil
	}
	return cmd
}

func (l *loaded) evalData(d *dataFlags, part string, maxLen, limit int) (*data.Dataset, error) {
	if maxLen == 0 || maxLen > l.MaxPositions {
		maxLen = l.MaxPositions
	}
	o, err := d.options(l.tok, maxLen)
	if err != nil {
		return nil, err
	}
	o.Part, o.Limit = part, limit
	return data.Load(*d.path, l.dataOptions(o))
}

func (a *app) exactMatch(cmd *cobra.Command, l *loaded, ds *data.Dataset, file string, e *evaluation) (err error) {
	var w *bufio.Writer
	if file != "" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		w = bufio.NewWriter(f)
		defer func() {
			if e := w.Flush(); err == nil {
				err = e
			}
			if e := f.Close(); err == nil {
				err = e
			}
		}()
	}
	done := 0
	r, err := generate.ExactMatch(cmd.Context(), l.Model, l.tok, ds, func(m generate.Match) {
		done++
		a.err.setLine(fmt.Sprintf("answering %s %d/%d", a.err.bar(float64(done)/float64(len(ds.Examples)), 20), done, len(ds.Examples)))
		if w != nil {
			if b, e := json.Marshal(m); e == nil {
				w.Write(append(b, '\n')) // a failure shows in Flush
			}
		}
	})
	a.err.clearLine()
	if err != nil {
		return dataError(err, "")
	}
	score := r.Score()
	e.ExactMatch, e.Matched = &score, &r.Equal
	e.Metrics["exact_match"], e.Metric, e.Score = &score, "exact_match", &score
	e.Examples = max(e.Examples, r.Examples)
	return nil
}

func finiteOrNil(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

func (a *app) printEvaluation(e *evaluation, r *train.EvalResult, ds *data.Dataset) {
	f := facts{s: a.out}
	f.add("data", "%s", dataText(ds))
	for _, m := range metricTexts(r) {
		f.add(m[0], "%s", m[1])
	}
	if e.ExactMatch != nil {
		f.add("exact match", "%.2f %% (%d of %d answers)", 100**e.ExactMatch, *e.Matched, e.Examples)
	}
	f.print()
	for _, n := range ds.Stats.Notes() {
		a.warn("%s", n)
	}
}
