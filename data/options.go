package data

import "fmt"

// Tokenizer is what this package asks of a tokenizer; *tokenizer.Tokenizer has it.
type Tokenizer interface {
	Encode(text string, addSpecial bool) []int32
	Token(id int32) string
	BOS() (int32, bool)
	EOS() (int32, bool)
	EOGs() []int32
	ChatTemplate() string
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
	// ChatTemplate replaces the model's own template (Jinja source).
	ChatTemplate string
	// Chat renders a prompt and completion of plain strings as a question of the
	// user and an answer of the assistant.
	Chat bool
	// TrainOn is Answers when empty. It does not concern plain text.
	TrainOn TrainOn
	// Part is the file to take from a folder: train when empty, valid or test.
	Part string
}

func (o *Options) check() error {
	if o.Tokenizer == nil {
		return fmt.Errorf("data: Options.Tokenizer is not set")
	}
	if o.MaxSeqLen < 0 || o.MaxSeqLen == 1 {
		return fmt.Errorf("maximum sequence length %d: expected at least 2, or 0 for no limit", o.MaxSeqLen)
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
