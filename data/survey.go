package data

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/peftkit/peftkit/model"
)

// Survey says what a data set is for, before anything is tokenized.
type Survey struct {
	Task    model.Task
	Kind    Kind
	Records int
	// Labels and Problem are Options' if given, else those of the records.
	Labels  []string
	Problem model.Problem
}

// Look reads the records of a data set for a task. When the task is empty it is
// the first of token classification, sequence classification, sequence to
// sequence and causal language modelling whose fields the first record has. Only
// the fields of o that name columns, labels and the part are used.
func Look(path string, o Options) (*Survey, error) {
	in, err := o.open(path)
	if err != nil {
		return nil, err
	}
	if o.Task == "" {
		o.Task = in.task(&o)
	}
	records, _, err := in.records(&o, false)
	if err != nil {
		return nil, err
	}
	if err := o.survey(records); err != nil {
		return nil, fmt.Errorf("%s: %w", in.name, err)
	}
	return &Survey{Task: o.Task, Kind: records[0].Kind, Records: len(records), Labels: o.Labels, Problem: o.Problem}, nil
}

// task detects the task from the fields of the first record.
func (in *reading) task(o *Options) model.Task {
	if len(in.rows) > 0 {
		for _, t := range []model.Task{model.TokenClassification, model.SequenceClassification, model.Seq2SeqLM} {
			if o.Columns.validate(t) == nil && o.Columns.detect(in.rows[0].fields, t) != nil {
				return t
			}
		}
	}
	return model.CausalLM
}

// Fits reports whether all labels of a survey are among names, or numbers of them.
func (s *Survey) Fits(names []string) bool {
	e := &encoder{o: Options{Labels: names}}
	for _, l := range s.Labels {
		if _, ok := e.class(l); !ok {
			return false
		}
	}
	return true
}

// survey fills in labels and problem of a classification from the records.
func (o *Options) survey(records []Record) error {
	switch o.Task {
	case model.SequenceClassification:
		if o.Problem == "" {
			o.Problem = problemOf(records)
		}
		if o.Problem == model.Regression {
			if o.Labels == nil && len(records) > 0 {
				for i := range records[0].Classes {
					o.Labels = append(o.Labels, fmt.Sprintf("LABEL_%d", i))
				}
			}
			break
		}
		if o.Labels == nil {
			o.Labels = collect(records, func(r *Record) []string { return r.Classes })
		}
	case model.TokenClassification:
		o.Problem = ""
		if o.Labels == nil {
			o.Labels = collect(records, func(r *Record) []string { return r.Tags })
		}
	default:
		o.Labels, o.Problem = nil, ""
		return nil
	}
	const most = 100000
	if n := len(o.Labels); n == 0 || n > most {
		return fmt.Errorf("%w: the records have %d different labels", ErrFields, n)
	}
	return nil
}

// problemOf guesses from the labels: a fraction makes a regression, a list of
// names several labels, anything else one class.
func problemOf(records []Record) model.Problem {
	many, numbers, fraction := false, true, false
	for i := range records {
		many = many || records[i].Many
		for _, c := range records[i].Classes {
			_, whole := strconv.Atoi(c)
			_, number := strconv.ParseFloat(c, 64)
			numbers = numbers && number == nil
			fraction = fraction || whole != nil && number == nil
		}
	}
	switch {
	case numbers && fraction:
		return model.Regression
	case many:
		return model.MultiLabel
	}
	return model.SingleLabel
}

// collect returns the different labels in ascending order: by number when all
// are whole numbers, by bytes otherwise.
func collect(records []Record, of func(*Record) []string) []string {
	seen := map[string]bool{}
	var out []string
	whole := true
	for i := range records {
		for _, l := range of(&records[i]) {
			if !seen[l] {
				seen[l] = true
				out = append(out, l)
				_, err := strconv.Atoi(l)
				whole = whole && err == nil
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if whole {
			x, _ := strconv.Atoi(a)
			y, _ := strconv.Atoi(b)
			return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
		}
		return cmp.Compare(a, b)
	})
	return out
}
