package data

import "github.com/peftkit/peftkit/tokenizer/chat"

// Message is one turn of a chat.
type Message = chat.Message
