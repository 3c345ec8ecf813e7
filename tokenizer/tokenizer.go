// Package tokenizer turns text into the token ids of a model and back: byte-level
// BPE (GPT-2, RoBERTa, BART, Llama 3, Qwen, SmolLM), SentencePiece-style BPE
// (Llama 2, TinyLlama, Phi-3), WordPiece (BERT, DistilBERT, MiniLM), Unigram (T5,
// mBART, Marian) and single characters (Misaki's pronunciation models), read from
// Hugging Face's tokenizer.json, vocab.txt or config.json or from the metadata of
// a GGUF file, and written as tokenizer.json or GGUF.
//
// A tokenizer.json gives the ids of Hugging Face's tokenizers library, a GGUF
// file those of llama.cpp. What the package cannot do exactly it refuses with an
// UnsupportedError instead of coming close.
//
// Encode serves single texts, EncodePair pairs of them with token types, Target
// the other side of an encoder-decoder model.
//
// A Tokenizer does not change after it was made: all its methods may be called
// from several goroutines at once.
package tokenizer

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/formats"
)

// Tokenizer encodes and decodes text for one model.
type Tokenizer struct {
	spec   *spec
	tokens []string // by id, as the vocabulary writes them; "" where there is none
	ids    map[string]int32
	added  map[int32]*AddedToken

	raw, normalized *matcher // added tokens found before and after normalisation
	normalize       func(string) string
	starts          func(string) bool // see newStarts
	steps           []step
	model           subwords
	byteLevel       bool // the model works on bytes
	scratches       scratches
	decoder         decoder
	frames          frames
	prefix, suffix  []int32    // what frames.single adds
	target          *Tokenizer // of the texts that the model writes; nil for the same

	special  specialIDs
	eogs     []int32
	template string
	named    []namedTemplate // templates beside it, by name
	warnings []string

	files map[string][]byte // the source, when it was Hugging Face files
	meta  formats.Meta      // the source, when it was a GGUF file
}

// specialIDs holds ids of tokens with a role, -1 where there is none.
type specialIDs struct{ bos, eos, unk, sep, pad, cls, mask, eot, eom int32 }

func noSpecial() specialIDs { return specialIDs{-1, -1, -1, -1, -1, -1, -1, -1, -1} }

// maxGap bounds the ids of a vocabulary by its size, so that one absurd id does
// not make a huge table.
const maxGap = 1 << 16

// build makes everything but the special roles from a parsed tokenizer.json.
func build(s *spec) (*Tokenizer, error) {
	t := &Tokenizer{spec: s, special: noSpecial(), added: map[int32]*AddedToken{}}
	size := 0
	limit := 2*(len(s.Model.vocab)+len(s.Added)) + maxGap
	place := func(text string, id int32) error {
		if id < 0 || int(id) >= limit {
			return fmt.Errorf("token %q has id %d, out of proportion to a vocabulary of %d", text, id, len(s.Model.vocab))
		}
		size = max(size, int(id)+1)
		return nil
	}
	for text, id := range s.Model.vocab {
		if err := place(text, id); err != nil {
			return nil, err
		}
	}
	for i := range s.Added {
		a := &s.Added[i]
		if id, ok := s.Model.vocab[a.Content]; ok {
			a.ID = id // as the tokenizers library does
		}
		if err := place(a.Content, a.ID); err != nil {
			return nil, err
		}
	}
	t.tokens = make([]string, size)
	t.ids = make(map[string]int32, len(s.Model.vocab)+len(s.Added))
	for text, id := range s.Model.vocab {
		if t.tokens[id] != "" {
			return nil, fmt.Errorf("tokens %q and %q have the same id %d", min(text, t.tokens[id]), max(text, t.tokens[id]), id)
		}
		t.tokens[id] = text
		t.ids[text] = id
	}
	var raw, normalized []*AddedToken
	for i := range s.Added {
		a := s.Added[i].token()
		if old := t.tokens[a.ID]; old != "" && old != a.Content {
			return nil, fmt.Errorf("added token %q has the id %d of %q", a.Content, a.ID, old)
		}
		t.tokens[a.ID] = a.Content
		t.ids[a.Content] = a.ID
		t.added[a.ID] = a
		if a.Normalized {
			normalized = append(normalized, a)
		} else {
			raw = append(raw, a)
		}
	}

	c, err := parse("normalizer", s.Normalizer)
	if err != nil {
		return nil, err
	}
	for _, p := range flattenNormalizers(c) {
		p.longest = s.longest
	}
	if t.normalize, err = newNormalizer(c); err != nil {
		return nil, err
	}
	t.raw = newMatcher(raw, func(s string) string { return s })
	t.normalized = newMatcher(normalized, func(s string) string {
		if t.normalize != nil {
			s = t.normalize(s)
		}
		return s
	})
	if c, err = parse("pre_tokenizer", s.PreTokenizer); err != nil {
		return nil, err
	}
	n, err := parse("normalizer", s.Normalizer)
	if err != nil {
		return nil, err
	}
	if t.starts, err = newStarts(n, c); err != nil {
		return nil, err
	}
	if t.steps, t.byteLevel, err = newPreTokenizer(c); err != nil {
		return nil, err
	}
	if t.model, err = newModel(&s.Model, t.byteLevel, size); err != nil {
		return nil, err
	}
	if c, err = parse("post_processor", s.PostProcessor); err != nil {
		return nil, err
	}
	if t.frames, err = t.newFrames(c); err != nil {
		return nil, err
	}
	t.prefix, t.suffix = t.frames.single.sides()
	if c, err = parse("decoder", s.Decoder); err != nil {
		return nil, err
	}
	if t.decoder, err = newDecoder(c, t.tokens); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tokenizer) has(id int32) bool {
	return id >= 0 && int(id) < len(t.tokens) && (t.tokens[id] != "" || t.added[id] != nil)
}

// Encode returns the ids of text. Added tokens such as <|im_start|> are
// recognised wherever they stand in the text. With addSpecial the tokens that the
// model wants around a text, such as a BOS, are added.
//
// A byte-level vocabulary that lacks some bytes (SmolLM's has no token for a few
// control characters) drops them, as the tokenizers library does.
func (t *Tokenizer) Encode(text string, addSpecial bool) []int32 {
	s := t.scratches.get()
	s.out = s.out[:0]
	if addSpecial {
		s.out = append(s.out, t.prefix...)
	}
	last := func(w string, _ bool) { t.model.words(w, s) }
	chain := last
	for i := len(t.steps) - 1; i >= 0; i-- {
		st, next := t.steps[i], chain
		chain = func(w string, start bool) { st(w, start, next) }
	}
	token := func(a *AddedToken) { s.out = append(s.out, a.ID) }
	begins := false
	t.raw.split(text, func(part string, at int) {
		begins = at == 0 && (t.starts == nil || t.starts(part))
		if t.normalize != nil {
			part = t.normalize(part)
		}
		t.normalized.split(part, func(part string, at int) { chain(part, begins && at == 0) }, token)
	}, token)
	if addSpecial {
		s.out = append(s.out, t.suffix...)
	}
	out := slices.Clone(s.out)
	if out == nil {
		out = []int32{}
	}
	t.scratches.put(s)
	return out
}

// Size returns the number of ids: one more than the highest.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// Token returns a token as the vocabulary writes it, "" when there is none of
// this id.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

// ID returns the id of a token as the vocabulary writes it.
func (t *Tokenizer) ID(token string) (int32, bool) { id, ok := t.ids[token]; return id, ok }

// IsSpecial reports whether Decode leaves a token out.
func (t *Tokenizer) IsSpecial(id int32) bool { a := t.added[id]; return a != nil && a.Special }

// Warnings lists what is odd about the source but could be read.
func (t *Tokenizer) Warnings() []string { return slices.Clone(t.warnings) }

func (t *Tokenizer) warnf(format string, args ...any) {
	t.warnings = append(t.warnings, fmt.Sprintf(format, args...))
}

// endNames are the tokens that end a turn or a generation in the chat formats of
// the models llama.cpp knows, whatever the metadata says.
var endNames = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>",
	"<|eom_id|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "<end_of_utterance>",
}

// setEOGs collects the ends of generation from the special roles, extra and
// the known names.
func (t *Tokenizer) setEOGs(extra ...int32) {
	set := map[int32]bool{}
	for _, id := range append(extra, t.special.eos, t.special.eot, t.special.eom) {
		if t.has(id) {
			set[id] = true
		}
	}
	for _, name := range endNames {
		if id, ok := t.ids[name]; ok && t.added[id] != nil {
			set[id] = true
		}
	}
	t.eogs = t.eogs[:0]
	for id := range set {
		t.eogs = append(t.eogs, id)
	}
	slices.Sort(t.eogs)
}
