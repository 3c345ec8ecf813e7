package compare

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
)

// made are outcomes of four methods on two tasks with three seeds.
func made() []Outcome {
	var out []Outcome
	methods := []struct {
		name, group string
		scores      [2]float64
		trainable   int64
	}{
		{"lora", "reparametrisation", [2]float64{0.85, 0.40}, 100_000}, {"prompt-tuning", "prompt", [2]float64{0.70, 0.10}, 8450},
		{"full", "selective", [2]float64{0.90, 0.50}, 22_000_000}, {"none", "none", [2]float64{0.50, 0.0}, 0},
		{"bitfit", "selective", [2]float64{0.82, 0.31}, 26_900}, {"houlsby", "adapter", [2]float64{0.86, 0.43}, 227_000},
		{"compacter", "adapter", [2]float64{0.84, 0.38}, 15_100}, {"lora+prompt-tuning", "combination", [2]float64{0.853, 0.39}, 108_450},
	}
	for t, task := range []string{"sst2", "cola"} {
		for seed := range 3 {
			for _, m := range methods {
				o := Outcome{Run: Run{Model: "base", Task: Task{Name: task}, Method: m.name, Seed: uint64(seed)}, Group: m.group,
					Metric: []string{"accuracy", "matthews"}[t], Score: m.scores[t] + 0.01*float64(seed-1),
					Trainable: m.trainable, Total: 22_000_000, Seconds: 10 + float64(seed), Peak: 2e8 + int64(seed), Rate: 1e-3}
				o.Key = o.Run.Key()
				if m.trainable > 0 {
					for s := range 60 {
						o.Curve = append(o.Curve, Point{s + 1, 0.3 + (1.1-m.scores[t])*math.Exp(-float64(s)/20) + 0.02*math.Sin(float64(s*(seed+1)))})
					}
				}
				if t == 0 {
					kept := 0.9 - 0.1*float64(seed)
					o.Kept, o.KeptMetric = &kept, "accuracy"
				}
				out = append(out, o)
			}
		}
	}
	return append(out, Outcome{Run: Run{Task: Task{Name: "sst2"}, Method: "ia3"}, Problem: "no place\nfor it"},
		Outcome{Run: Run{Task: Task{Name: "cola"}, Method: "ia3"}, Failure: "out of memory"})
}

// Means and deviations of a few float64 numbers near 1, of a rounding or two a term:
// 1e-12 is thousands of these and far below a digit that a table shows.
func TestSummary(t *testing.T) {
	r := Summarise(made())
	require.Equal(t, []TaskInfo{{"sst2", "accuracy", "accuracy"}, {"cola", "matthews", ""}}, r.Tasks)
	var names []string
	for _, row := range r.Rows {
		names = append(names, row.Method)
	}
	require.Equal(t, "none full lora prompt-tuning bitfit houlsby compacter lora+prompt-tuning ia3", strings.Join(names, " "))
	lora := r.Rows[2]
	require.InDelta(t, 0.85, lora.Cells[0].Mean, 1e-12)
	require.InDelta(t, 0.01, lora.Cells[0].Spread, 1e-12)
	require.InDelta(t, (0.85-0.5)/0.4, *lora.Cells[0].Gain, 1e-12)
	require.InDelta(t, 0.8, *lora.Cells[1].Gain, 1e-12)
	require.InDelta(t, 0.8, *lora.Cells[0].Kept, 1e-12)
	require.InDelta(t, 0.1, lora.Cells[0].KeptSpread, 1e-12)
	require.InDelta(t, (0.85+0.40)/2, *lora.Average, 1e-12)
	require.True(t, *lora.Cells[0].Beats)
	require.Equal(t, 11.0, lora.Seconds)
	require.EqualValues(t, 2e8+2, lora.Peak)
	require.Nil(t, r.Rows[8].Average)

	head, rows := r.Table()
	require.Equal(t, "method >sst2 >kept >cola >average >of full's gain >trainable >share >time >CPU time >peak memory", strings.Join(head, " "))
	require.Equal(t, []string{"lora", "85.0 ± 1.0", "80.0 ± 10.0", "40.0 ± 1.0", "62.5", "87 % / 80 %", "100 k", "0.45 %", "11.0 s", "–", "200 MB"}, rows[2])
	require.Equal(t, []string{"does not fit", "–", "failed"}, rows[8][1:4])
	require.Contains(t, r.Why(), "ia3 on sst2: no place for it")
	require.Contains(t, r.Why(), "ia3 on cola: out of memory")
	md := r.Markdown()
	require.Contains(t, md, "| lora | 85.0 ± 1.0 |")
	require.Contains(t, md, "| --- | ---: |")
}

// The page is whole and reaches for nothing outside it.
func TestPage(t *testing.T) {
	r := Summarise(made())
	r.Model, r.Command = "a<b>/model", "peftkit compare -m 'a<b>'"
	page := r.HTML()
	require.True(t, strings.HasPrefix(page, "<!doctype html>"))
	require.True(t, strings.HasSuffix(page, "</html>\n"))
	for _, no := range []string{"http:", "https:", "<script", "@import", "url(", "NaN", "Inf", "<b>/model", "%!"} {
		require.NotContains(t, page, no)
	}
	require.Contains(t, page, "a&lt;b&gt;")
	require.Contains(t, page, "prefers-color-scheme:dark")
	require.Equal(t, 6, strings.Count(page, "<svg "))
	require.Equal(t, strings.Count(page, "<svg "), strings.Count(page, "</svg>"))
	require.Equal(t, strings.Count(page, "<g "), strings.Count(page, "</g>"))
	for _, tag := range []string{"section", "table", "main", "ul", "div"} {
		require.Equal(t, strings.Count(page, "<"+tag), strings.Count(page, "</"+tag+">"), tag)
	}
	// Pages of little: one seed, one method, no curve.
	for _, some := range [][]Outcome{made()[3:4], made()[:1], made()[len(made())-2:], {{Run: Run{Task: Task{Name: "x"}, Method: "lora"}, Metric: "loss", Score: 2, Trainable: 5, Total: 10}}} {
		page := Summarise(some).HTML()
		require.NotContains(t, page, "NaN")
		require.NotContains(t, page, "Inf")
	}
}

func TestExecute(t *testing.T) {
	var runs []Run
	for seed := range uint64(2) {
		for _, m := range []string{None, "a", "b"} {
			runs = append(runs, Run{Task: Task{Name: "t"}, Method: m, Seed: seed})
		}
	}
	var did []string
	do := func(_ context.Context, r Run) (*Outcome, error) {
		did = append(did, r.Method)
		if r.Method == "b" {
			return nil, errors.New("broken")
		}
		return &Outcome{Run: r, Key: r.Key(), Score: 1}, nil
	}
	path := filepath.Join(t.TempDir(), "r.jsonl")
	s, err := OpenStore(path)
	require.NoError(t, err)
	out, err := Execute(t.Context(), runs, s.Done, do, func(_ int, o *Outcome, before bool) error {
		require.False(t, before)
		return s.Add(o)
	})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Equal(t, []string{None, "a", "b", "a", "b"}, did, "the untouched base is done once")
	require.Len(t, out, 5)
	require.Equal(t, "broken", out[2].Failure)

	// A crash cut the last line; failures are tried again, results are not.
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(raw, `{"run":{"mod`...), 0o666))
	s, err = OpenStore(path)
	require.NoError(t, err)
	require.Len(t, s.Done, 5)
	did = nil
	_, err = Execute(t.Context(), runs, s.Done, do, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"b", "b"}, did)
	require.NoError(t, s.Add(&out[0]))
	require.NoError(t, s.Close())
	s, err = OpenStore(path)
	require.NoError(t, err)
	require.Len(t, s.Done, 5)
	require.NoError(t, s.Close())

	require.NoError(t, os.WriteFile(path, []byte("no json\n"), 0o666))
	_, err = OpenStore(path)
	require.ErrorIs(t, err, ErrPlan)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Execute(ctx, runs, nil, do, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPlan(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "d.jsonl")
	require.NoError(t, os.WriteFile(file, []byte("{}\n"), 0o666))
	p := &Plan{Model: file, Tasks: []Task{{Name: "t", Train: Source{Path: file}, Budget: Budget{MaxSteps: 3}}}, Methods: []string{None, "lora", "ia3"}, Seeds: []uint64{1, 2},
		Budget: Budget{Epochs: 2, MaxTrain: 9}, Options: map[string]any{"lora.r": "8", "bias": "all"}, Rates: map[string]float64{"lora": 1e-3}}
	runs, err := p.Runs()
	require.NoError(t, err)
	require.Len(t, runs, 6)
	require.Equal(t, Budget{MaxSteps: 3, MaxTrain: 9}, runs[0].Task.Budget)
	require.Nil(t, runs[0].Options)
	require.Equal(t, map[string]any{"lora.r": "8", "bias": "all"}, runs[1].Options)
	require.Equal(t, map[string]any{"bias": "all"}, runs[2].Options)
	require.Equal(t, 1e-3, runs[1].Rate)
	require.Equal(t, uint64(2), runs[3].Seed)
	key := runs[1].Key()
	require.NoError(t, os.WriteFile(file, []byte("{ }\n"), 0o666))
	again, err := p.Runs()
	require.NoError(t, err)
	require.NotEqual(t, key, again[1].Key(), "other data are another run")
	for _, bad := range []func(*Plan){
		func(p *Plan) { p.Tasks = nil }, func(p *Plan) { p.Methods = nil }, func(p *Plan) { p.Seeds = nil },
		func(p *Plan) { p.Methods = append(p.Methods, "lora") }, func(p *Plan) { p.Tasks = append(p.Tasks, p.Tasks[0]) },
	} {
		q := *p
		bad(&q)
		_, err := q.Runs()
		require.ErrorIs(t, err, ErrPlan)
	}
}

func TestReadTasks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tasks.yaml")
	require.NoError(t, os.WriteFile(path, []byte(`tasks:
  - name: cola
    train: cola/in.tsv
    eval: cola/dev.tsv
    columns: [source, label, mark, sentence]
    metric: matthews
    max_train: 100
  - train: us/train.jsonl
    eval: {data: gb.csv, columns: [a, b], map: {source: a, target: b}}
    keep: {data: us.jsonl, metric: exact_match}
    task: seq2seq
    epochs: 2.5
`), 0o666))
	tasks, err := ReadTasks(path)
	require.NoError(t, err)
	require.Len(t, tasks, 2)
	require.Equal(t, Task{Name: "cola", Train: Source{Path: filepath.Join(dir, "cola/in.tsv"), Names: []string{"source", "label", "mark", "sentence"}},
		Eval:   Source{Path: filepath.Join(dir, "cola/dev.tsv"), Names: []string{"source", "label", "mark", "sentence"}},
		Metric: "matthews", Budget: Budget{MaxTrain: 100}}, tasks[0])
	require.Equal(t, "us", tasks[1].Name)
	require.Equal(t, model.Seq2SeqLM, tasks[1].Head)
	require.Equal(t, data.Columns{"source": "a", "target": "b"}, tasks[1].Eval.Columns)
	require.Equal(t, "exact_match", tasks[1].KeepMetric)
	require.Equal(t, 2.5, tasks[1].Epochs)
	for _, bad := range []string{"tasks: []", "tasks: [{train: a, colums: [x]}]", "tasks: [{name: a}]", "tasks: [{train: a, task: x}]", "tasks: [{train: a, problem: x}]", "a: b"} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o666))
		_, err := ReadTasks(path)
		require.ErrorIs(t, err, ErrPlan, bad)
	}
}
