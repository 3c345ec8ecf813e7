package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/train"
	"github.com/spf13/cobra"
)

// classified is the JSON of one text.
type classified struct {
	Text string `json:"text"`
	Pair string `json:"text_pair,omitempty"`
	// Label is the likeliest one, Labels those of several that fit.
	Label  string   `json:"label,omitempty"`
	Labels []string `json:"labels,omitempty"`
	// Score is the probability of Label, Scores those of all labels.
	Score  float64            `json:"score,omitempty"`
	Scores map[string]float64 `json:"scores,omitempty"`
	// Values of a regression.
	Values []float64 `json:"values,omitempty"`
	// Words with their tags.
	Words []taggedWord `json:"words,omitempty"`
	// Truncated says that the end of the text was not read.
	Truncated bool `json:"truncated,omitempty"`
}

type taggedWord struct {
	Word  string  `json:"word"`
	Tag   string  `json:"tag"`
	Score float64 `json:"score"`
}

func (a *app) classifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "classify -m MODEL [TEXT...]", GroupID: groupTry, Aliases: []string{"predict"},
		Short: "Let a classifier label texts",
		Long: "Label texts with a classifier: a fine-tuned encoder, or a model and the adapter that\n" +
			"was trained on it. The texts are arguments, or the lines of standard input. A text\n" +
			"classifier prints the likeliest labels with their probabilities, a regression its\n" +
			"numbers, a token classifier a tag for each word (split at white space).",
		Example: "peftkit classify -m ./minilm --lora adapters \"a warm and funny film\"\n" +
			"peftkit classify -m ./minilm --lora adapters --json < lines.txt\n" +
			"printf 'It rains.\\tThe street is dry.\\n' | peftkit classify -m ./minilm --lora nli --pair",
	}
	f := flagsOf(cmd)
	f.section("Model")
	m := addModelFlags(f)
	f.section("Text")
	pair := f.Bool("pair", false, "each text is two, with a tab between")
	maxLen := f.Int("max-seq-len", 0, "cut texts to this many tokens; 0 for what the model takes")
	f.section("Result")
	top := f.Int("top", 5, "labels to show for a single text; 0 for all")
	asJSON := f.Bool("json", false, "print a line of JSON for each text")
	f.mark()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *maxLen < 0 || *maxLen == 1 || *top < 0 {
			return usagef("--max-seq-len and --top: expected 0 or more")
		}
		if err := needFlags(cmd, "model"); err != nil {
			return err
		}
		texts, err := a.inputTexts(args)
		if err != nil {
			return err
		}
		l, err := a.load(cmd, m, nil)
		if err != nil {
			return err
		}
		defer l.Close()
		out, err := l.classify(cmd.Context(), texts, *pair, *maxLen)
		if err != nil {
			return err
		}
		if *asJSON {
			for i := range out {
				if err := printJSONLine(a.out, &out[i]); err != nil {
					return err
				}
			}
			return nil
		}
		a.printClassified(l, out, *top)
		cut := 0
		for i := range out {
			if out[i].Truncated {
				cut++
			}
		}
		if cut > 0 {
			a.warn("%d of %d texts were cut: the model reads at most %d tokens", cut, len(out), l.MaxPositions)
		}
		return nil
	}
	return cmd
}

// classify labels texts. The records carry any label at all: what is asked for is
// their tokens.
func (l *loaded) classify(ctx context.Context, texts []string, pair bool, maxLen int) ([]classified, error) {
	task, labels := l.Options.Task, l.Options.Labels
	if task != model.SequenceClassification && task != model.TokenClassification {
		if task == "" {
			return nil, usagef("%s: no head: give the adapter that was trained on it (--lora)", l.Source.Path)
		}
		return nil, withHint(usagef("%s: a model for %s classifies nothing", l.Source.Path, taskText(task)), "peftkit generate lets it write")
	}
	out := make([]classified, len(texts))
	records := make([]data.Record, len(texts))
	for i, t := range texts {
		out[i].Text = t
		r := &records[i]
		r.File, r.Line = "input", i+1
		if pair {
			var ok bool
			if out[i].Text, out[i].Pair, ok = strings.Cut(t, "\t"); !ok || task == model.TokenClassification {
				return nil, usagef("--pair: text %d has no tab, or the model labels words", i+1)
			}
		}
		if task == model.TokenClassification {
			r.Kind, r.Words = data.Tagged, strings.Fields(t)
			r.Tags = slices.Repeat([]string{labels[0]}, len(r.Words))
			continue
		}
		r.Kind, r.Text, r.Pair, r.HasPair = data.TextLabel, out[i].Text, out[i].Pair, pair
		r.Classes = []string{labels[0]}
		if l.Options.Problem == model.Regression {
			r.Classes, r.Many = slices.Repeat([]string{"0"}, len(labels)), len(labels) > 1
		}
	}
	if maxLen == 0 || maxLen > l.MaxPositions {
		maxLen = l.MaxPositions
	}
	ds, err := data.New(records, l.dataOptions(data.Options{Tokenizer: l.tok, MaxSeqLen: maxLen}))
	if err != nil {
		return nil, err
	}
	// data.New counts what it cuts; which texts these were shows one by one.
	if ds.Stats.Truncated > 0 {
		for i := range records {
			if one, err := data.New(records[i:i+1], l.dataOptions(data.Options{Tokenizer: l.tok, MaxSeqLen: maxLen})); err == nil {
				out[i].Truncated = one.Stats.Truncated > 0
			}
		}
	}
	if task == model.TokenClassification {
		return out, l.tagWords(ctx, ds, records, out)
	}
	logits, err := train.Predict(ctx, l.Model, ds)
	if err != nil {
		return nil, err
	}
	for i, row := range logits {
		c := &out[ds.Examples[i].Line-1]
		switch l.Options.Problem {
		case model.Regression:
			for _, v := range row {
				c.Values = append(c.Values, float64(v))
			}
			continue
		case model.MultiLabel:
			c.Scores, c.Labels = map[string]float64{}, []string{}
			for k, v := range row {
				p := 1 / (1 + math.Exp(-float64(v)))
				if c.Scores[labels[k]] = round6(p); p > 0.5 {
					c.Labels = append(c.Labels, labels[k])
				}
			}
			continue
		}
		c.Scores = map[string]float64{}
		for k, p := range softmax(row) {
			c.Scores[labels[k]] = round6(p)
			if c.Label == "" || p > c.Score {
				c.Label, c.Score = labels[k], round6(p)
			}
		}
	}
	return out, nil
}

// tagWords labels words by their first tokens.
func (l *loaded) tagWords(ctx context.Context, ds *data.Dataset, records []data.Record, out []classified) error {
	tape := nn.NewTape()
	defer tape.Close()
	for i := range ds.Examples {
		if err := ctx.Err(); err != nil {
			return err
		}
		ex := &ds.Examples[i]
		tape.Reset()
		x := l.Logits(tape, ds.BatchFor(l.Model, []int{i}), nil).Mat()
		c, words := &out[ex.Line-1], records[ex.Line-1].Words
		for row, label := range ex.Labels {
			if label == data.Ignore || len(words) == 0 {
				continue
			}
			p := softmax(x.Row(row))
			best := 0
			for k := range p {
				if p[k] > p[best] {
					best = k
				}
			}
			c.Words = append(c.Words, taggedWord{words[0], l.Options.Labels[best], round6(p[best])})
			words = words[1:]
		}
	}
	return nil
}

func softmax(row []float32) []float64 {
	out := make([]float64, len(row))
	top := slices.Max(row)
	var sum float64
	for i, v := range row {
		out[i] = math.Exp(float64(v - top))
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

func round6(x float64) float64 { return math.Round(x*1e6) / 1e6 }

func (a *app) printClassified(l *loaded, out []classified, top int) {
	s := a.out
	if l.Options.Task == model.TokenClassification {
		for i, c := range out {
			if i > 0 {
				fmt.Fprintln(s)
			}
			t := newTable(s, "~word", "tag", ">probability")
			for _, w := range c.Words {
				t.row(w.Word, w.Tag, fmt.Sprintf("%.1f %%", 100*w.Score))
			}
			t.print()
		}
		return
	}
	regression := l.Options.Problem == model.Regression
	if len(out) == 1 && !regression {
		c := out[0]
		names := sortedKeys(c.Scores)
		slices.SortStableFunc(names, func(x, y string) int { return cmp.Compare(c.Scores[y], c.Scores[x]) })
		if top > 0 && len(names) > top {
			names = names[:top]
		}
		t := newTable(s, "label", ">probability", "")
		for _, n := range names {
			t.row(n, fmt.Sprintf("%.1f %%", 100*c.Scores[n]), s.bar(c.Scores[n], 20))
		}
		t.print()
		return
	}
	head := []string{"label", ">probability", "~text"}
	if regression {
		head = []string{">value", "~text"}
	}
	t := newTable(s, head...)
	for _, c := range out {
		text := strings.Join(strings.Fields(c.Text), " ")
		if c.Pair != "" {
			text += " | " + c.Pair
		}
		switch {
		case regression:
			var v []string
			for _, x := range c.Values {
				v = append(v, fmt.Sprintf("%.4f", x))
			}
			t.row(strings.Join(v, " "), text)
		case l.Options.Problem == model.MultiLabel:
			p := 1.0
			for _, n := range c.Labels {
				p = min(p, c.Scores[n])
			}
			label, prob := strings.Join(c.Labels, ", "), fmt.Sprintf("%.1f %%", 100*p)
			if len(c.Labels) == 0 {
				label, prob = "–", ""
			}
			t.row(label, prob, text)
		default:
			t.row(c.Label, fmt.Sprintf("%.1f %%", 100*c.Score), text)
		}
	}
	t.print()
}
