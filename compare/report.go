package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/train"
)

// Full is the word for the method that trains every weight, the yardstick.
const Full = "full"

// Cell is the score of a method on a task over the seeds.
type Cell struct {
	Values []float64 `json:"values"`
	// Mean and Spread (sample standard deviation; 0 for one value).
	Mean   float64 `json:"mean"`
	Spread float64 `json:"spread"`
	// Kept and KeptSpread are those on the second set.
	Kept       *float64 `json:"kept,omitempty"`
	KeptSpread float64  `json:"kept_spread,omitempty"`
	// Gain is the share of full fine-tuning's gain over the untouched base; null
	// unless both were run and differ.
	Gain *float64 `json:"share_of_full_gain,omitempty"`
	// Beats says that the gain over the untouched base is larger than the two
	// spreads together; null without both.
	Beats *bool `json:"beats_base,omitempty"`
	// Problem and Failure say why there is no score, or not all of them.
	Problem string `json:"problem,omitempty"`
	Failure string `json:"failure,omitempty"`
	// Curve is the mean training loss over the seeds.
	Curve []Point `json:"-"`
}

// OK reports whether there is a score.
func (c *Cell) OK() bool { return len(c.Values) > 0 }

// Row is a method.
type Row struct {
	Method string `json:"method"`
	Group  string `json:"group"`
	Cells  []Cell `json:"tasks"` // in the order of Report.Tasks
	// Average of the scores, null unless every task has one and the metrics can be
	// averaged.
	Average *float64 `json:"average,omitempty"`
	// Trainable parameters, the most over the tasks, and the share of the model's.
	Trainable int64   `json:"trainable_parameters"`
	Share     float64 `json:"trainable_share"`
	Rate      float64 `json:"learning_rate,omitempty"`
	// Seconds of training of a run and its speed, means; Peak memory, the highest.
	Seconds         float64 `json:"seconds"`
	CPUSeconds      float64 `json:"cpu_seconds,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Peak            int64   `json:"peak_memory_bytes"`
}

// TaskInfo is a task of a report.
type TaskInfo struct {
	Name       string `json:"name"`
	Metric     string `json:"metric"`
	KeptMetric string `json:"kept_metric,omitempty"`
}

// Report is the table of a comparison.
type Report struct {
	Model      string     `json:"model"`
	Parameters int64      `json:"model_parameters"`
	Tasks      []TaskInfo `json:"tasks"`
	Rows       []Row      `json:"methods"`
	Seeds      []uint64   `json:"seeds"`
	Notes      []string   `json:"notes,omitempty"`
	// Command made the report; "" when unknown.
	Command string `json:"command,omitempty"`
}

// Summarise makes a report. Rows are in the order in which the methods first
// appear, the untouched base first and full fine-tuning second.
func Summarise(outcomes []Outcome) *Report {
	r := &Report{}
	var methods []string
	for i := range outcomes {
		o := &outcomes[i]
		r.Model, r.Parameters = o.Run.Model, max(r.Parameters, o.Total)
		if !slices.Contains(r.Seeds, o.Run.Seed) {
			r.Seeds = append(r.Seeds, o.Run.Seed)
		}
		if !slices.Contains(methods, o.Run.Method) {
			methods = append(methods, o.Run.Method)
		}
		t := slices.IndexFunc(r.Tasks, func(t TaskInfo) bool { return t.Name == o.Run.Task.Name })
		if t < 0 {
			t = len(r.Tasks)
			r.Tasks = append(r.Tasks, TaskInfo{Name: o.Run.Task.Name})
		}
		if o.OK() {
			r.Tasks[t].Metric, r.Tasks[t].KeptMetric = o.Metric, o.KeptMetric
		}
		for _, n := range o.Notes {
			if n = o.Run.Task.Name + ": " + n; !slices.Contains(r.Notes, n) {
				r.Notes = append(r.Notes, n)
			}
		}
	}
	rank := func(m string) int { return map[string]int{None: -2, Full: -1}[m] }
	slices.SortStableFunc(methods, func(a, b string) int { return rank(a) - rank(b) })
	for _, m := range methods {
		r.Rows = append(r.Rows, r.row(m, outcomes))
	}
	r.gains()
	return r
}

// row collects the outcomes of a method.
func (r *Report) row(method string, outcomes []Outcome) Row {
	row := Row{Method: method, Cells: make([]Cell, len(r.Tasks))}
	var n float64
	for t := range r.Tasks {
		c := &row.Cells[t]
		var kept []float64
		var curves [][]Point
		for i := range outcomes {
			o := &outcomes[i]
			if o.Run.Method != method || o.Run.Task.Name != r.Tasks[t].Name {
				continue
			}
			if o.Group != "" {
				row.Group = o.Group
			}
			if !o.OK() {
				c.Problem, c.Failure = o.Problem, o.Failure
				continue
			}
			c.Values = append(c.Values, o.Score)
			if o.Kept != nil {
				kept = append(kept, *o.Kept)
			}
			if len(o.Curve) > 0 {
				curves = append(curves, o.Curve)
			}
			row.Trainable = max(row.Trainable, o.Trainable)
			row.Peak = max(row.Peak, o.Peak)
			row.Rate = o.Rate
			row.Seconds += o.Seconds
			row.CPUSeconds += o.CPUSeconds
			row.TokensPerSecond += o.TokensPerSecond
			n++
		}
		c.Mean, c.Spread = meanSpread(c.Values)
		if len(kept) > 0 {
			m, s := meanSpread(kept)
			c.Kept, c.KeptSpread = &m, s
		}
		c.Curve = meanCurve(curves)
	}
	if n > 0 {
		row.Seconds, row.CPUSeconds, row.TokensPerSecond = row.Seconds/n, row.CPUSeconds/n, row.TokensPerSecond/n
	}
	if r.Parameters > 0 {
		row.Share = float64(row.Trainable) / float64(r.Parameters)
	}
	var sum float64
	for t := range row.Cells {
		if !row.Cells[t].OK() || train.LowerIsBetter(r.Tasks[t].Metric) {
			return row
		}
		sum += row.Cells[t].Mean
	}
	if len(row.Cells) > 1 {
		sum /= float64(len(row.Cells))
		row.Average = &sum
	}
	return row
}

// gains compares every score with the untouched base and full fine-tuning.
func (r *Report) gains() {
	find := func(m string) *Row {
		for i := range r.Rows {
			if r.Rows[i].Method == m {
				return &r.Rows[i]
			}
		}
		return nil
	}
	base, full := find(None), find(Full)
	if base == nil {
		return
	}
	for i := range r.Rows {
		for t := range r.Rows[i].Cells {
			c, b := &r.Rows[i].Cells[t], &base.Cells[t]
			if !c.OK() || !b.OK() || r.Rows[i].Method == None {
				continue
			}
			gain := c.Mean - b.Mean
			if train.LowerIsBetter(r.Tasks[t].Metric) {
				gain = -gain
			}
			beats := gain > c.Spread+b.Spread
			c.Beats = &beats
			if full == nil || !full.Cells[t].OK() {
				continue
			}
			if all := full.Cells[t].Mean - b.Mean; all != 0 {
				share := (c.Mean - b.Mean) / all
				c.Gain = &share
			}
		}
	}
}

// meanSpread returns the mean and the sample standard deviation.
func meanSpread(v []float64) (mean, spread float64) {
	if len(v) == 0 {
		return 0, 0
	}
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	if len(v) < 2 {
		return mean, 0
	}
	for _, x := range v {
		spread += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(spread / float64(len(v)-1))
}

// meanCurve averages curves of equal steps; of unequal ones the first stays.
func meanCurve(curves [][]Point) []Point {
	if len(curves) == 0 {
		return nil
	}
	out := slices.Clone(curves[0])
	for _, c := range curves[1:] {
		if len(c) != len(out) {
			return curves[0]
		}
		for i := range c {
			out[i].Loss += c[i].Loss
		}
	}
	for i := range out {
		out[i].Loss /= float64(len(curves))
	}
	return out
}

// Raw reports whether a metric is printed as it is; the others are multiplied by 100.
func Raw(metric string) bool { return train.LowerIsBetter(metric) }

// ScoreText writes a score with its spread as the table does; n is the number of
// seeds.
func ScoreText(metric string, mean, spread float64, n int) string {
	scale, format := 100.0, "%.1f"
	if Raw(metric) {
		scale, format = 1, "%.3f"
	}
	s := fmt.Sprintf(format, scale*mean)
	if n > 1 {
		s += " ± " + fmt.Sprintf(format, scale*spread)
	}
	return s
}

// Table returns the report as cells of text: a column that begins with ">" is of
// numbers.
func (r *Report) Table() (head []string, rows [][]string) {
	average, gain := false, false
	for _, row := range r.Rows {
		average = average || row.Average != nil
		for _, c := range row.Cells {
			gain = gain || c.Gain != nil
		}
	}
	head = []string{"method"}
	for _, t := range r.Tasks {
		head = append(head, ">"+t.Name)
		if t.KeptMetric != "" {
			head = append(head, ">kept")
		}
	}
	if average {
		head = append(head, ">average")
	}
	if gain {
		head = append(head, ">of full's gain")
	}
	head = append(head, ">trainable", ">share", ">time", ">CPU time", ">peak memory")
	for i := range r.Rows {
		row := &r.Rows[i]
		cells := []string{row.Method}
		var gains []string
		for t, task := range r.Tasks {
			c := &row.Cells[t]
			switch {
			case c.OK() && c.Failure != "":
				cells = append(cells, ScoreText(task.Metric, c.Mean, c.Spread, len(c.Values))+" (a run failed)")
			case c.OK():
				cells = append(cells, ScoreText(task.Metric, c.Mean, c.Spread, len(c.Values)))
			case c.Problem != "":
				cells = append(cells, "does not fit")
			case c.Failure != "":
				cells = append(cells, "failed")
			default:
				cells = append(cells, "–")
			}
			if task.KeptMetric != "" {
				if c.Kept == nil {
					cells = append(cells, "–")
				} else {
					cells = append(cells, ScoreText(task.KeptMetric, *c.Kept, c.KeptSpread, len(c.Values)))
				}
			}
			if c.Gain == nil || row.Method == None {
				gains = append(gains, "–")
			} else {
				gains = append(gains, fmt.Sprintf("%.0f %%", 100**c.Gain))
			}
		}
		if average {
			if row.Average == nil {
				cells = append(cells, "–")
			} else {
				cells = append(cells, fmt.Sprintf("%.1f", 100**row.Average))
			}
		}
		if gain {
			cells = append(cells, strings.Join(gains, " / "))
		}
		if row.Trainable == 0 {
			cells = append(cells, "–", "–", "–", "–", sizeText(row.Peak))
		} else {
			cpu := "–"
			if row.CPUSeconds > 0 {
				cpu = timeText(row.CPUSeconds)
			}
			cells = append(cells, countText(row.Trainable), shareText(row.Share), timeText(row.Seconds), cpu, sizeText(row.Peak))
		}
		rows = append(rows, cells)
	}
	return head, rows
}

// Legend says how to read the table.
func (r *Report) Legend() string {
	var tasks []string
	for _, t := range r.Tasks {
		text := t.Name + ": " + MetricName(t.Metric)
		if t.KeptMetric != "" {
			text += ", kept: " + MetricName(t.KeptMetric)
		}
		tasks = append(tasks, text)
	}
	s := strings.Join(tasks, "; ")
	if len(r.Seeds) > 1 {
		s += fmt.Sprintf("; means ± sample standard deviation over %d seeds", len(r.Seeds))
	}
	return s
}

// MetricName names a metric for people, with its unit.
func MetricName(metric string) string {
	name := map[string]string{
		"matthews": "Matthews correlation", "pearson": "Pearson correlation", "spearman": "Spearman correlation", "f1": "F1", "f1_macro": "macro F1",
		"top1": "share of tokens predicted first", "exact_match": "exact match",
	}[metric]
	if name == "" {
		name = metric
	}
	switch {
	case metric == "":
		return "no score"
	case Raw(metric):
		return name + " (lower is better)"
	case strings.Contains(name, "correlation"):
		return name + " × 100"
	}
	return name + " in %"
}

// Markdown writes the table.
func (r *Report) Markdown() string {
	var b strings.Builder
	head, rows := r.Table()
	fmt.Fprintf(&b, "%s, %s parameters. %s.\n\n", r.Model, countText(r.Parameters), r.Legend())
	line := func(cells []string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimPrefix(c, ">"), "|", "\\|")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	var rule []string
	for _, h := range head {
		rule = append(rule, map[bool]string{true: "---:", false: "---"}[strings.HasPrefix(h, ">")])
	}
	line(slices.Clone(head))
	line(rule)
	for _, c := range rows {
		line(c)
	}
	if why := r.Why(); len(why) > 0 {
		b.WriteString("\n")
		for _, w := range why {
			fmt.Fprintf(&b, "- %s\n", w)
		}
	}
	if r.Command != "" {
		fmt.Fprintf(&b, "\n```sh\n%s\n```\n", r.Command)
	}
	return b.String()
}

// Why lists the reasons for scores that are missing, and the notes on the data.
func (r *Report) Why() []string {
	var out []string
	for _, row := range r.Rows {
		for t, c := range row.Cells {
			for _, w := range []string{c.Problem, c.Failure} {
				if w = strings.Join(strings.Fields(w), " "); w != "" {
					text := fmt.Sprintf("%s on %s: %s", row.Method, r.Tasks[t].Name, w)
					if !slices.Contains(out, text) {
						out = append(out, text)
					}
				}
			}
			if c.Beats != nil && !*c.Beats {
				out = append(out, fmt.Sprintf("%s on %s does not beat the untouched base by more than the spread", row.Method, r.Tasks[t].Name))
			}
		}
	}
	return append(out, r.Notes...)
}

func countText(n int64) string {
	switch v := float64(n); {
	case v >= 1e9:
		return fmt.Sprintf("%.3g B", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3g k", v/1e3)
	}
	return fmt.Sprint(n)
}

func shareText(s float64) string {
	if s >= 0.9995 {
		return "100 %"
	}
	return fmt.Sprintf("%.2g %%", 100*s)
}

func sizeText(n int64) string {
	if n == 0 {
		return "–"
	}
	if n >= 1e9 {
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

func timeText(s float64) string {
	switch {
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d m %02d s", int(s+0.5)/60, int(s+0.5)%60)
	}
	return fmt.Sprintf("%d h %02d m", int(s)/3600, int(s)%3600/60)
}
