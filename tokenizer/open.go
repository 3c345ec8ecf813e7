package tokenizer

import (
	"fmt"
	"maps"

	"github.com/peftkit/peftkit/formats"
)

// FromModel reads the tokenizer of an opened model: from the side files of a
// Hugging Face folder, from the metadata of a GGUF file.
func FromModel(m *formats.Model) (*Tokenizer, error) {
	files := m.Files
	if len(m.Config) > 0 && files["config.json"] == nil {
		if files = maps.Clone(files); files == nil {
			files = map[string][]byte{}
		}
		files["config.json"] = m.Config
	}
	var t *Tokenizer
	var err error
	if m.Meta != nil && files["tokenizer.json"] == nil {
		t, err = FromGGUF(m.Meta)
	} else {
		t, err = FromFiles(files)
	}
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	return t, nil
}

// Known reports whether FromFiles finds a tokenizer among the side files of a
// Hugging Face folder, config.json among them.
func Known(files map[string][]byte) bool { return source(files) != nil }

// source returns what reads the files, nil when no tokenizer is among them.
func source(files map[string][]byte) func(map[string][]byte) (*Tokenizer, error) {
	switch {
	case files["tokenizer.json"] != nil:
		return fromJSON
	case hasCharacters(files["config.json"]):
		return fromCharacters
	case files["vocab.txt"] != nil:
		return fromVocab
	}
	return nil
}

// FromFiles reads the tokenizer of a Hugging Face folder from its side files by
// name, as transformers' fast tokenizers do: tokenizer.json or, without one,
// BERT's vocab.txt, or the lists of characters in config.json; and of
// tokenizer_config.json, special_tokens_map.json, chat_template.jinja,
// generation_config.json and config.json those that are there.
func FromFiles(files map[string][]byte) (*Tokenizer, error) {
	if read := source(files); read != nil {
		return read(files)
	}
	for _, name := range []string{"source.spm", "target.spm", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json"} {
		if files[name] != nil {
			return nil, fmt.Errorf("tokenizer: %s without tokenizer.json: save the tokenizer once with transformers, "+
				"AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR), to have its tokenizer.json", name)
		}
	}
	return nil, fmt.Errorf("tokenizer: tokenizer.json is missing")
}
