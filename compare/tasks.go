package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/model"
)

// sourceFile is a source as a file of tasks writes it: a path, or a mapping.
type sourceFile struct {
	Path    string            `yaml:"data"`
	Columns []string          `yaml:"columns"`
	Map     map[string]string `yaml:"map"`
	Metric  string            `yaml:"metric"` // of keep
}

// UnmarshalYAML accepts a path alone.
func (s *sourceFile) UnmarshalYAML(b []byte) error {
	if yaml.Unmarshal(b, &s.Path) == nil {
		return nil
	}
	type plain sourceFile
	return yaml.UnmarshalWithOptions(b, (*plain)(s), yaml.Strict())
}

type taskFile struct {
	Tasks []struct {
		Name    string            `yaml:"name"`
		Train   sourceFile        `yaml:"train"`
		Eval    sourceFile        `yaml:"eval"`
		Keep    *sourceFile       `yaml:"keep"`
		Columns []string          `yaml:"columns"`
		Map     map[string]string `yaml:"map"`
		Task    string            `yaml:"task"`
		Labels  []string          `yaml:"labels"`
		Problem string            `yaml:"problem"`
		Metric  string            `yaml:"metric"`
		Budget  `yaml:",inline"`
	} `yaml:"tasks"`
}

// Words maps the words of files and command lines to tasks and problems.
var (
	TaskWords = map[string]model.Task{
		"": "", "causal-lm": model.CausalLM, "seq2seq": model.Seq2SeqLM, "seq-cls": model.SequenceClassification, "token-cls": model.TokenClassification,
	}
	ProblemWords = map[string]model.Problem{
		"": "", "single-label": model.SingleLabel, "multi-label": model.MultiLabel, "regression": model.Regression,
	}
)

// ReadTasks reads a YAML file with a list tasks, each with
//
//	name, train, eval    where eval may be left out; paths are relative to the file
//	columns, map         as --columns and --map of peftkit train, for all sources;
//	                     a source that is a mapping (data, columns, map) has its own
//	task, labels, problem, metric
//	keep                 a second evaluation set: a path, or a mapping with a metric
//	epochs, max_steps, max_train, max_eval, max_seq_len, max_target_len, batch_size, grad_accum
func ReadTasks(path string) ([]Task, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f taskFile
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", path, ErrPlan, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if len(f.Tasks) == 0 {
		return nil, fmt.Errorf("%s: %w: no tasks", path, ErrPlan)
	}
	dir := filepath.Dir(path)
	var out []Task
	for i, t := range f.Tasks {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("%s: task %d (%s): %w: %s", path, i+1, t.Name, ErrPlan, fmt.Sprintf(format, args...))
		}
		source := func(s sourceFile) Source {
			if s.Path == "" {
				return Source{}
			}
			if !filepath.IsAbs(s.Path) {
				s.Path = filepath.Join(dir, s.Path)
			}
			if s.Columns == nil {
				s.Columns = t.Columns
			}
			if s.Map == nil {
				s.Map = t.Map
			}
			return Source{Path: s.Path, Names: s.Columns, Columns: data.Columns(s.Map)}
		}
		head, ok := TaskWords[t.Task]
		if !ok {
			return nil, bad("task %q: expected causal-lm, seq2seq, seq-cls or token-cls", t.Task)
		}
		problem, ok := ProblemWords[t.Problem]
		if !ok {
			return nil, bad("problem %q: expected single-label, multi-label or regression", t.Problem)
		}
		if t.Train.Path == "" {
			return nil, bad("no train")
		}
		n := Task{Name: t.Name, Train: source(t.Train), Eval: source(t.Eval), Head: head, Labels: t.Labels, Problem: problem, Metric: t.Metric, Budget: t.Budget}
		if n.Name == "" {
			n.Name = NameOf(t.Train.Path)
		}
		if t.Keep != nil {
			k := source(*t.Keep)
			n.Keep, n.KeepMetric = &k, t.Keep.Metric
		}
		out = append(out, n)
	}
	return out, nil
}

// NameOf is the name of a task that has none: of a file without its ending, of
// train.* and of a folder that of the folder.
func NameOf(path string) string {
	base := filepath.Base(filepath.Clean(path))
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	if stem == "train" {
		return filepath.Base(filepath.Dir(filepath.Clean(path)))
	}
	return stem
}
