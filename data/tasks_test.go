package data

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/model"
)

func TestTasksOfRecords(t *testing.T) {
	two := "two"
	for _, c := range []struct {
		name, content string
		o             Options
		tasks         []int32
		names         []string
		fault         string
	}{
		{"names", `{"text":"a","task":"nl"}` + "\n" + `{"text":"b","task":"de"}`, Options{Tasks: 3}, []int32{1, 0}, []string{"de", "nl"}, ""},
		{"numbers", `{"text":"a","task":2}` + "\n" + `{"text":"b","task_id":"0"}`, Options{Tasks: 3}, []int32{2, 0}, nil, ""},
		{"PEFT's list", `{"text":"a","task_ids":[1]}`, Options{Tasks: 2}, []int32{1}, nil, ""},
		{"names of before", `{"text":"a","task":"nl"}`, Options{Tasks: 2, TaskNames: []string{"de", "nl"}}, []int32{1}, []string{"de", "nl"}, ""},
		{"another column", `{"text":"a","lang":"nl"}`, Options{Tasks: 2, Columns: Columns{"task": "lang", "text": "text"}}, []int32{0}, []string{"nl"}, ""},
		{"not looked at", `{"text":"a","task":["x","y"]}`, Options{}, []int32{0}, nil, ""},
		{"one for all", `{"text":"a","task":[]}`, Options{Tasks: 2, TaskNames: []string{"one", "two"}, TaskID: &two}, []int32{1}, []string{"one", "two"}, ""},
		{"no task", `{"text":"a"}`, Options{Tasks: 2}, []int32{0}, nil, ""},

		{"out of range", `{"text":"a","task":0}` + "\n" + `{"text":"a","task":2}`, Options{Tasks: 2}, nil, nil, `:2: wrong fields: task "2"; expected 0 to 1: the method was made for 2 tasks`},
		{"only one", `{"text":"a","task":1}`, Options{Tasks: 1}, nil, nil, `expected 0: which`},
		{"negative", `{"text":"a","task":-1}`, Options{Tasks: 2}, nil, nil, `task "-1"`},
		{"too many names", `{"text":"a","task":"x"}` + "\n" + `{"text":"b","task":"y"}`, Options{Tasks: 1}, nil, nil, "name 2 tasks (x, y), the method was made for 1; make it for more (--tasks 2)"},
		{"unknown name", `{"text":"a","task":"z"}`, Options{Tasks: 2, TaskNames: []string{"x", "y"}}, nil, nil, "expected x, y, or 0 to 1"},
		{"one without", `{"text":"a","task":"x"}` + "\n" + `{"text":"b"}`, Options{Tasks: 2}, nil, nil, ":2: wrong fields: no task"},
		{"a list", `{"text":"a","task":["x","y"]}`, Options{Tasks: 2}, nil, nil, `"task" is a list`},
		{"no such number", `{"text":"a"}`, Options{Tasks: 2, TaskID: &two}, nil, nil, `task "two"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := loadText(t, "a.jsonl", c.content, c.o)
			if c.fault != "" {
				require.ErrorContains(t, err, c.fault)
				require.ErrorIs(t, err, ErrFields)
				return
			}
			require.NoError(t, err)
			var got []int32
			for i := range d.Examples {
				got = append(got, d.Examples[i].Task)
			}
			require.Equal(t, c.tasks, got)
			require.Equal(t, c.names, d.TaskNames)
			require.Equal(t, c.name == "no task", d.Stats.Taskless)
		})
	}
}

func TestTasksOfBatches(t *testing.T) {
	d, err := loadText(t, "a.jsonl", `{"source":"a","target":"b","task":1}`+"\n"+`{"source":"c","target":"d","task":0}`, Options{Task: model.Seq2SeqLM, Tasks: 2})
	require.NoError(t, err)
	b := d.Batch([]int{1, 0})
	require.Equal(t, []int32{0, 1}, b.Tasks)
	require.Equal(t, b.Tasks, b.Source.Tasks)
	require.Nil(t, d.Batch([]int{1}).Tasks)
	require.Equal(t, []int{1, 1}, d.Stats.Tasks)
	other := *d
	other.Examples = append([]Example(nil), d.Examples...)
	other.Examples[0].Task = 0
	require.NotEqual(t, d.Hash(), other.Hash(), "the hash knows the tasks")

	d, err = loadText(t, "a.jsonl", `{"text":"a","label":"x","task":"n"}`+"\n"+`{"text":"b","label":"y","task":"m"}`, Options{Task: model.SequenceClassification, Tasks: 2})
	require.NoError(t, err)
	require.Equal(t, []int32{1, 0}, d.Batch([]int{0, 1}).Tasks)
	one, two, err := d.Split(0.5, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"m", "n"}, one.TaskNames)
	require.Equal(t, one.TaskNames, two.TaskNames)
	require.Equal(t, 1, two.Stats.Tasks[0]+two.Stats.Tasks[1])

	text, err := WriteTasks(d.TaskNames)
	require.NoError(t, err)
	names, err := ReadTasks(text)
	require.NoError(t, err)
	require.Equal(t, d.TaskNames, names)
	for _, bad := range []string{"", `{}`, `{"tasks":["a","a"]}`, `{"tasks":[""]}`} {
		_, err := ReadTasks([]byte(bad))
		require.Error(t, err, bad)
	}
}
