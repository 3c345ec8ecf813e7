package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// pairs are the names of the columns of preference data: of the better answer and of
// the worse one.
var pairs = [][2]string{
	{"chosen", "rejected"}, {"preferred_output", "non_preferred_output"}, {"chosen_response", "rejected_response"}, {"accepted", "rejected"},
}

// refusePairs names preference data (those of DPO, ORPO and reward models) as such,
// unless the column map says which answers to learn.
func refusePairs(fields map[string]any, columns Columns, task model.Task) *LineError {
	if !task.Generates() {
		return nil
	}
	for _, p := range pairs {
		_, better := fields[p[0]]
		_, worse := fields[p[1]]
		if !better || !worse || columns.names(p[0]) {
			continue
		}
		return &LineError{Found: columnList(fields) + ": preference data, with a better and a worse answer to each prompt",
			Want: "answers to learn; to train on the better ones alone, map them (" + pairHint(fields, p[0], task) + ")", Err: ErrFields}
	}
	return nil
}

// pairHint is a column map that reads preference data.
func pairHint(fields map[string]any, better string, task model.Task) string {
	_, list := messagesIn(fields[better])
	_, prompts := messagesIn(fields["prompt"])
	_, prompt := fields["prompt"]
	question := "prompt"
	for _, name := range []string{"question", "instruction", "input", "query"} {
		if _, ok := fields[name].(string); ok && !prompt {
			question, prompt = name, true
		}
	}
	switch {
	case task == model.Seq2SeqLM:
		return "--map source=" + question + " --map target=" + better
	case list && !prompts:
		return "--map messages=" + better
	case prompt && question != "prompt":
		return "--map prompt=" + question + " --map completion=" + better
	case prompt:
		return "--map completion=" + better
	}
	return "--map text=" + better
}

// names reports whether the map reads a column.
func (c Columns) names(column string) bool {
	for _, from := range c {
		if from == column || strings.Contains(from, "{"+column+"}") {
			return true
		}
	}
	return false
}

// feedback are the columns of KTO that say whether an answer is a good one.
var feedback = []string{"label", "kto_tag"}

const feedbackFields = "label or kto_tag false"

// judge marks the records whose answer is a bad one. A column says so when all its
// values are true or false, in words or numbers, and nothing else reads it; of plain
// texts, which are no answers, it is a class.
func judge(records []Record, rows []row, columns Columns, used map[string]bool) {
	if len(records) == 0 || records[0].Kind == Text {
		return
	}
	for _, column := range feedback {
		if used[column] || columns.names(column) {
			continue
		}
		told := false
		if slices.ContainsFunc(rows, func(r row) bool {
			v, has := r.fields[column]
			_, ok := verdict(v)
			told = told || has
			return has && v != nil && !ok
		}) || !told {
			continue
		}
		used[column] = true
		for i := range records {
			if good, ok := verdict(rows[i].fields[column]); ok && !good {
				records[i].Rejected = true
			}
		}
	}
}

// verdict reads true or false.
func verdict(v any) (good, ok bool) {
	switch strings.ToLower(strings.TrimSpace(fmt.Sprint(v))) {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	return false, false
}
