package data

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// taskField is the field that says which task a record is of, taskFields are its
// names.
const taskField = "task"

var taskFields = []string{taskField, "task_id", "task_ids"}

// TaskFile is the file beside an adapter that names the tasks it tells apart, in
// the order of their numbers. PEFT knows them by numbers alone.
const TaskFile = "task_map.json"

type taskMap struct {
	Tasks []string `json:"tasks"`
}

// WriteTasks returns the content of a TaskFile.
func WriteTasks(names []string) ([]byte, error) {
	b, err := json.MarshalIndent(taskMap{names}, "", "  ")
	return append(b, '\n'), err
}

// ReadTasks reads the content of a TaskFile.
func ReadTasks(b []byte) ([]string, error) {
	var m taskMap
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", TaskFile, err)
	}
	for i, n := range m.Tasks {
		if n == "" || slices.Contains(m.Tasks[:i], n) {
			return nil, fmt.Errorf("%s: %w: task %d is %q, which is empty or named twice", TaskFile, ErrFields, i, n)
		}
	}
	if len(m.Tasks) == 0 {
		return nil, fmt.Errorf("%s: %w: no tasks", TaskFile, ErrFields)
	}
	return m.Tasks, nil
}

// TaskNumber returns the number of a task that is told by its number or, with
// names, by its name, out of n tasks that a method tells apart.
func TaskNumber(task string, names []string, n int) (int32, error) {
	if i := slices.Index(names, task); i >= 0 && i < n {
		return int32(i), nil
	}
	if i, err := strconv.Atoi(task); err == nil && i >= 0 && i < n {
		return int32(i), nil
	}
	return 0, fmt.Errorf("task %q: %w; expected %s", task, ErrFields, wantTask(names, n))
}

// wantTask says what a task may be.
func wantTask(names []string, n int) string {
	names = names[:min(n, len(names))]
	made := "which is the only one the method was made for"
	numbers := "0"
	if n > 1 {
		numbers, made = fmt.Sprintf("0 to %d", n-1), fmt.Sprintf("the method was made for %d tasks", n)
	}
	if len(names) > 0 {
		return fmt.Sprintf("%s, or %s: %s", someLabels(names), numbers, made)
	}
	return fmt.Sprintf("%s: %s", numbers, made)
}

// taskName reads the task of a row; its error lacks the place.
func taskName(r row, s *shape, columns Columns, used map[string]bool) (string, *LineError) {
	if !columns.has(s, r.fields, taskField) {
		return "", nil
	}
	v, missing := columns.value(s, r.fields, taskField, used)
	column := columns.column(s, r.fields, taskField)
	if list, ok := listOf(v); ok && len(list) == 1 {
		v = list[0] // task_ids of one text
	}
	name, ok := className(v)
	if missing != "" || !ok {
		return "", &LineError{Found: fmt.Sprintf("%q is %s", column, jsonType(v)), Want: "the name or the number of a task"}
	}
	return name, nil
}

// surveyTasks collects the names of the tasks. tasked says that records have some.
func (o *Options) surveyTasks(records []Record) (tasked bool, err error) {
	if o.Tasks < 1 {
		o.TaskNames, o.TaskID = nil, nil
		return false, nil
	}
	if o.TaskID != nil {
		_, err := TaskNumber(*o.TaskID, o.TaskNames, o.Tasks)
		return false, err
	}
	names := collect(records, func(r *Record) []string {
		if r.Task == "" {
			return nil
		}
		return []string{r.Task}
	})
	if len(names) == 0 || o.TaskNames != nil {
		return len(names) > 0, nil
	}
	if !slices.ContainsFunc(names, func(n string) bool { _, err := strconv.Atoi(n); return err != nil }) {
		return true, nil // numbers stand for themselves
	}
	if len(names) > o.Tasks {
		return true, fmt.Errorf("%w: the records name %d tasks (%s), the method was made for %d; make it for more (--tasks %d)",
			ErrFields, len(names), someLabels(names), o.Tasks, len(names))
	}
	o.TaskNames = names
	return true, nil
}

// task returns the number of a record's task.
func (e *encoder) task(r *Record) (int32, error) {
	name := r.Task
	switch {
	case e.o.TaskID != nil:
		name = *e.o.TaskID
	case !e.tasked:
		return 0, nil
	case name == "":
		return 0, &LineError{File: r.File, Line: r.Line, Found: "no " + taskField, Want: "a task, as other records have one", Err: ErrFields}
	}
	n, err := TaskNumber(name, e.o.TaskNames, e.o.Tasks)
	if err != nil {
		want := wantTask(e.o.TaskNames, e.o.Tasks)
		if len(e.o.TaskNames) == 0 {
			want += " (--tasks)"
		}
		return 0, &LineError{File: r.File, Line: r.Line, Found: fmt.Sprintf("task %q", name), Want: want, Err: ErrFields}
	}
	return n, nil
}

// countTasks prepares the counts of n tasks.
func (s *Stats) countTasks(n int, names []string, told bool) {
	s.tasks, s.TaskNames, s.Taskless = n, names, n > 1 && !told
}
