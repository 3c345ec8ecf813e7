package data

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/model"
)

// Tokenizer is what this package asks of a tokenizer; *tokenizer.Tokenizer has it.
type Tokenizer interface {
	Encode(text string, addSpecial bool) []int32
	Token(id int32) string
	BOS() (int32, bool)
	EOS() (int32, bool)
	EOGs() []int32
	ChatTemplate() string
}

// Framer is what tasks other than causal language modelling ask of a tokenizer
// beyond [Tokenizer]; *tokenizer.Tokenizer has it.
type Framer interface {
	// FrameSingle and FramePair put the model's special tokens around one or two
	// texts and say the token type of each.
	FrameSingle(a []int32) (ids, types []int32)
	FramePair(a, b []int32) (ids, types []int32)
	// Specials returns how many tokens they add.
	Specials() (single, pair int)
	// EncodeTarget returns the tokens that a decoder writes for a text.
	EncodeTarget(text string) []int32
}

// TrainOn says which tokens carry a label.
type TrainOn string

// What to train on.
const (
	Answers    TrainOn = "assistant" // the default: all answers, or the completion
	LastAnswer TrainOn = "last"      // the last answer of a chat only
	Everything TrainOn = "all"       // every token, prompts too
)

// Options says how to read a data set.
type Options struct {
	Tokenizer Tokenizer
	// MaxSeqLen cuts longer examples; 0 leaves them whole.
	MaxSeqLen int
	// Columns maps fields to columns; nil takes the fields' own names.
	Columns Columns
	// Names are the columns of a .csv or .tsv file without a header line.
	Names []string
	// SplitText says what becomes of a .txt file; "" is ByFile.
	SplitText SplitText
	// Limit keeps the first examples; 0 keeps all. Stats.Of is then the number of all,
	// and the rest of Stats counts those records that were kept.
	Limit int
	// ChatTemplate replaces the model's own template (Jinja source).
	ChatTemplate string
	// Chat renders a prompt and completion of plain strings as a question of the
	// user and an answer of the assistant.
	Chat bool
	// TrainOn is Answers when empty. It does not concern plain text.
	TrainOn TrainOn
	// Part is the file to take from a folder: train when empty, valid or test.
	Part string

	// Task says what the records are for; "" is model.CausalLM.
	Task model.Task
	// Labels are the names of the classes; nil collects those of the records, in
	// ascending order.
	Labels []string
	// Problem of sequence classification; "" is what the labels look like.
	Problem model.Problem
	// Start is the token that a decoder begins with (model.Model.Start).
	Start int32
	// Tasks is the number of tasks that the method tells apart (model.Model.Tasks);
	// with 0 the tasks of records are not looked at.
	Tasks int
	// TaskNames are the names of the tasks in the order of their numbers; nil collects
	// those of the records in ascending order, unless they are numbers themselves.
	TaskNames []string
	// TaskID, when not nil, is the task of all records, whatever they say: a number or
	// one of TaskNames.
	TaskID *string
	// MaxTargetLen cuts what a decoder writes; 0 is MaxSeqLen.
	MaxTargetLen int
}

func (o *Options) check() error {
	if o.Tokenizer == nil {
		return fmt.Errorf("data: Options.Tokenizer is not set")
	}
	if o.MaxSeqLen < 0 || o.MaxSeqLen == 1 {
		return fmt.Errorf("maximum sequence length %d: expected at least 2, or 0 for no limit", o.MaxSeqLen)
	}
	if o.MaxTargetLen < 0 || o.MaxTargetLen == 1 {
		return fmt.Errorf("maximum target length %d: expected at least 2, or 0 for that of the source", o.MaxTargetLen)
	}
	switch o.Task {
	case "":
		o.Task = model.CausalLM
	case model.CausalLM:
	case model.SequenceClassification, model.TokenClassification, model.Seq2SeqLM:
		if _, ok := o.Tokenizer.(Framer); !ok {
			return fmt.Errorf("data: task %s: the tokenizer cannot frame texts", o.Task)
		}
	default:
		return fmt.Errorf("data: no records are known for task %s", o.Task)
	}
	switch o.Problem {
	case "", model.SingleLabel, model.MultiLabel, model.Regression:
	default:
		return fmt.Errorf("problem %q: expected %s, %s or %s", o.Problem, model.SingleLabel, model.MultiLabel, model.Regression)
	}
	switch o.SplitText {
	case "", ByFile, ByParagraph, ByLine:
	default:
		return fmt.Errorf("split texts by %q: expected %s, %s or %s", o.SplitText, ByFile, ByParagraph, ByLine)
	}
	for i, l := range o.Labels {
		if l == "" || slices.Contains(o.Labels[:i], l) {
			return fmt.Errorf("labels: %q is empty or given twice", l)
		}
	}
	switch o.TrainOn {
	case "":
		o.TrainOn = Answers
	case Answers, LastAnswer, Everything:
	default:
		return fmt.Errorf("train on %q: expected %s, %s or %s", o.TrainOn, Answers, LastAnswer, Everything)
	}
	return nil
}
