package cli

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/guptarohit/asciigraph"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/train"
)

// trainView shows the progress of a run: rows of a table above a live line on a
// terminal, plain lines elsewhere, or JSON.
type trainView struct {
	a      *app
	json   bool
	losses []float64

	mu       sync.Mutex
	last     *train.Step // the newest step
	total    int
	done     int
	began    time.Time // of the step that runs
	every    int       // steps between rows
	sum      float64   // loss times labels since the last row
	labels   int
	prev     float64 // loss of the last row
	stopTick chan struct{}
	wg       sync.WaitGroup
}

func (a *app) newTrainView(asJSON bool) *trainView {
	return &trainView{a: a, json: asJSON, prev: math.NaN()}
}

// stepJSON is a line of --json: that of metrics.jsonl with the total and the
// time left.
type stepJSON struct {
	Step            int      `json:"step"`
	Total           int      `json:"total_steps"`
	Epoch           float64  `json:"epoch"`
	Loss            float64  `json:"loss"`
	LR              float64  `json:"lr"`
	GradNorm        float64  `json:"grad_norm"`
	Tokens          int      `json:"tokens"`
	Trained         int      `json:"trained_tokens"`
	TokensPerSecond float64  `json:"tokens_per_second"`
	Memory          int64    `json:"memory_bytes"`
	Peak            int64    `json:"peak_memory_bytes"`
	ETA             float64  `json:"eta_seconds"`
	ValLoss         *float64 `json:"val_loss,omitempty"`
}

func (v *trainView) hook() train.Hook {
	return train.Hook{Step: func(_ context.Context, _ *train.Trainer, s *train.Step) error {
		v.step(s)
		return nil
	}}
}

// begin starts the live line.
func (v *trainView) begin(t *train.Trainer) {
	v.total, v.done, v.began = t.Total, t.Done(), time.Now()
	v.every = max(1, t.Total/20)
	if v.json || !v.a.err.tty {
		return
	}
	s := v.a.err
	fmt.Fprintf(s, "\n  %s\n", s.paint(dim, trainHead))
	v.stopTick = make(chan struct{})
	v.wg.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			v.draw()
			select {
			case <-v.stopTick:
				return
			case <-tick.C:
			}
		}
	})
}

// end removes the live line.
func (v *trainView) end() {
	if v.stopTick != nil {
		close(v.stopTick)
		v.wg.Wait()
		v.a.err.clearLine()
	}
}

// draw writes the live line. Within a step its share is guessed from the time
// that the step before took.
func (v *trainView) draw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.a.err
	share := float64(v.done)
	eta := "…"
	if v.last != nil {
		since := time.Since(v.began)
		if v.done < v.total && v.last.Elapsed > 0 {
			share += min(0.95, since.Seconds()/v.last.Elapsed.Seconds())
		}
		eta = durationText(max(0, v.last.ETA-since))
	} else {
		eta = durationText(time.Since(v.began)) + " in the first step"
	}
	share /= float64(max(1, v.total))
	tail := fmt.Sprintf(" %3.0f %%  step %d/%d", 100*share, min(v.done+1, v.total), v.total)
	if v.last != nil {
		tail += fmt.Sprintf("  loss %s", lossText(v.last.Loss))
		tail += fmt.Sprintf("  %s tok/s  ETA %s", digits(v.last.TokensPerSecond()), eta)
	} else {
		tail += "  " + eta
	}
	width := min(40, s.width()-textLen(tail)-4)
	if width < 4 {
		width = 4
	}
	s.setLine("  " + s.bar(share, width) + tail)
}

// step takes in one finished step.
func (v *trainView) step(st *train.Step) {
	v.mu.Lock()
	v.losses = append(v.losses, st.Loss)
	v.last, v.done, v.began = st, st.Step, time.Now()
	v.sum += st.Loss * float64(st.Labels)
	v.labels += st.Labels
	row := st.Step%v.every == 0 || st.Step == st.Total || st.Step == 1 || st.Valid != nil
	v.mu.Unlock()
	switch {
	case v.json:
		j := stepJSON{Step: st.Step, Total: st.Total, Epoch: st.Epoch, Loss: st.Loss, LR: st.LearningRate, GradNorm: st.GradNorm,
			Tokens: st.Tokens, Trained: st.Labels, TokensPerSecond: round3(st.TokensPerSecond()),
			Memory: st.Memory.Resident, Peak: st.Memory.Peak, ETA: round3(st.ETA.Seconds())}
		if st.Valid != nil {
			j.ValLoss = finiteOrNil(st.Valid.Loss)
		}
		_ = printJSONLine(v.a.out, j) // a closed pipe ends the process
	case row:
		v.row(st)
	}
}

const trainHead = "     step      loss       lr   norm   tok/s   memory/peak"

// row writes one line of the table: the mean loss since the line before.
func (v *trainView) row(st *train.Step) {
	s := v.a.err
	loss := v.sum / float64(max(1, v.labels))
	v.sum, v.labels = 0, 0
	arrow := " "
	switch {
	case loss < v.prev:
		arrow = s.paint(green, "▼")
	case loss > v.prev:
		arrow = s.paint(yellow, "▲")
	}
	v.prev = loss
	memory := fmt.Sprintf("%s/%s", bytesText(st.Memory.Resident), bytesText(st.Memory.Peak))
	if !s.tty {
		line := fmt.Sprintf("step %d/%d  loss %s  lr %s  norm %s  %s tok/s  memory %s  ETA %s", st.Step, st.Total, lossText(loss),
			rateText(st.LearningRate), digits(st.GradNorm), digits(st.TokensPerSecond()), memory, durationText(st.ETA))
		if st.Valid != nil {
			line += fmt.Sprintf("  val_loss %s", lossText(st.Valid.Loss)) + scoreText(st.Valid)
		}
		fmt.Fprintln(s, line)
		return
	}
	line := fmt.Sprintf("  %s  %s %s  %7s  %5s  %6s   %s", padLeft(fmt.Sprintf("%d/%d", st.Step, st.Total), 9), padLeft(lossText(loss), 7), arrow,
		rateText(st.LearningRate), digits(st.GradNorm), digits(st.TokensPerSecond()), memory)
	if st.Valid != nil {
		line += s.paint(bold, fmt.Sprintf("  val %s", lossText(st.Valid.Loss))+scoreText(st.Valid))
	}
	fmt.Fprintln(s, line)
}

// scoreText is the main metric of a classifier after its loss.
func scoreText(r *train.EvalResult) string {
	if r.Task.Generates() || r.Metric == "" {
		return ""
	}
	return "  " + metricLabel(r.Metric) + " " + metricText(r.Metric, r.Score)
}

// rateText writes a learning rate with two digits.
func rateText(x float64) string {
	if x == 0 {
		return "0"
	}
	s := trimExponent(strconv.FormatFloat(x, 'e', 1, 64))
	return strings.Replace(s, ".0e", "e", 1)
}

// header says what is going to be trained.
func (r *trainRun) header(ctx context.Context, t *train.Trainer, collect int) error {
	memory, err := r.memory(ctx, t, collect)
	if err != nil {
		return err
	}
	s := r.a.out
	if *r.flags.asJSON {
		s = r.a.err
	}
	c := &t.Config
	var weights int64
	for _, e := range r.l.Entries {
		weights += int64(len(e.T.Data))
	}
	n := trainable(r.ad.Params())
	all := r.l.Parameters()
	f := facts{s: s}
	f.add("model", "%s: %s, %s parameters, %.3g bits each", *r.flags.model, r.l.Family.Name(), countText(all), 8*float64(weights)/float64(max(1, all)))
	if o := r.l.Options; o.Task != "" && o.Task != model.CausalLM {
		text := taskText(o.Task)
		if len(o.Labels) > 0 {
			text += ", " + plural(len(o.Labels), "label")
		}
		if o.Problem == model.MultiLabel || o.Problem == model.Regression {
			text += ", " + strings.ReplaceAll(string(o.Problem), "_", " ")
		}
		if len(r.l.Fresh) > 0 {
			text += "; new head: " + strings.Join(r.l.HeadModules, ", ")
		}
		f.add("task", "%s", text)
	}
	f.add("method", "%s", r.ad.Summary())
	f.add("trainable", "%s parameters, %s of the model's %s", countText(n), percentText(n, all), countText(all))
	f.add("data", "%s", dataText(r.ds))
	if r.valid != nil {
		f.add("validation", "%s", dataText(r.valid))
	}
	opt := fmt.Sprintf("AdamW, learning rate %s, %s", floatText(c.LearningRate), scheduleText(c))
	if t.Warmup > 0 {
		opt += fmt.Sprintf(", %s", plural(t.Warmup, "warm-up step"))
	}
	if c.WeightDecay > 0 {
		opt += fmt.Sprintf(", weight decay %g", c.WeightDecay)
	}
	if c.Clip > 0 {
		opt += fmt.Sprintf(", clip %g", c.Clip)
	}
	f.add("optimizer", "%s", opt)
	if drop := r.dropout(); drop != "" {
		f.add("dropout", "%s", drop)
	}
	batch := fmt.Sprintf("%d × %d sequences of up to %d tokens", c.BatchSize, c.GradAccum, r.ds.MaxSeqLen)
	if c.Pack {
		batch += ", packed"
	}
	steps := plural(t.Total, "step")
	if t.PerEpoch > 0 {
		steps += fmt.Sprintf(" (%.3g epochs of %d)", float64(t.Total)/float64(t.PerEpoch), t.PerEpoch)
	}
	f.add("batch", "%s; %s", batch, steps)
	f.add("memory", "%s", memory)
	f.add("kernels", "%s, %s", kernels.Tier(), plural(kernels.Threads(), "thread"))
	out := c.Output
	if t.Done() > 0 {
		out += fmt.Sprintf(", resumed at step %d of %d", t.Done(), t.Total)
	}
	f.add("output", "%s", out)
	f.print()
	if ms, err := peft.ParseMethods(*r.flags.method); err == nil {
		m := ms[0]
		// One learning rate for all methods is wrong by up to fifty times.
		if def := m.Info().LearningRate; c.LearningRate < def/10 || c.LearningRate > def*50 {
			r.a.warn("learning rate %s is far from %s, the one that suits %s", floatText(c.LearningRate), floatText(def), m.Info().Name)
		}
	}
	for _, notes := range [][]string{r.l.Notes, r.ds.Stats.Notes(), t.Notes} {
		for _, n := range notes {
			r.a.warn("%s", n)
		}
	}
	return nil
}

func scheduleText(c *train.Config) string {
	switch c.Schedule {
	case train.Cosine:
		return fmt.Sprintf("cosine to %.0f %%", 100*c.MinLR)
	case train.Linear:
		return "linear to 0"
	}
	return string(c.Schedule)
}

// dropout tells what training leaves out by the model's configuration, "" where
// that says nothing.
func (r *trainRun) dropout() string {
	drop := r.l.Dropout
	var parts []string
	for _, key := range drop.Active() {
		parts = append(parts, fmt.Sprintf("%s %g", key, drop[key]))
	}
	if parts != nil && !r.flags.cfg.BaseDropout {
		return "none of the base model's"
	}
	return strings.Join(parts, ", ")
}

// memory estimates what the run will hold at its peak.
func (r *trainRun) memory(ctx context.Context, t *train.Trainer, collect int) (string, error) {
	act := r.a.start("estimating the memory")
	f, err := t.Footprint(ctx, collect)
	act.end()
	if err != nil {
		return "", err
	}
	r.footprint = f
	if free := systemMemory().available; free > 0 && f.Private() > free {
		r.a.warn("about %s are needed beside the model and %s are free; lower --max-seq-len or --batch-size", bytesText(f.Private()), bytesText(free))
	}
	return fmt.Sprintf("about %s: %s model (mapped), %s adapter and optimizer, %s activations, %s program and data",
		bytesText(f.Total()), bytesText(f.Model), bytesText(f.Adapter), bytesText(f.Activations), bytesText(f.Rest)), nil
}

// summaryJSON is the last line of --json.
type summaryJSON struct {
	Done            bool     `json:"done"`
	Output          string   `json:"output"`
	Steps           int      `json:"steps"`
	Loss            *float64 `json:"loss"`
	ValLoss         *float64 `json:"val_loss,omitempty"`
	Tokens          int64    `json:"tokens"`
	Seconds         float64  `json:"seconds"`
	TokensPerSecond float64  `json:"tokens_per_second"`
	Peak            int64    `json:"peak_memory_bytes"`
	// Estimate is the peak that was expected before the first step.
	Estimate  int64 `json:"estimated_memory_bytes"`
	Trainable int64 `json:"trainable_parameters"`
	// Valid are the metrics of the last validation.
	Valid map[string]*float64 `json:"val_metrics,omitempty"`
}

// summary tells what came out and what to do with it.
func (r *trainRun) summary(ctx context.Context, t *train.Trainer, res *train.Result, view *trainView) {
	out, s := r.flags.cfg.Output, r.a.out
	rate := float64(res.Tokens) / max(res.Elapsed.Seconds(), 1e-9)
	peak := train.MemoryUse().Peak
	if *r.flags.asJSON {
		j := summaryJSON{Done: true, Output: out, Steps: res.Steps, Loss: finiteOrNil(res.Loss), Tokens: res.Tokens,
			Seconds: round3(res.Elapsed.Seconds()), TokensPerSecond: round3(rate), Peak: peak, Estimate: r.footprint.Total(), Trainable: trainable(r.ad.Params())}
		if res.Valid != nil {
			j.ValLoss, j.Valid = finiteOrNil(res.Valid.Loss), map[string]*float64{}
			for name, v := range res.Valid.Metrics {
				j.Valid[name] = finiteOrNil(v)
			}
		}
		_ = printJSONLine(s, j) // a closed pipe ends the process
		return
	}
	if s.tty && len(view.losses) >= 8 {
		fmt.Fprintf(s, "\n%s\n", lossCurve(view.losses, min(s.width(), 80)))
	}
	fmt.Fprintln(s)
	f := facts{s: s}
	f.add("done", "%s, %s tokens in %s (%s tokens/s), peak memory %s", plural(res.Steps, "step"), countText(res.Tokens),
		durationText(res.Elapsed), digits(rate), bytesText(peak))
	if n := len(view.losses); n > 0 {
		k := max(1, n/10)
		f.add("loss", "%s → %s (means of the first and last %s)", lossText(mean(view.losses[:k])), lossText(mean(view.losses[n-k:])), plural(k, "step"))
	}
	if v := res.Valid; v != nil {
		f.add("validation", "%s", shortMetrics(v))
	}
	f.add("adapter", "%s", out)
	f.print()
	for i, line := range r.next(ctx) {
		label := "      "
		if i == 0 {
			label = s.paint(dim, "next") + "  "
			fmt.Fprintln(s)
		}
		fmt.Fprintf(s, "  %s%s\n", label, s.paint(cyan, line))
	}
}

// next are the commands that make sense with the new adapter, and that can be done.
func (r *trainRun) next(ctx context.Context) []string {
	with := fmt.Sprintf("-m %s --lora %s", quote(*r.flags.model), quote(r.flags.cfg.Output))
	var lines []string
	switch r.l.Options.Task {
	case model.SequenceClassification, model.TokenClassification:
		lines = append(lines, fmt.Sprintf("peftkit classify %s \"...\"", with))
	default:
		lines = append(lines, fmt.Sprintf("peftkit generate %s -p \"...\"", with))
	}
	if held := r.heldOut(); held != "" {
		lines = append(lines, fmt.Sprintf("peftkit eval %s -d %s%s", with, quote(held), r.flags.data.flagsText()))
	}
	if r.l.Options.Task.Generates() || r.l.Options.Task == "" {
		if to := r.mergedName(ctx); to != "" {
			lines = append(lines, fmt.Sprintf("peftkit merge-lora %s -o %s", with, quote(to)))
		}
	}
	return lines
}

// mergesTo names an output that the adapter can be merged into: a GGUF file, a
// folder where GGUF has no such architecture, "" when nothing of it can be merged.
func (r *trainRun) mergesTo() string {
	methods, err := peft.ParseMethods(*r.flags.method)
	if err != nil || !slices.ContainsFunc(methods, mergeable) {
		return ""
	}
	c := r.l.Checkpoint
	if _, err := c.Family.GGUFNames(c.Config); err != nil {
		return "tuned"
	}
	if _, _, err := c.Family.GGUFMeta(c); err != nil {
		return "tuned"
	}
	return "tuned.gguf"
}

// mergeable reports whether weights can hold what a method trains.
func mergeable(m peft.Method) bool {
	_, merges := m.(peft.Merger)
	return merges && m.Info().NotMergeable == ""
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(max(1, len(x)))
}

// lossCurve draws the losses, averaged over neighbours.
func lossCurve(losses []float64, width int) string {
	columns := min(width-12, len(losses))
	points := make([]float64, columns)
	for i := range points {
		a, b := i*len(losses)/columns, (i+1)*len(losses)/columns
		points[i] = mean(losses[a:max(b, a+1)])
	}
	graph := asciigraph.Plot(points, asciigraph.Height(8), asciigraph.Width(max(columns, min(width-12, 60))), asciigraph.Precision(2))
	return strings.TrimRight(graph, "\n") + "\n" + strings.Repeat(" ", 8) + fmt.Sprintf("loss, step 1 to %d", len(losses))
}
