package data

// Message is one turn of a chat.
type Message struct{ Role, Content string }

// Template renders chats; *chat.Template has it.
type Template interface {
	// Spans renders messages and returns the byte ranges of the assistant's
	// answers, each with what ends the turn.
	Spans(msgs []Message) (text string, answers [][2]int, err error)
}

func newTemplate(source, bos, eos string) (Template, error) { return nil, nil }
