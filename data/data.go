// Package data reads what people fine-tune on and turns it into token sequences
// with labels.
//
// A data set is a .jsonl, .json, .csv or .tsv file, or a folder with
// train.*, valid.* and test.* of these types. What a record holds is detected
// from its fields:
//
//	messages             a chat: [{"role": "user", "content": "..."}, ...]
//	conversations        the same as ShareGPT writes it: [{"from": "human", "value": "..."}, ...]
//	prompt, completion   two strings (or two lists of messages)
//	instruction, output  an exercise, with an optional input and system (Alpaca)
//	text                 plain text
//
// Chats are rendered by the model's own chat template and trained on the
// assistant's answers, the token that ends the turn included. Two plain strings
// are laid end to end as they are, without a template, as TRL does; the loss is
// on the completion and the end-of-sequence token that is appended to it
// ([Options.Chat] renders them as a chat instead). An instruction becomes a chat
// when the model has a chat template. Plain text is trained on every token and
// the end-of-sequence token.
//
// Nothing is dropped in silence: a record that cannot be read is an error with
// file and line, and [Stats] counts what was cut, left out or ignored.
package data

// Ignore is the label of a token that is not trained.
const Ignore int32 = -100

// Kind says what the records of a data set are.
type Kind string

// The kinds of records, by the fields that mark them.
const (
	Chat        Kind = "messages"
	ShareGPT    Kind = "conversations"
	Completion  Kind = "prompt/completion"
	Instruction Kind = "instruction/output"
	Text        Kind = "text"
)

// Record is one record of a data set before tokenization.
type Record struct {
	File string
	Line int // 1-based line where the record begins
	Kind Kind
	// Messages of a chat; for prompt/completion in messages, both lists.
	Messages []Message
	// Context is the number of leading messages whose answers are not trained.
	Context int
	// Prompt and Completion of plain strings.
	Prompt, Completion string
	Text               string
	// Instruction, Input, Output and System of an exercise.
	Instruction, Input, Output, System string
}

// Example is one token sequence.
type Example struct {
	Tokens []int32
	// Labels holds for each token the token itself where the model is trained to
	// write it, Ignore elsewhere. Labels[0] is never trained: nothing precedes it.
	Labels []int32
	File   string
	Line   int
}

// Trained returns the number of tokens that carry a label.
func (e *Example) Trained() int {
	n := 0
	for _, l := range e.Labels {
		if l != Ignore {
			n++
		}
	}
	return n
}
