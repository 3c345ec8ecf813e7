package cli

import (
	"fmt"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
)

// tokenizerOf takes the tokenizer beside an adapter that gave the model another
// vocabulary: its texts have tokens that the model's own does not know.
func (a *app) tokenizerOf(l *loaded, path string) error {
	if l.VocabSize == l.vocab {
		return nil
	}
	was := l.vocab
	l.vocab = l.VocabSize
	ad, err := peft.Read(path)
	if err != nil {
		return err
	}
	defer ad.Close()
	files := map[string][]byte{}
	for name, b := range ad.Files {
		if name != "README.md" {
			files[name] = b
		}
	}
	if !tokenizer.Known(files) {
		if n := l.tok.Size(); n > l.VocabSize {
			return withCode(exitFormat, fmt.Errorf("%s: it was trained with %d tokens, the model's tokenizer has %d, and no tokenizer.json lies beside the adapter: copy the one that it was trained with there: %w", path, l.VocabSize, n, model.ErrMismatch))
		}
		a.warn("%s: it was trained with %d tokens instead of %d, and no tokenizer.json lies beside it: texts are read with the model's own tokenizer, which does not know new tokens", path, l.VocabSize, was)
		return nil
	}
	tok, err := tokenizer.FromModel(&formats.Model{Path: path, Naming: formats.HF, Config: l.Checkpoint.Config, Files: files})
	if err != nil {
		return withCode(exitFormat, err)
	}
	if n := tok.Size(); n > l.VocabSize {
		return withCode(exitFormat, fmt.Errorf("%s: the tokenizer beside the adapter has %d tokens, the adapter was trained with %d: %w", path, n, l.VocabSize, model.ErrMismatch))
	}
	for _, w := range tok.Warnings() {
		a.warn("tokenizer: %s", w)
	}
	l.tok, l.tokenizerFiles = tok, files
	return nil
}
