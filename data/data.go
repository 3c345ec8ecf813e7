// Package data reads what people fine-tune on and turns it into token sequences
// with labels.
//
// A data set is a .jsonl, .json, .csv, .tsv, .parquet or .txt file, compressed by
// gzip or zstd or not, or a folder with parts train, valid and test of these types. What a record holds is detected
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
// A task that is not causal language modelling ([Options.Task]) has records of
// its own, whose fields go by several names:
//
//	text, label          a text and its class; with text_pair, two texts (premise, hypothesis)
//	text, labels         a text and all classes that fit it, or the numbers of a regression
//	tokens, tags         words and the class of each (ner_tags)
//	source, target       what an encoder reads and a decoder writes (prompt and
//	                     completion, input and output, document and summary)
//
// For methods that tell tasks apart ([Options.Tasks]) a record of any kind may say
// which task it is of: task (or task_id), a number or a name.
//
// Inputs are framed as the model's tokenizer frames them; a text that is too long
// loses its end, a pair the end of the longer text, as in transformers.
//
// Nothing is dropped in silence: a record that cannot be read is an error with
// file and line, and [Stats] counts what was cut, left out or ignored.
package data

import "github.com/peftkit/peftkit/tokenizer/chat/jinja"

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

	// Those of other tasks.
	TextLabel Kind = "text/label"
	Tagged    Kind = "tokens/tags"
	Pairs     Kind = "source/target"
)

// Record is one record of a data set before tokenization.
type Record struct {
	File string
	Line int // 1-based line where the record begins
	Kind Kind
	// Messages of a chat; for prompt/completion in messages, both lists.
	Messages []Message
	// Weights say how much each message counts in the loss, from 0, not trained, to 1;
	// nil for 1. Only those of answers matter, unless everything is trained.
	Weights []float32
	// Context is the number of leading messages whose answers are not trained.
	Context int
	// Tools, Documents and Kwargs go to the chat template beside the messages, as in
	// transformers' apply_chat_template; nil for none.
	Tools, Documents *jinja.List
	Kwargs           *jinja.Dict
	// Chat says that a prompt and completion, or an exercise, is rendered by the chat
	// template since records of the file have what only a chat holds: a system
	// message, turns before it, tools.
	Chat bool
	// Rejected says that the record is an example of a bad answer (KTO's label).
	Rejected bool
	// Prompt and Completion of plain strings.
	Prompt, Completion string
	Text               string
	// Windows says that a text that is too long is split into windows, and not cut.
	Windows bool
	// Instruction, Input, Output and System of an exercise.
	Instruction, Input, Output, System string
	// Pair is the second text of a labelled record, HasPair says that there is one.
	Pair    string
	HasPair bool
	// Classes of a labelled record as the file writes them, numbers in decimal;
	// Many says that they stood in a list.
	Classes []string
	Many    bool
	// Words and Tags of a tagged record.
	Words, Tags []string
	// Source and Target of a pair.
	Source, Target string
	// Task is the record's task as the file writes it, for methods that tell tasks
	// apart; "" for none.
	Task string

	history int      // of the messages, those of the history column
	columns []string // that each message stood in
	unread  []string // fields without a meaning
}

// Example is one token sequence.
type Example struct {
	Tokens []int32
	// Labels holds what is trained. For a language model it holds for each token the
	// token itself where the model is trained to write it, Ignore elsewhere;
	// Labels[0] is Ignore: nothing precedes it. For token classification it holds
	// the class of each token or Ignore, for sequence classification one class.
	Labels []int32
	// Weights say how much the label of each token counts in the loss; nil for 1.
	Weights []float32
	// TrainFirst says that the first token would be trained if something preceded
	// it, as the rows of a soft prompt do.
	TrainFirst bool
	// Types are the token types, nil when all are 0.
	Types []int32
	// Targets are those of multi-label classification (0 or 1) and regression.
	Targets []float32
	// Source is what the encoder reads; Tokens are then the decoder's, with its
	// start token before the target.
	Source []int32
	// Task is the number of the example's task (model.Batch.Tasks).
	Task int32
	// File and Line say where the record begins; More that the next example is of the
	// same record: a chat whose answers are each given after another history than the
	// one that the whole chat shows.
	File string
	Line int
	More bool
}

// Trained returns the number of labels that the example carries.
func (e *Example) Trained() int {
	n := len(e.Targets)
	for _, l := range e.Labels {
		if l != Ignore {
			n++
		}
	}
	return n
}
