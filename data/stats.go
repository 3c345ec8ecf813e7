package data

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// Stats counts what became of the records of a data set.
type Stats struct {
	Kind     Kind
	Task     model.Task
	Records  int // read
	Examples int // kept
	Of       int // all examples, when Options.Limit left some out, else 0
	// Tokens of the kept examples, and those of them that carry a label.
	Tokens, Trained int64
	// Truncated examples were longer than the limit; they lost Cut tokens.
	Truncated int
	Cut       int64
	// Untrained records were left out because no token of them carries a label;
	// UntrainedByCut of these because the cut removed the answer.
	Untrained, UntrainedByCut int
	// NoEnd counts examples that were not cut and yet train no token that ends a
	// generation: a model trained on them does not learn to stop.
	NoEnd int
	// Merged counts examples in which one token spans the border between a
	// prompt and its answer; that token is trained. Spaced are those of them whose
	// prompt ends in a space.
	Merged, Spaced int
	// Rejected records were left out: they are examples of bad answers.
	Rejected int
	// Apart counts records that became several examples, since the chat template does
	// not show every answer after the history that the model sees when it gives it.
	Apart int
	// Unsaid counts records with a text of the assistant that the chat template leaves out.
	Unsaid int
	// AsChat says that prompts and completions are rendered as chats, since the records
	// have system messages, histories or tools.
	AsChat bool
	// Duplicates counts examples whose tokens are those of an earlier one.
	Duplicates int
	// Longest is the longest example before the cut; P95 is the length that 95 %
	// of the kept examples do not exceed.
	Longest, P95 int
	// Labels are the names of the classes, Classes how many of the labels are of
	// each, and Several counts examples with several labels.
	Labels  []string
	Classes []int
	Several int
	// Tasks counts the examples of each task that the method tells apart; TaskNames are
	// their names if they have any. Taskless says that the records do not name theirs.
	Tasks     []int
	TaskNames []string
	Taskless  bool
	// Split counts texts that were too long and were split into Windows examples.
	Split, Windows int
	// Empty counts examples with an answer that says nothing.
	Empty int
	// Files says what was decided about the files, one fact each.
	Files []string
	// Unused lists columns of the file that were not looked at, and fields of messages
	// that change nothing (messages[].id).
	Unused []string

	tasks int // length of Tasks
}

func (s *Stats) finish(examples []Example) {
	s.Examples, s.Duplicates, s.P95 = len(examples), 0, 0
	s.Tokens, s.Trained = 0, 0
	s.Classes, s.Several = make([]int, len(s.Labels)), 0
	s.Tasks = make([]int, s.tasks)
	lengths := make([]int, 0, len(examples))
	seen := make(map[uint64][]int, len(examples))
	var h maphash.Hash
	for i := range examples {
		t := examples[i].Tokens
		if src := examples[i].Source; src != nil {
			t = slices.Concat(src, []int32{Ignore}, t)
			s.Tokens--
		}
		s.Tokens += int64(len(t))
		s.countClasses(&examples[i])
		if n := int(examples[i].Task); n < len(s.Tasks) {
			s.Tasks[n]++
		}
		s.Trained += int64(examples[i].Trained())
		n := max(len(examples[i].Tokens), len(examples[i].Source))
		s.Longest = max(s.Longest, n)
		lengths = append(lengths, n)
		h.Reset()
		for _, id := range t {
			maphash.WriteComparable(&h, id)
		}
		key := h.Sum64()
		if slices.ContainsFunc(seen[key], func(j int) bool {
			return slices.Equal(examples[i].Tokens, examples[j].Tokens) && slices.Equal(examples[i].Source, examples[j].Source)
		}) {
			s.Duplicates++
			continue
		}
		seen[key] = append(seen[key], i)
	}
	if slices.Sort(lengths); len(lengths) > 0 {
		s.P95 = lengths[(len(lengths)*95+99)/100-1]
	}
}

// countClasses counts the labels of an example.
func (s *Stats) countClasses(ex *Example) {
	if s.Task != model.SequenceClassification && s.Task != model.TokenClassification {
		return
	}
	for _, l := range ex.Labels {
		if l >= 0 && int(l) < len(s.Classes) {
			s.Classes[l]++
		}
	}
	n := 0
	for i, v := range ex.Targets {
		if v == 1 && i < len(s.Classes) {
			s.Classes[i]++
			n++
		}
	}
	if n > 1 {
		s.Several++
	}
}

// all is the number of examples that the records made, kept or not.
func (s *Stats) all() int { return s.Records - s.Split + s.Windows }

func (s *Stats) whyEmpty() string {
	switch s.Task {
	case model.SequenceClassification, model.TokenClassification:
		return fmt.Sprintf("none of %d examples has a token", s.Records)
	case model.Seq2SeqLM:
		return fmt.Sprintf("none of %d examples has both a source and a target", s.Records)
	}
	if s.UntrainedByCut > 0 {
		return fmt.Sprintf("%d of %d examples lose their answer at the maximum sequence length; the longest has %d tokens: raise --max-seq-len", s.UntrainedByCut, s.Records, s.Longest)
	}
	return fmt.Sprintf("none of %d examples has a token that carries a label: chats need a message of the assistant, texts at least two tokens", s.Records)
}

// Notes says in one line each what the user should know about the data.
func (s *Stats) Notes() []string {
	out := slices.Clone(s.Files)
	if s.Split > 0 {
		out = append(out, fmt.Sprintf("%s longer than the maximum sequence length: split into %d examples, nothing is cut", count(s.Split, "text"), s.Windows))
	}
	note := func(n int, format string, args ...any) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d of %d ", n, s.all())+fmt.Sprintf(format, args...))
		}
	}
	note(s.Truncated, "examples were cut and lost %d tokens; the longest has %d (--max-seq-len)", s.Cut, s.Longest)
	switch s.Task {
	case model.SequenceClassification, model.TokenClassification, model.Seq2SeqLM:
		note(s.Untrained, "examples were left out: they are empty")
	default:
		note(s.Untrained, "examples were left out: no token of them is trained")
	}
	note(s.Empty, "examples have an empty answer: they teach the model to say nothing")
	note(s.NoEnd, "examples train no end-of-sequence token: the model will not learn to stop")
	note(s.Spaced, "examples have a token that spans the end of the prompt: do not end prompts with a space")
	note(s.Merged-s.Spaced, "examples have a token that spans the end of the prompt and the beginning of the answer; it is trained")
	note(s.Rejected, "records are examples of bad answers (%s) and were left out", feedbackFields)
	note(s.Apart, "records became several examples: the chat template shows earlier answers in another way than the model writes them")
	note(s.Unsaid, "records have a text of the assistant that the chat template leaves out")
	if s.AsChat {
		out = append(out, "prompts and completions are rendered as chats: the records have system messages, histories or tools")
	}
	if s.Taskless {
		out = append(out, fmt.Sprintf("the records name no task: all are of the first of %d (column task)", s.tasks))
	}
	note(s.Duplicates, "examples are duplicates")
	if len(s.Unused) > 0 {
		out = append(out, "not used: "+strings.Join(s.Unused, ", "))
	}
	return out
}
