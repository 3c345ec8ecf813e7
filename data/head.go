package data

import (
	"fmt"

	"github.com/peftkit/peftkit/model"
)

// HeadFor completes the options of a model that is to read a data set: by the
// checkpoint, and where that is silent by the data. want holds what was asked
// for; of o only columns, names and the part are used.
//
// A classifier of the same task keeps its labels as long as those of the data are
// among them; otherwise the labels are the data's. decided is the kind of the
// records when they decided the task.
func HeadFor(path string, o Options, c *model.Checkpoint, want model.Options) (out model.Options, decided Kind, err error) {
	own, err := model.Options{}.Resolve(c)
	if err != nil {
		return want, "", err
	}
	out = want
	if out.Task == "" {
		out.Task = own.Task
	}
	if out.Task == "" {
		o.Task = ""
		s, err := Look(path, o)
		if err != nil {
			return out, "", err
		}
		out.Task, decided = s.Task, s.Kind
	}
	if out.Task != model.SequenceClassification && out.Task != model.TokenClassification {
		return out, decided, nil
	}
	o.Task, o.Labels, o.Problem = out.Task, out.Labels, out.Problem
	s, err := Look(path, o)
	if err != nil {
		return out, decided, err
	}
	if out.Problem == "" {
		out.Problem = s.Problem
	}
	switch {
	case want.Labels != nil || s.Problem == model.Regression:
		out.Labels = s.Labels
	case own.Task == out.Task && !(generic(own.Labels) && len(own.Labels) == len(s.Labels)) && s.Fits(own.Labels):
		out.Labels = own.Labels // and the head for them
	default:
		out.Labels = s.Labels
	}
	return out, decided, nil
}

// generic reports labels that nobody chose.
func generic(labels []string) bool {
	for i, l := range labels {
		if l != fmt.Sprintf("LABEL_%d", i) {
			return false
		}
	}
	return true
}

// Sample keeps n examples, chosen by the seed, in the order of the file; all of
// them when n is 0 or there are no more.
func (d *Dataset) Sample(n int, seed uint64) *Dataset {
	if n <= 0 || n >= len(d.Examples) {
		return d
	}
	keep := make([]bool, len(d.Examples))
	for _, i := range pick(len(d.Examples), n, seed) {
		keep[i] = true
	}
	out := *d
	out.Examples = nil
	for i, k := range keep {
		if k {
			out.Examples = append(out.Examples, d.Examples[i])
		}
	}
	out.Stats.finish(out.Examples)
	return &out
}
