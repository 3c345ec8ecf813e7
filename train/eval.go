package train

import (
	"context"
	"encoding/json"
	"maps"
	"math"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// EvalResult tells how well a model predicts the labels of a data set.
type EvalResult struct {
	// Task of the data.
	Task model.Task
	// Loss is the mean over all labels, weighted if the data set weighs them: of the cross-entropy in nats per token or
	// example, for several labels of the binary cross-entropy per label, for a
	// regression of the squared error.
	Loss float64
	// Perplexity is exp(Loss) of a language model.
	Perplexity float64
	// Tokens is the number of labels that were predicted: tokens, examples for
	// sequence classification.
	Tokens int
	// Examples is the number of examples they are in.
	Examples int
	// Top1 is the share of labels that had the highest logit; 0 for a regression.
	Top1 float64
	// Metrics of the task by name, with the definitions of scikit-learn and SciPy:
	//
	//	language models       loss, perplexity, top1
	//	one class             loss, accuracy, f1 (of the second of two classes, else macro), f1_macro, matthews
	//	several classes       loss, accuracy (all labels right), f1 (micro), f1_macro
	//	regression            loss, mse, mae, pearson, spearman
	//	a class per token     loss, accuracy, f1 (micro, without the tag O), f1_macro
	//
	// Callers add what they measure by writing text: exact_match.
	Metrics map[string]float64
	// Metric is the name of the main one and Score its value.
	Metric string
	Score  float64
}

// Set adds a metric and makes it the main one.
func (r *EvalResult) Set(metric string, v float64) {
	if r.Metrics == nil {
		r.Metrics = map[string]float64{}
	}
	r.Metrics[metric] = v
	r.Metric, r.Score = metric, v
}

// MarshalJSON writes infinite numbers and NaN as null.
func (r *EvalResult) MarshalJSON() ([]byte, error) {
	out := map[string]any{"loss": jsonNumber(r.Loss), "tokens": r.Tokens, "top1": r.Top1}
	if r.Task.Generates() || r.Task == "" {
		out["perplexity"] = jsonNumber(r.Perplexity)
	}
	for name, v := range r.Metrics {
		out[name] = jsonNumber(v)
	}
	if r.Metric != "" {
		out["metric"], out["score"], out["examples"] = r.Metric, jsonNumber(r.Score), r.Examples
	}
	return json.Marshal(out)
}

// evalTokens is about how many tokens go through the network at once; evalLogits
// is about how many logits are held.
const (
	evalTokens = 1024
	evalLogits = 4 << 20
)

// Evaluate computes the mean over all labels of ds, whatever examples they are
// in, and the metrics of the task.
func Evaluate(ctx context.Context, m *model.Model, ds *data.Dataset) (*EvalResult, error) {
	if err := fits(m, ds); err != nil {
		return nil, err
	}
	e := &evaluator{m: m, tape: nn.NewTape(), problem: m.Options.Problem}
	defer e.tape.Close()
	r := &EvalResult{Task: taskName(ds.Task), Examples: len(ds.Examples)}
	err := groups(ctx, ds, func(group []int) {
		b := ds.BatchFor(m, group)
		if ds.Task == model.SequenceClassification {
			e.sequences(b)
		} else {
			e.tokens(b)
		}
	})
	if err != nil {
		return nil, err
	}
	e.finish(r, ds)
	return r, nil
}

// groups calls f with the examples of a data set, as many at once as make about
// evalTokens tokens.
func groups(ctx context.Context, ds *data.Dataset, f func(examples []int)) error {
	for i := 0; i < len(ds.Examples); {
		if err := ctx.Err(); err != nil {
			return err
		}
		var group []int
		for n := 0; i < len(ds.Examples); i++ {
			if n += len(ds.Examples[i].Tokens) + len(ds.Examples[i].Source); n > evalTokens && len(group) > 0 {
				break
			}
			group = append(group, i)
		}
		f(group)
	}
	return nil
}

// Predict returns the logits of each example of a sequence classification, in
// order: a row per example, a column per label.
func Predict(ctx context.Context, m *model.Model, ds *data.Dataset) ([][]float32, error) {
	if err := fits(m, ds); err != nil {
		return nil, err
	}
	tape := nn.NewTape()
	defer tape.Close()
	var out [][]float32
	err := groups(ctx, ds, func(group []int) {
		tape.Reset()
		x := m.Logits(tape, ds.BatchFor(m, group), nil).Mat()
		for r := range x.Rows {
			out = append(out, append([]float32(nil), x.Row(r)...))
		}
	})
	return out, err
}

// evaluator adds up what batches say.
type evaluator struct {
	m       *model.Model
	tape    *nn.Tape
	problem model.Problem

	sum, weight   float64
	n, right      int
	want, got     []int32   // classes
	target, value []float32 // of several labels and regressions
}

// tokens takes in a batch with a label per token.
func (e *evaluator) tokens(b *model.Batch) {
	e.tape.Reset()
	x, all := e.m.Labelled(e.tape, b)
	var rows, labels []int32
	var weights []float32
	for i, l := range all {
		if l < 0 {
			continue
		}
		rows, labels = append(rows, int32(i)), append(labels, l)
		w := float32(1)
		if i < len(b.Weights) { // the labels of first tokens are behind and weigh 1
			w = b.Weights[i]
		}
		weights = append(weights, w)
	}
	if len(rows) == 0 {
		return
	}
	h := nn.GatherRows(e.tape, x, rows)
	// Out of the tape, so that it can be reset between chunks of logits.
	hidden, width := append([]float32(nil), h.Mat().Data...), h.Cols
	chunk := max(1, evalLogits/max(1, e.m.Head.W.Out))
	for r0 := 0; r0 < len(rows); r0 += chunk {
		r1 := min(r0+chunk, len(rows))
		e.tape.Reset()
		x := &nn.Var{Rows: r1 - r0, Cols: width, Data: hidden[r0*width : r1*width]}
		e.classes(e.m.Head.Forward(e.tape, x), labels[r0:r1], weights[r0:r1], e.m.Options.Task == model.TokenClassification)
	}
}

// sequences takes in a batch with a label, or several, per sequence.
func (e *evaluator) sequences(b *model.Batch) {
	e.tape.Reset()
	x := e.m.Logits(e.tape, b, nil)
	switch e.problem {
	case model.MultiLabel:
		sum, n := nn.BCEWithLogits(e.tape, x, b.Targets, 0)
		e.sum, e.n, e.weight = e.sum+sum, e.n+n, e.weight+float64(n)
		for _, v := range x.Mat().Data[:n] {
			on := float32(0)
			if v > 0 {
				on = 1
			}
			e.value = append(e.value, on)
		}
		e.target = append(e.target, b.Targets...)
	case model.Regression:
		sum, n := nn.MSE(e.tape, x, b.Targets, 0)
		e.sum, e.n, e.weight = e.sum+sum, e.n+n, e.weight+float64(n)
		e.value = append(e.value, x.Mat().Data[:n]...)
		e.target = append(e.target, b.Targets...)
	default:
		e.classes(x, b.Labels, nil, true)
	}
}

// classes takes in logits and the index that each row should have highest, with the
// weight of each in the loss; nil for 1.
func (e *evaluator) classes(x *nn.Var, labels []int32, weights []float32, keep bool) {
	logits := x.Mat()
	losses := make([]float64, len(labels))
	got := make([]int32, len(labels))
	kernels.Parallel(len(labels), 1, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			row := logits.Row(r)
			losses[r] = float64(kernels.LogSumExp(row)) - float64(row[labels[r]])
			got[r] = argmax(row)
		}
	})
	for i, l := range losses {
		w := 1.0
		if weights != nil {
			w = float64(weights[i])
		}
		e.sum, e.weight = e.sum+w*l, e.weight+w
		if got[i] == labels[i] {
			e.right++
		}
	}
	e.n += len(labels)
	if keep {
		e.want, e.got = append(e.want, labels...), append(e.got, got...)
	}
}

// finish computes the means and metrics.
func (e *evaluator) finish(r *EvalResult, ds *data.Dataset) {
	r.Tokens = e.n
	r.Loss = e.sum / e.weight
	r.Top1 = float64(e.right) / float64(e.n)
	r.Metrics = map[string]float64{"loss": r.Loss}
	labels := e.m.Options.Labels
	set := func(main string, m map[string]float64) {
		maps.Copy(r.Metrics, m)
		r.Metric, r.Score = main, r.Metrics[main]
	}
	switch {
	case e.n == 0:
	case ds.Task == model.TokenClassification:
		set("f1", tokenMetrics(e.want, e.got, labels))
	case ds.Task != model.SequenceClassification:
		r.Perplexity = math.Exp(r.Loss)
		set("top1", map[string]float64{"perplexity": r.Perplexity, "top1": r.Top1})
	case e.problem == model.MultiLabel:
		m := multiMetrics(e.target, e.value, len(labels))
		r.Top1 = m["accuracy"]
		set("f1", m)
	case e.problem == model.Regression:
		set("pearson", regressionMetrics(e.target, e.value, len(labels)))
	default:
		set("accuracy", singleMetrics(e.want, e.got, len(labels)))
	}
}

// argmax returns the index of the largest element, the first of equals; -1 when
// there is none that is a number.
func argmax(x []float32) int32 {
	best := int32(-1)
	for i, v := range x {
		if v == v && (best < 0 || v > x[best]) {
			best = int32(i)
		}
	}
	return best
}
