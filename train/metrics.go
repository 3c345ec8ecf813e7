package train

import (
	"cmp"
	"math"
	"slices"
)

// LowerIsBetter reports whether a small value of a metric is a good one.
func LowerIsBetter(metric string) bool {
	return slices.Contains([]string{"loss", "perplexity", "mse", "mae"}, metric)
}

// outside is the usual name of the tag of words that belong to no entity.
const outside = "O"

// counts are the true positives, false positives and false negatives of a class.
type counts struct{ tp, fp, fn int }

// f1 is 2tp/(2tp+fp+fn), 0 when there is nothing to count.
func (c counts) f1() float64 {
	if d := 2*c.tp + c.fp + c.fn; d > 0 {
		return 2 * float64(c.tp) / float64(d)
	}
	return 0
}

func (c counts) empty() bool { return c == counts{} }

func (c *counts) add(o counts) { c.tp, c.fp, c.fn = c.tp+o.tp, c.fp+o.fp, c.fn+o.fn }

// classMetrics compares predicted classes with the true ones by the definitions
// of scikit-learn: accuracy_score, f1_score (macro, over the classes that occur),
// matthews_corrcoef.
func classMetrics(want, got []int32, classes int) (m map[string]float64, by []counts) {
	by = make([]counts, classes)
	right := 0
	for i, w := range want {
		g := got[i]
		if w == g {
			right++
			by[w].tp++
			continue
		}
		by[w].fn++
		if g >= 0 {
			by[g].fp++
		}
	}
	var macro float64
	n := 0
	for _, c := range by {
		if !c.empty() {
			macro += c.f1()
			n++
		}
	}
	return map[string]float64{
		"accuracy": float64(right) / float64(len(want)),
		"f1_macro": macro / float64(max(1, n)),
		"matthews": matthews(by, right, len(want)),
	}, by
}

// matthews is the correlation coefficient of Matthews in Gorodkin's form for any
// number of classes, 0 when one side has a single class.
func matthews(by []counts, right, n int) float64 {
	var both, want2, got2 float64
	for _, c := range by {
		w, g := float64(c.tp+c.fn), float64(c.tp+c.fp)
		both += w * g
		want2 += w * w
		got2 += g * g
	}
	total := float64(n)
	d := (total*total - want2) * (total*total - got2)
	if d <= 0 {
		return 0
	}
	return (float64(right)*total - both) / math.Sqrt(d)
}

// pearson is the linear correlation of two samples, NaN when one is constant.
func pearson(x, y []float64) float64 {
	mx, my := mean(x), mean(y)
	var xy, xx, yy float64
	for i := range x {
		a, b := x[i]-mx, y[i]-my
		xy, xx, yy = xy+a*b, xx+a*a, yy+b*b
	}
	return xy / math.Sqrt(xx*yy)
}

// spearman is the correlation of the ranks.
func spearman(x, y []float64) float64 { return pearson(ranks(x), ranks(y)) }

// ranks returns the rank of each element; equals share the mean of theirs.
func ranks(x []float64) []float64 {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(x[a], x[b]) })
	out := make([]float64, len(x))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && x[order[j]] == x[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+j-1)/2 + 1
		}
		i = j
	}
	return out
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// singleMetrics are those of one class per example; f1 is that of the second of
// two classes, or the macro average of more.
func singleMetrics(want, got []int32, classes int) map[string]float64 {
	m, by := classMetrics(want, got, classes)
	if m["f1"] = m["f1_macro"]; classes == 2 {
		m["f1"] = by[1].f1()
	}
	return m
}

// tokenMetrics are those of a class per token; f1 is the micro average over all
// classes but [outside], token by token.
func tokenMetrics(want, got []int32, labels []string) map[string]float64 {
	m, by := classMetrics(want, got, len(labels))
	delete(m, "matthews")
	o := slices.Index(labels, outside)
	if m["f1"] = m["f1_macro"]; o >= 0 {
		var all counts
		for i, c := range by {
			if i != o {
				all.add(c)
			}
		}
		m["f1"] = all.f1()
	}
	return m
}

// multiMetrics compares sets of labels, rows of classes values that are 0 or 1:
// accuracy counts the rows that agree in all.
func multiMetrics(want, got []float32, classes int) map[string]float64 {
	by := make([]counts, classes)
	rows, right := len(want)/classes, 0
	for r := range rows {
		w, g := want[r*classes:(r+1)*classes], got[r*classes:(r+1)*classes]
		if slices.Equal(w, g) {
			right++
		}
		for i := range classes {
			switch {
			case w[i] == 1 && g[i] == 1:
				by[i].tp++
			case g[i] == 1:
				by[i].fp++
			case w[i] == 1:
				by[i].fn++
			}
		}
	}
	var all counts
	var macro float64
	for _, c := range by {
		all.add(c)
		macro += c.f1()
	}
	return map[string]float64{"accuracy": float64(right) / float64(rows), "f1": all.f1(), "f1_macro": macro / float64(classes)}
}

// regressionMetrics compares numbers, rows of outputs values; correlations are
// means over the outputs.
func regressionMetrics(want, got []float32, outputs int) map[string]float64 {
	rows := len(want) / outputs
	m := map[string]float64{}
	x, y := make([]float64, rows), make([]float64, rows)
	for o := range outputs {
		var sq, ab float64
		for r := range rows {
			x[r], y[r] = float64(want[r*outputs+o]), float64(got[r*outputs+o])
			d := x[r] - y[r]
			sq, ab = sq+d*d, ab+math.Abs(d)
		}
		n := float64(outputs)
		m["mse"] += sq / float64(rows) / n
		m["mae"] += ab / float64(rows) / n
		m["pearson"] += pearson(x, y) / n
		m["spearman"] += spearman(x, y) / n
	}
	return m
}
