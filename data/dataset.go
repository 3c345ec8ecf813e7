package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tokenizer"
)

// Dataset is a list of examples in the order of the file.
type Dataset struct {
	Examples []Example
	Stats    Stats
	// MaxSeqLen is the limit the examples were cut to, 0 for none.
	MaxSeqLen int
	// Task says what the labels are; "" is model.CausalLM.
	Task model.Task
	// Labels are the names of the classes, and Problem what a sequence classifier
	// learns.
	Labels  []string
	Problem model.Problem
	// TaskNames are the names of the tasks that the examples are of, nil when they are
	// numbers or there are none.
	TaskNames []string
}

// Causal reports whether the examples are those of a causal language model.
func (d *Dataset) Causal() bool { return d.Task == "" || d.Task == model.CausalLM }

// Load reads and tokenizes a file, files that match a pattern, or one part of a folder.
func Load(path string, o Options) (*Dataset, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	in, err := o.open(path)
	if err != nil {
		return nil, err
	}
	records, unused, err := in.records(&o, o.Tasks > 0 && o.TaskID == nil)
	if err != nil {
		return nil, err
	}
	d, err := New(records, o)
	if err != nil {
		var line *LineError
		if errors.As(err, &line) {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", in.name, err)
	}
	d.Stats.Unused, d.Stats.Files = append(unused, d.Stats.Unused...), in.notes
	return d, nil
}

// LoadSplits reads the training and the validation part. A folder with a valid
// file has both; otherwise fraction of the training examples is put aside,
// chosen by the seed. valid is nil when there is neither a file nor a fraction.
func LoadSplits(path string, fraction float64, seed uint64, o Options) (train, valid *Dataset, err error) {
	o.Part = "train"
	if train, err = Load(path, o); err != nil {
		return nil, nil, err
	}
	o.Labels, o.Problem, o.TaskNames = train.Labels, train.Problem, train.TaskNames
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		o.Part = "valid"
		if _, _, err := partFiles(path, o.Part); err == nil {
			valid, err = Load(path, o)
			return train, valid, err
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
	if fraction == 0 {
		return train, nil, nil
	}
	return train.Split(fraction, seed)
}

// New tokenizes records. Examples without a token to train are left out and
// counted; when none is left the error wraps ErrEmpty.
func New(records []Record, o Options) (*Dataset, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := o.survey(records); err != nil {
		return nil, err
	}
	tasked, err := o.surveyTasks(records)
	if err != nil {
		return nil, err
	}
	read := len(records)
	records = slices.DeleteFunc(slices.Clone(records), func(r Record) bool { return r.Rejected })
	if len(records) == 0 && read > 0 {
		return nil, fmt.Errorf("%w: all %d records are bad answers (%s)", ErrEmpty, read, feedbackFields)
	}
	results, err := encodeAll(records, o, tasked)
	if err != nil {
		return nil, err
	}
	d := &Dataset{MaxSeqLen: o.MaxSeqLen, Task: o.Task, Labels: o.Labels, Problem: o.Problem, TaskNames: o.TaskNames}
	d.Stats.countTasks(o.Tasks, o.TaskNames, tasked || o.TaskID != nil)
	d.Stats.Task = o.Task
	if o.Task != model.CausalLM {
		d.Stats.Labels = o.Labels
	}
	d.Stats.Records, d.Stats.Rejected = read, read-len(records)
	if d.Stats.Unused, err = unread(records, o); err != nil {
		return nil, err
	}
	if len(records) > 0 {
		d.Stats.Kind, d.Stats.AsChat = records[0].Kind, records[0].Chat
	}
	ends := slices.Clone(o.Tokenizer.EOGs())
	if id, ok := o.Tokenizer.EOS(); ok {
		ends = append(ends, id)
	}
	if o.Task == model.Seq2SeqLM {
		if t, ok := o.Tokenizer.(interface{ Target() *tokenizer.Tokenizer }); ok {
			ends = append(ends, t.Target().EOGs()...)
		}
	}
	front := frontOf(o.Tokenizer)
	var limited *Stats
	taken := 0 // what Limit counts: records, or windows of texts
	for i := range results {
		if limited == nil && o.Limit > 0 && taken >= o.Limit {
			s := d.Stats
			s.Records = i
			limited = &s
		}
		if blankAnswer(&records[i], results[i].examples, ends) {
			d.Stats.Empty++
		}
		before := len(d.Examples)
		if records[i].Windows && d.Causal() {
			d.takeWindows(results[i].examples[0], front, ends)
		} else {
			d.take(&results[i], ends)
		}
		for _, ex := range d.Examples[before:] {
			if !ex.More {
				taken++
			}
		}
	}
	if o.Limit > 0 && taken > o.Limit {
		if limited != nil {
			d.Stats = *limited
		}
		d.First(o.Limit)
		d.Stats.Of = taken
	}
	d.Stats.finish(d.Examples)
	if len(d.Examples) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrEmpty, d.Stats.whyEmpty())
	}
	return d, nil
}

// result is what became of one record.
type result struct {
	examples []Example
	// merged says that a token spans the border of a prompt and an answer, spaced that
	// the prompt ends in a space there.
	merged, spaced bool
	// unsaid is the number of answers whose text the chat template leaves out.
	unsaid int
	// length before the cut, and tokens lost; causal examples are cut by take.
	length, lost int
	err          error
}

// encodeAll tokenizes with several goroutines; the results are in order.
func encodeAll(records []Record, o Options, tasked bool) ([]result, error) {
	results := make([]result, len(records))
	workers := min(runtime.GOMAXPROCS(0), (len(records)+63)/64)
	encoders := make([]*encoder, max(workers, 1))
	for i := range encoders {
		var err error
		if encoders[i], err = newEncoder(o); err != nil {
			return nil, err
		}
		encoders[i].tasked = tasked
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, e := range encoders {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(records)); i = next.Add(1) - 1 {
				r := &results[i]
				var err error
				if *r, err = e.encode(&records[i]); err == nil {
					var task int32
					task, err = e.task(&records[i])
					for k := range r.examples {
						r.examples[k].Task = task
					}
				}
				r.err = err
			}
		})
	}
	wg.Wait()
	bad := &LineErrors{}
	for i := range results {
		var line *LineError
		if errors.As(results[i].err, &line) {
			if errors.Is(line, errNoTemplate) {
				return nil, line // the same for every chat
			}
			bad.add(line)
		}
	}
	return results, bad.orNil()
}

// take cuts the examples of a record, counts them and keeps those that train anything.
func (d *Dataset) take(r *result, ends []int32) {
	s := &d.Stats
	cut, kept, ended := r.lost > 0, 0, false
	lost := r.lost
	for i := range r.examples {
		ex := r.examples[i]
		s.Longest = max(s.Longest, len(ex.Tokens), r.length)
		if d.Causal() && d.MaxSeqLen > 0 && len(ex.Tokens) > d.MaxSeqLen {
			cut = true
			lost += len(ex.Tokens) - d.MaxSeqLen
			ex.cut(d.MaxSeqLen)
		}
		if ex.Trained() == 0 {
			continue
		}
		ended = ended || cut || slices.ContainsFunc(ex.Labels, func(l int32) bool { return l != Ignore && slices.Contains(ends, l) })
		d.Examples = append(d.Examples, ex)
		kept++
	}
	if kept > 0 {
		d.Examples[len(d.Examples)-1].More = false
	}
	if lost > 0 {
		s.Truncated++
		s.Cut += int64(lost)
	}
	if r.merged {
		s.Merged++
	}
	if r.spaced {
		s.Spaced++
	}
	if r.unsaid > 0 {
		s.Unsaid++
	}
	if kept > 1 {
		s.Apart++
	}
	classifies := d.Task == model.SequenceClassification || d.Task == model.TokenClassification
	switch {
	case kept == 0 && cut:
		s.UntrainedByCut++
		fallthrough
	case kept == 0:
		s.Untrained++
	case !ended && !classifies:
		s.NoEnd++
	}
}

// cut keeps the first n tokens.
func (e *Example) cut(n int) {
	e.Tokens, e.Labels = e.Tokens[:n:n], e.Labels[:n:n]
	if e.Weights != nil {
		e.Weights = e.Weights[:n:n]
		e.tidy()
	}
}

// Split puts fraction of the examples aside, at least one and not all, chosen by
// the seed. Both parts keep the order of the file.
func (d *Dataset) Split(fraction float64, seed uint64) (train, valid *Dataset, err error) {
	if !(fraction > 0 && fraction < 1) {
		return nil, nil, fmt.Errorf("validation split %g: expected a fraction between 0 and 1", fraction)
	}
	records := d.records()
	n := len(records)
	if n < 2 {
		return nil, nil, fmt.Errorf("validation split: %w: %d example cannot be divided", ErrEmpty, n)
	}
	k := min(max(int(fraction*float64(n)+0.5), 1), n-1)
	aside := make([]bool, n)
	for _, i := range pick(n, k, seed) {
		aside[i] = true
	}
	part := Dataset{MaxSeqLen: d.MaxSeqLen, Task: d.Task, Labels: d.Labels, Problem: d.Problem, TaskNames: d.TaskNames}
	one, two := part, part
	train, valid = &one, &two
	train.Stats = d.Stats
	train.Stats.Tokens, train.Stats.Trained = 0, 0
	for i, examples := range records {
		if aside[i] {
			valid.Examples = append(valid.Examples, examples...)
		} else {
			train.Examples = append(train.Examples, examples...)
		}
	}
	train.Stats.finish(train.Examples)
	valid.Stats = Stats{Kind: d.Stats.Kind, Records: k, Task: d.Stats.Task, Labels: d.Stats.Labels, tasks: d.Stats.tasks, TaskNames: d.Stats.TaskNames}
	valid.Stats.finish(valid.Examples)
	return train, valid, nil
}

// records are the examples of each record that has any.
func (d *Dataset) records() [][]Example {
	var out [][]Example
	begin := 0
	for i := range d.Examples {
		if !d.Examples[i].More {
			out = append(out, d.Examples[begin:i+1])
			begin = i + 1
		}
	}
	return out
}

// RecordCount is the number of records that have examples.
func (d *Dataset) RecordCount() int { return len(d.records()) }

// First keeps the examples of the first n records alone, in the order of the file.
func (d *Dataset) First(n int) {
	for i := range d.Examples {
		if !d.Examples[i].More {
			if n--; n == 0 {
				d.Examples = d.Examples[:i+1]
				return
			}
		}
	}
}

// pick returns k different numbers below n.
func pick(n, k int, seed uint64) []int {
	return rand.New(rand.NewPCG(seed, 0x76616c6964)).Perm(n)[:k]
}

// Hash returns the SHA-256 of everything that examples are made of, in order, and
// of the task and its labels: it changes when the data, the tokenizer, the
// template or the cut change.
func (d *Dataset) Hash() string {
	h := sha256.New()
	var buf []byte
	put := func(v []int32) {
		buf = binary.LittleEndian.AppendUint64(buf[:0], uint64(len(v)))
		for _, x := range v {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(x))
		}
		h.Write(buf)
	}
	if !d.Causal() {
		fmt.Fprintf(h, "%s %s %q", d.Task, d.Problem, d.Labels)
	}
	for i := range d.Examples {
		ex := &d.Examples[i]
		put(ex.Tokens)
		put(ex.Labels)
		if ex.TrainFirst {
			put(ex.Tokens[:1])
		}
		if ex.Weights != nil {
			put(floatBits(ex.Weights))
		}
		if ex.Task != 0 {
			put([]int32{ex.Task})
		}
		if d.Causal() {
			continue
		}
		put(ex.Types)
		put(ex.Source)
		put(floatBits(ex.Targets))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// floatBits are the numbers' bits.
func floatBits(v []float32) []int32 {
	out := make([]int32, len(v))
	for i, x := range v {
		out[i] = int32(math.Float32bits(x))
	}
	return out
}
