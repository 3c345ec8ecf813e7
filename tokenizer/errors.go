package tokenizer

import (
	"fmt"
	"strings"
)

// UnsupportedError says that a tokenizer has a part that this package cannot
// do exactly. Nothing is guessed: a tokenizer with such a part is not opened.
type UnsupportedError struct {
	Component string   // "model", "normalizer", "pre_tokenizer", "tokenizer.ggml.pre" ...
	Found     string   // what the file asks for
	Supported []string // what there is instead
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("tokenizer: unsupported %s %s (supported: %s)", e.Component, e.Found, strings.Join(e.Supported, ", "))
}
