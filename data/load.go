package data

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// Records reads a file without tokenizing it. names are the columns of a .csv or
// .tsv file that has no header line. The kind is that of the first record; all
// others must have the same fields. unused lists columns that were not looked at.
func Records(file string, columns Columns, names []string) (records []Record, unused []string, err error) {
	return TaskRecords(file, model.CausalLM, columns, names)
}

// TaskRecords is Records for a task.
func TaskRecords(file string, task model.Task, columns Columns, names []string) (records []Record, unused []string, err error) {
	o := Options{Task: task, Columns: columns, Names: names}
	in, err := o.read([]string{file})
	if err != nil {
		return nil, nil, err
	}
	return in.records(&o, false)
}

// Parse is Records for a file that is in memory; the name tells its type.
func Parse(file string, content []byte, columns Columns, names []string) (records []Record, unused []string, err error) {
	return parseRecords(file, content, model.CausalLM, columns, names, false)
}

// parseRecords reads also which task each record is of when tasks is set.
func parseRecords(file string, content []byte, task model.Task, columns Columns, names []string, tasks bool) (records []Record, unused []string, err error) {
	o := Options{Task: task, Columns: columns, Names: names}
	in := o.reading()
	if err := in.parse(file, content); err != nil {
		return nil, nil, err
	}
	in.name = file
	return in.records(&o, tasks)
}

// reading returns a reader of files for the options.
func (o *Options) reading() *reading {
	in := &reading{names: o.Names, split: o.SplitText, part: o.Part}
	if in.part == "" {
		in.part = "train"
	}
	tasks := []model.Task{o.Task}
	if o.Task == "" {
		tasks = []model.Task{model.TokenClassification, model.SequenceClassification, model.Seq2SeqLM, model.CausalLM}
	}
	in.isRecord = func(fields map[string]any) bool {
		return slices.ContainsFunc(tasks, func(t model.Task) bool { return o.Columns.detect(fields, t) != nil })
	}
	return in
}

// read reads files, which are one data set, in order.
func (o *Options) read(files []string) (*reading, error) {
	in := o.reading()
	in.name = files[0]
	if err := in.files(files); err != nil {
		return nil, err
	}
	return in, nil
}

// open reads a data set: a file, files by a pattern, or a part of a folder.
func (o *Options) open(path string) (*reading, error) {
	files, note, err := partFiles(path, o.Part)
	if err != nil {
		return nil, err
	}
	in, err := o.read(files)
	if err == nil && note != "" {
		in.notes = slices.Insert(in.notes, 0, note)
	}
	return in, err
}

// records takes the fields of all rows. The kind is that of the first.
func (in *reading) records(o *Options, tasks bool) (records []Record, unused []string, err error) {
	if err := o.Columns.validate(o.Task); err != nil {
		return nil, nil, err
	}
	if len(in.rows) == 0 && in.bad.Total == 0 {
		return nil, nil, fmt.Errorf("%s: %w: no records", in.name, ErrEmpty)
	}
	var s *shape
	var first row
	var kept []row
	columns := o.Columns
	seen, used := map[string]bool{}, map[string]bool{}
	for _, r := range in.rows {
		for name := range r.fields {
			seen[name] = true
		}
		if e := refusePairs(r.fields, o.Columns, o.Task); e != nil {
			e.File, e.Line = r.file, r.line
			in.bad.add(e)
			continue
		}
		if s == nil {
			if s, first = o.Columns.detect(r.fields, o.Task), r; s == nil {
				in.bad.add(in.noShape(&r, o))
				break
			}
			in.tellNames(s, columns, r.fields)
			columns = columns.fix(s, r.fields)
		}
		rec, e := record(r, s, columns, used)
		if e == nil && tasks {
			rec.Task, e = taskName(r, s, columns, used)
		}
		if e != nil {
			e.File, e.Line, e.Err = r.file, r.line, ErrFields
			if e.Want == "" && (r.line != first.line || r.file != first.file) {
				e.Want = fmt.Sprintf("%s as in line %d", strings.Join(s.required, " and "), first.line)
			}
			in.bad.add(e)
			continue
		}
		rec.File, rec.Line, rec.Windows = r.file, r.line, r.windows
		if records == nil { // rows are many and small: growing would take as much again
			records, kept = make([]Record, 0, len(in.rows)), make([]row, 0, len(in.rows))
		}
		records = append(records, rec)
		kept = append(kept, r)
	}
	if err := in.bad.orNil(); err != nil {
		return nil, nil, err
	}
	if o.Task.Generates() {
		judge(records, kept, columns, used)
	}
	markChats(records)
	maps.DeleteFunc(seen, func(name string, _ bool) bool { return used[name] })
	return records, columnNames(slices.Sorted(maps.Keys(seen))), nil
}

// columnNames gives a column without a name, which tables have for the numbers of
// their rows, one that can be seen.
func columnNames(names []string) []string {
	for i, n := range names {
		if n == "" {
			names[i] = "(a column without a name)"
		}
	}
	return names
}

// tellNames notes which fields go by other names.
func (in *reading) tellNames(s *shape, columns Columns, fields map[string]any) {
	if s.task != model.CausalLM || len(columns) > 0 {
		return
	}
	var told []string
	for _, f := range slices.Concat(s.required, s.optional) {
		if c := columns.column(s, fields, f); c != f {
			told = append(told, fmt.Sprintf("%s as %s", c, f))
		}
	}
	if len(told) > 0 {
		in.note("columns read: %s", strings.Join(told, ", "))
	}
}
