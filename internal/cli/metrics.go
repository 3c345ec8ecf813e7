package cli

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/train"
)

// metricOrder is the order in which metrics are printed.
var metricOrder = []struct{ name, label string }{
	{"loss", "loss"}, {"perplexity", "perplexity"}, {"top1", "top-1"},
	{"accuracy", "accuracy"}, {"f1", "F1"}, {"f1_macro", "macro F1"}, {"matthews", "Matthews correlation"},
	{"pearson", "Pearson correlation"}, {"spearman", "Spearman correlation"}, {"mse", "squared error"}, {"mae", "absolute error"},
	{"exact_match", "exact match"},
}

// metricLabel names a metric for people.
func metricLabel(name string) string {
	for _, m := range metricOrder {
		if m.name == name {
			return m.label
		}
	}
	return name
}

// percentMetrics are shares.
var percentMetrics = []string{"top1", "accuracy", "f1", "f1_macro", "exact_match"}

// metricText writes the value of a metric.
func metricText(name string, v float64) string {
	switch {
	case slices.Contains(percentMetrics, name):
		return fmt.Sprintf("%.2f %%", 100*v)
	case name == "perplexity":
		return fmt.Sprintf("%.4g", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// metricTexts lists the metrics of an evaluation with their labels.
func metricTexts(r *train.EvalResult) [][2]string {
	var out [][2]string
	for _, m := range metricOrder {
		v, ok := r.Metrics[m.name]
		if !ok || m.name == "exact_match" || m.name == "mse" && v == r.Loss {
			continue
		}
		text := metricText(m.name, v)
		switch {
		case m.name == "top1":
			text += fmt.Sprintf(" of %s tokens", countText(int64(r.Tokens)))
		case m.name == "accuracy" && r.Task == model.TokenClassification:
			text += fmt.Sprintf(" of %s words", countText(int64(r.Tokens)))
		case m.name == "accuracy":
			text += fmt.Sprintf(" of %s", plural(r.Examples, "example"))
		}
		out = append(out, [2]string{m.label, text})
	}
	return out
}

// shortMetrics is an evaluation in a few words.
func shortMetrics(r *train.EvalResult) string {
	text := "loss " + lossText(r.Loss)
	if r.Metric != "" && r.Metric != "top1" {
		text += ", " + metricLabel(r.Metric) + " " + metricText(r.Metric, r.Score)
	} else if r.Task.Generates() {
		text += fmt.Sprintf(", perplexity %.4g, top-1 %.1f %%", r.Perplexity, 100*r.Top1)
	}
	return text
}
