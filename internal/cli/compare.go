package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peftkit/peftkit/compare"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/train"
	"github.com/spf13/cobra"
)

// surveyMethods are those that a survey of the field names.
var surveyMethods = []string{compare.None, compare.Full, "prompt-tuning", "prefix-tuning", "p-tuning", "houlsby", "compacter", "lora", "bitfit", "lora+prompt-tuning"}

// compareFlags are the settings of the compare command.
type compareFlags struct {
	model, methods, eval, keep, metric, out, columns *string
	tasks, maps, set, rates                          *[]string
	task                                             *taskFlags
	seeds                                            *int
	seed                                             *uint64
	budget                                           compare.Budget
	threads                                          *int
	asJSON                                           *bool
}

func (a *app) compareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "compare -m MODEL -d TASK...", GroupID: groupTry,
		Short: "Compare methods on your tasks",
		Long: "Train a list of methods on a list of tasks with several seeds, within the same\n" +
			"budget, and print the table that surveys print: score with its spread, trained\n" +
			"parameters and their share, time of a run, peak memory. The untouched base is a row\n" +
			"(none), full fine-tuning another (full), and what a method gains is told as a share\n" +
			"of what full fine-tuning gains. Every method has its own learning rate.\n\n" +
			"A TASK is a data file or folder as for train, with a name if you like: cola=dev/.\n" +
			"The score is measured on the test or valid part of a folder, on --eval, or on a\n" +
			"fifth of the data that is put aside. A YAML file lists tasks with their own columns,\n" +
			"metric, budget, and a set that the model should not unlearn:\n\n" +
			"tasks: [{name: cola, train: in.tsv, eval: dev.tsv, columns: [source, label, mark, sentence], metric: matthews, keep: other.tsv}]\n\n" +
			"Each run has a process of its own, so that its memory is its own. --out DIR keeps\n" +
			"every result in results.jsonl as it comes (the same command goes on where it was\n" +
			"stopped, and new methods or seeds add to what is there) and writes table.md and\n" +
			"report.html, a page with bars and curves that needs nothing else.",
		Example: "peftkit compare -m ./minilm -d sst2/ --columns text,label --max-train 1000 --epochs 3 -o cmp\n" +
			"peftkit compare -m ./minilm -d tasks.yaml --methods none,full,lora,bitfit,lora+bitfit --seeds 5 -o cmp\n" +
			"peftkit compare -m model.gguf -d chat.jsonl --methods none,lora,ia3 --max-steps 100 --lr lora=5e-4 --set lora.r=8",
		Args: func(_ *cobra.Command, _ []string) error { return nil },
	}
	f := flagsOf(cmd)
	t := &compareFlags{}
	f.section("Model and tasks")
	t.model = f.text("model", "m", "MODEL", "", "GGUF file or Hugging Face folder")
	t.tasks = f.texts("data", "d", "TASK", "data file or folder, NAME=PATH, or a YAML file of tasks; may be repeated")
	t.eval = f.text("eval", "", "DATA", "", "what a single task is measured on")
	t.keep = f.text("keep", "", "DATA", "", "what a single task should not unlearn: measured too")
	t.maps = f.texts("map", "", "FIELD=COLUMN", "as for train; may be repeated")
	t.columns = f.text("columns", "", "A,B,...", "", "names of the columns of files without a header line")
	t.task = addTaskFlags(f)
	t.metric = f.text("metric", "", "NAME", "", "the score: accuracy, f1, matthews, pearson, top1, exact_match, loss, ... (default: the main one of the task)")
	f.section("Methods")
	t.methods = f.text("methods", "", "A,B,...", "", "methods, combinations (a+b), none and full (default: "+strings.Join(surveyMethods, ",")+"; all for every one)")
	t.set = f.texts("set", "", "[METHOD.]KEY=VALUE", "option of a method, or of all that have it; may be repeated")
	t.rates = f.texts("lr", "", "METHOD=X", "learning rate of a method (default: its own); may be repeated")
	f.section("Budget of a run")
	t.seeds = f.Int("seeds", 3, "number of seeds")
	t.seed = f.Uint64("seed", 42, "the first seed; the others follow")
	f.Float64Var(&t.budget.Epochs, "epochs", 0, "passes over the data (default 1)")
	f.IntVar(&t.budget.MaxSteps, "max-steps", 0, "number of steps instead")
	f.IntVar(&t.budget.MaxTrain, "max-train", 0, "most examples to train on; 0 for all")
	f.IntVar(&t.budget.MaxEval, "max-eval", 0, "most examples to measure on; 0 for all")
	f.IntVar(&t.budget.MaxSeqLen, "max-seq-len", 0, "cut examples to this many tokens (default 512)")
	f.IntVar(&t.budget.MaxTargetLen, "max-target-len", 0, "cut what a decoder writes; 0 for the same")
	f.IntVarP(&t.budget.BatchSize, "batch-size", "b", 0, "sequences in a micro-batch (default as for train)")
	f.IntVar(&t.budget.GradAccum, "grad-accum", 0, "micro-batches in a step (default as for train)")
	f.BoolVar(&t.budget.NoBaseDropout, "no-base-dropout", false, "leave out the dropout of the model's config.json")
	t.threads = f.Int("threads", 0, "worker threads of a run (default: all cores)")
	f.section("Output")
	t.out = f.text("out", "o", "DIR", "", "folder for results.jsonl, table.md and report.html")
	t.asJSON = f.Bool("json", false, "print one JSON object")
	f.mark()
	_ = cmd.RegisterFlagCompletionFunc("methods", completeMethods) // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		*t.tasks = append(*t.tasks, args...) // -d a b is -d a -d b
		return a.compare(cmd, t)
	}
	return cmd
}

// plan turns the flags into a comparison.
func (t *compareFlags) plan(cmd *cobra.Command) (*compare.Plan, error) {
	if err := needFlags(cmd, "model"); err != nil {
		return nil, err
	}
	if len(*t.tasks) == 0 {
		return nil, needFlags(cmd, "data")
	}
	b := t.budget
	switch {
	case *t.seeds < 1:
		return nil, usagef("--seeds %d: expected 1 or more", *t.seeds)
	case b.Epochs > 0 && b.MaxSteps > 0:
		return nil, usagef("--epochs and --max-steps exclude each other")
	case b.Epochs < 0 || b.MaxSteps < 0 || b.MaxTrain < 0 || b.MaxEval < 0 || b.MaxSeqLen < 0 || b.MaxSeqLen == 1 || b.MaxTargetLen < 0 || b.BatchSize < 0 || b.GradAccum < 0 || *t.threads < 0:
		return nil, usagef("the budget: expected numbers of 0 or more")
	}
	if err := finiteFlag("epochs", b.Epochs); err != nil {
		return nil, err
	}
	p := &compare.Plan{Model: *t.model, Budget: b, Options: map[string]any{}, Rates: map[string]float64{}}
	for i := range *t.seeds {
		p.Seeds = append(p.Seeds, *t.seed+uint64(i))
	}
	if err := t.chooseMethods(p); err != nil {
		return nil, err
	}
	for _, s := range *t.set {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, usagef("--set %q: expected METHOD.KEY=VALUE, as in --set lora.r=8", s)
		}
		p.Options[key] = value
	}
	for _, s := range *t.rates {
		name, value, ok := strings.Cut(s, "=")
		x, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil || !(x > 0) {
			return nil, usagef("--lr %q: expected METHOD=X, as in --lr lora=5e-4", s)
		}
		if !slices.Contains(p.Methods, name) {
			return nil, usagef("--lr %s: %q is not among the methods %s", s, name, strings.Join(p.Methods, ", "))
		}
		p.Rates[name] = x
	}
	return p, t.chooseTasks(p)
}

func (t *compareFlags) chooseMethods(p *compare.Plan) error {
	words := surveyMethods
	switch {
	case *t.methods == "all":
		words = []string{compare.None, compare.Full}
		for _, m := range peft.Methods() {
			if name := m.Info().Name; name != compare.Full {
				words = append(words, name)
			}
		}
	case *t.methods != "":
		words = strings.Split(*t.methods, ",")
	}
	for _, w := range words {
		w = strings.TrimSpace(w)
		if w != compare.None {
			methods, err := peft.ParseMethods(w)
			if err != nil && *t.methods == "" {
				continue // this build lacks a method of the survey
			}
			if err != nil {
				return err
			}
			var names []string
			for _, m := range methods {
				names = append(names, m.Info().Name)
			}
			w = strings.Join(names, "+")
		}
		p.Methods = append(p.Methods, w)
	}
	return nil
}

func (t *compareFlags) chooseTasks(p *compare.Plan) error {
	o, err := t.task.options()
	if err != nil {
		return err
	}
	d := &dataFlags{columns: t.maps, names: t.columns}
	table, err := d.table()
	if err != nil {
		return err
	}
	source := func(path string) compare.Source {
		return compare.Source{Path: path, Columns: table.Columns, Names: table.Names}
	}
	for _, word := range *t.tasks {
		switch strings.ToLower(filepath.Ext(word)) {
		case ".yaml", ".yml":
			tasks, err := compare.ReadTasks(word)
			if err != nil {
				return dataPath(err)
			}
			p.Tasks = append(p.Tasks, tasks...)
			continue
		}
		path, name := word, ""
		if _, err := os.Stat(word); err != nil {
			if n, rest, ok := strings.Cut(word, "="); ok {
				name, path = n, rest
			}
		}
		if name == "" {
			name = compare.NameOf(path)
		}
		task := compare.Task{Name: name, Train: source(path), Head: o.Task, Labels: o.Labels, Problem: o.Problem, Metric: *t.metric}
		if *t.eval != "" {
			task.Eval = source(*t.eval)
		}
		if *t.keep != "" {
			k := source(*t.keep)
			task.Keep = &k
		}
		p.Tasks = append(p.Tasks, task)
	}
	if len(p.Tasks) > 1 && (*t.eval != "" || *t.keep != "") {
		return usagef("--eval and --keep are for a single task; a YAML file of tasks names them for each")
	}
	return nil
}

func (a *app) compare(cmd *cobra.Command, t *compareFlags) error {
	plan, err := t.plan(cmd)
	if err != nil {
		return err
	}
	// A model that cannot be used is told once, not by every run.
	c, err := model.Open(plan.Model)
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	runs, err := plan.Runs()
	if err != nil {
		return dataPath(err)
	}
	var store *compare.Store
	var done []compare.Outcome
	if *t.out != "" {
		if err := os.MkdirAll(*t.out, 0o777); err != nil {
			return err
		}
		if store, err = compare.OpenStore(filepath.Join(*t.out, "results.jsonl")); err != nil {
			return withCode(exitUsage, err)
		}
		defer store.Close()
		done = store.Done
	}
	command := "peftkit " + quoteAll(a.args)
	v := &compareView{a: a, quiet: *t.asJSON, total: len(runs), began: time.Now()}
	v.header(plan, runs)
	code := exitOK // of the runs that failed, if they agree
	outcomes, err := compare.Execute(cmd.Context(), runs, done, func(ctx context.Context, r compare.Run) (*compare.Outcome, error) {
		o, err := a.child(ctx, r, *t.threads, func(s *progressLine) { v.step(&r, s) })
		if coded := (*codedError)(nil); errors.As(err, &coded) {
			if code == exitOK {
				code = coded.code
			} else if code != coded.code {
				code = exitOther
			}
		}
		return o, err
	}, func(i int, o *compare.Outcome, before bool) error {
		v.outcome(i, o, before)
		if store == nil || before {
			return nil
		}
		if err := store.Add(o); err != nil {
			return err
		}
		return nil
	})
	a.err.clearLine()
	if err != nil && len(outcomes) == 0 {
		return err
	}
	report := compare.Summarise(outcomes)
	report.Command = command
	if *t.out != "" {
		if e := writeReport(*t.out, report); e != nil {
			return errors.Join(err, e)
		}
	}
	if *t.asJSON {
		if e := printJSON(a.out, report); e != nil {
			return e
		}
	} else {
		a.printComparison(report, *t.out)
	}
	if err != nil && *t.out != "" {
		fmt.Fprintf(a.err, "%s after %s; what is done is kept\n\n  %s  %s\n", a.err.paint(yellow, "interrupted"), plural(len(outcomes), "run"), a.err.paint(dim, "continue"), a.err.paint(cyan, command))
		return &quietError{withCode(exitInterrupted, err)}
	}
	if err == nil && !slices.ContainsFunc(outcomes, func(o compare.Outcome) bool { return o.OK() }) {
		return withCode(max(code, exitOther), errors.New("no run gave a score"))
	}
	return err
}

func quoteAll(args []string) string {
	out := slices.Clone(args)
	for i := range out {
		out[i] = quote(out[i])
	}
	return strings.Join(out, " ")
}

func writeReport(dir string, r *compare.Report) error {
	if err := atomicfile.WriteBytes(filepath.Join(dir, "table.md"), []byte(r.Markdown())); err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, "report.html"), []byte(r.HTML()))
}

// progressLine is what a child tells of a step, or its outcome at the end.
type progressLine struct {
	Step    int              `json:"step,omitempty"`
	Total   int              `json:"total,omitempty"`
	Loss    float64          `json:"loss,omitempty"`
	Outcome *compare.Outcome `json:"outcome,omitempty"`
}

// child does a run in a process of its own, this program with a hidden command.
func (a *app) child(ctx context.Context, r compare.Run, threads int, step func(*progressLine)) (*compare.Outcome, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "compare-run", "--threads", strconv.Itoa(threads))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin = bytes.NewReader(spec)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var outcome *compare.Outcome
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var p progressLine
		if json.Unmarshal(line, &p) != nil {
			continue
		}
		if p.Outcome != nil {
			outcome = p.Outcome
		} else {
			step(&p)
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil && outcome != nil {
		return outcome, nil
	}
	text := strings.TrimSpace(errs.String())
	if i := strings.LastIndex(text, "error: "); i >= 0 {
		text = text[i+len("error: "):]
	}
	if text == "" {
		text = "the run ended without a result: " + fmt.Sprint(err) // killed, most likely for memory
	}
	code := exitOther
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		code = exit.ExitCode()
	}
	return nil, withCode(code, errors.New(strings.TrimSpace(text)))
}

// dataPath gives an error of the plan its code: data that are not there, or settings
// that are wrong.
func dataPath(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return withCode(exitData, err)
	}
	return withCode(exitUsage, err)
}

// compareRunCommand does one run that it reads as JSON from standard input.
func (a *app) compareRunCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "compare-run", Hidden: true, Args: noArgs,
		Short: "Do one run of compare",
		Long:  "Do one run of compare, described as JSON on standard input, and print its steps and its outcome as lines of JSON.",
	}
	apply := threadsFlag(flagsOf(cmd))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := apply(); err != nil {
			return err
		}
		var r compare.Run
		if a.in == nil {
			return usagef("no run on standard input")
		}
		if err := json.NewDecoder(a.in).Decode(&r); err != nil {
			return usagef("standard input: %w", err)
		}
		o, err := compare.Do(cmd.Context(), r, func(s *train.Step) {
			_ = printJSONLine(a.out, progressLine{Step: s.Step, Total: s.Total, Loss: s.Loss}) // a closed pipe ends the process
		})
		if err != nil {
			return err
		}
		return printJSONLine(a.out, progressLine{Outcome: o})
	}
	return cmd
}

// compareView shows how far a comparison is.
type compareView struct {
	a     *app
	quiet bool
	total int
	done  int
	fresh int // done by this command
	began time.Time
}

func (v *compareView) header(p *compare.Plan, runs []compare.Run) {
	if v.quiet {
		return
	}
	f := facts{s: v.a.out}
	f.add("model", "%s", p.Model)
	var tasks []string
	for _, t := range p.Tasks {
		tasks = append(tasks, t.Name)
	}
	f.add("tasks", "%s", strings.Join(tasks, ", "))
	f.add("methods", "%s", strings.Join(p.Methods, ", "))
	f.add("runs", "%d: %s × %s × %s", len(runs), plural(len(p.Tasks), "task"), plural(len(p.Methods), "method"), plural(len(p.Seeds), "seed"))
	f.print()
	fmt.Fprintln(v.a.out)
}

// name is a run in a few words.
func runName(r *compare.Run) string {
	return fmt.Sprintf("%s on %s, seed %d", r.Method, r.Task.Name, r.Seed)
}

func (v *compareView) step(r *compare.Run, p *progressLine) {
	share := float64(v.done) / float64(max(1, v.total))
	if p.Total > 0 {
		share += float64(p.Step) / float64(p.Total) / float64(max(1, v.total))
	}
	eta := ""
	if v.fresh > 0 {
		left := time.Duration(float64(time.Since(v.began)) / float64(v.fresh) * float64(v.total-v.done))
		eta = "  ETA " + durationText(left)
	}
	v.a.err.setLine(fmt.Sprintf("  %s run %d/%d  %s  step %d/%d  loss %s%s", v.a.err.bar(share, 16), v.done+1, v.total, runName(r), p.Step, p.Total, lossText(p.Loss), eta))
}

func (v *compareView) outcome(i int, o *compare.Outcome, before bool) {
	v.done = i + 1
	if before {
		return
	}
	v.fresh++
	s := v.a.err
	text := ""
	switch {
	case o.Problem != "":
		text = s.paint(yellow, "does not fit: ") + o.Problem
	case o.Failure != "":
		text = s.paint(red, "failed: ") + o.Failure
	default:
		text = fmt.Sprintf("%s %s", metricLabel(o.Metric), metricText(o.Metric, o.Score))
		if o.Kept != nil {
			text += fmt.Sprintf(", kept %s", metricText(o.KeptMetric, *o.Kept))
		}
		if o.Steps > 0 {
			text += fmt.Sprintf(", %s, %s", durationText(time.Duration(o.Seconds*float64(time.Second))), bytesText(o.Peak))
		}
	}
	fmt.Fprintf(s, "%s  %s  %s\n", s.paint(dim, fmt.Sprintf("%d/%d", v.done, v.total)), runName(&o.Run), strings.Join(strings.Fields(text), " "))
}

func (a *app) printComparison(r *compare.Report, dir string) {
	head, rows := r.Table()
	fmt.Fprintln(a.out)
	t := newTable(a.out, head...)
	for _, c := range rows {
		t.row(c...)
	}
	t.print()
	fmt.Fprintln(a.out)
	for _, l := range wrap(r.Legend(), a.out.textWidth()-2) {
		fmt.Fprintf(a.out, "  %s\n", a.out.paint(dim, l))
	}
	for _, w := range r.Why() {
		a.warn("%s", w)
	}
	if dir != "" {
		fmt.Fprintf(a.out, "\n  %s  %s\n", a.out.paint(dim, "report"), filepath.Join(dir, "report.html"))
	}
}
