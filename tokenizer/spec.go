package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// spec is a tokenizer.json: what Hugging Face's tokenizers library saves.
type spec struct {
	Added         []addedJSON     `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         modelJSON       `json:"model"`

	// longest makes Precompiled normalize as SentencePiece does, where the
	// tokenizers library does not quite. Never in a tokenizer.json.
	longest bool
}

type addedJSON struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

func (a *addedJSON) token() *AddedToken {
	return &AddedToken{
		ID: a.ID, Content: a.Content, Special: a.Special, Normalized: a.Normalized,
		LStrip: a.LStrip, RStrip: a.RStrip, SingleWord: a.SingleWord,
	}
}

type modelJSON struct {
	Type         string          `json:"type"`
	Dropout      *float64        `json:"dropout"`
	Unk          *string         `json:"unk_token"`
	Prefix       *string         `json:"continuing_subword_prefix"`
	Suffix       *string         `json:"end_of_word_suffix"`
	FuseUnk      bool            `json:"fuse_unk"`
	ByteFallback bool            `json:"byte_fallback"`
	IgnoreMerges bool            `json:"ignore_merges"`
	MaxChars     *int            `json:"max_input_chars_per_word"`
	UnkID        *int            `json:"unk_id"`
	Vocab        json.RawMessage `json:"vocab"`
	Merges       json.RawMessage `json:"merges"`

	vocab  map[string]int32
	merges [][2]string
	pieces []scoredWord // of Unigram, by id
	// scores makes the model a SentencePiece BPE: every pair that joins to a
	// token merges, the higher score first. Never in a tokenizer.json.
	scores []float32
}

// component is any normalizer, pre-tokenizer, post-processor or decoder.
type component struct {
	Type string `json:"type"`

	longest bool // see spec

	Normalizers   []component `json:"normalizers"`
	Pretokenizers []component `json:"pretokenizers"`
	Processors    []component `json:"processors"`
	Decoders      []component `json:"decoders"`

	Pattern struct {
		String *string `json:"String"`
		Regex  *string `json:"Regex"`
	} `json:"pattern"`
	CleanText        *bool           `json:"clean_text"`
	HandleChinese    *bool           `json:"handle_chinese_chars"`
	StripAccents     *bool           `json:"strip_accents"`
	Lowercase        *bool           `json:"lowercase"`
	Cleanup          *bool           `json:"cleanup"`
	Charsmap         *string         `json:"precompiled_charsmap"`
	Content          string          `json:"content"`
	Prefix           *string         `json:"prefix"`
	Prepend          string          `json:"prepend"`
	Behavior         string          `json:"behavior"`
	Invert           bool            `json:"invert"`
	AddPrefixSpace   *bool           `json:"add_prefix_space"`
	UseRegex         *bool           `json:"use_regex"`
	IndividualDigits bool            `json:"individual_digits"`
	Replacement      string          `json:"replacement"`
	PrependScheme    string          `json:"prepend_scheme"`
	Split            *bool           `json:"split"`
	StripLeft        *bool           `json:"strip_left"`
	StripRight       *bool           `json:"strip_right"`
	Start            int             `json:"start"`
	Stop             int             `json:"stop"`
	Sep              json.RawMessage `json:"sep"`
	Cls              json.RawMessage `json:"cls"`
	Single           []piece         `json:"single"`
	Pair             []piece         `json:"pair"`
	SpecialTokens    map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

type piece struct {
	SpecialToken *pieceID `json:"SpecialToken"`
	Sequence     *pieceID `json:"Sequence"`
}

type pieceID struct {
	ID   string `json:"id"`
	Type int32  `json:"type_id"`
}

// maxParts bounds the commas of a component: one that stands for two bytes in the
// file, of the list of a Sequence, takes several hundred in memory.
const maxParts = 1 << 14

func isNull(b json.RawMessage) bool {
	return len(b) == 0 || string(bytes.TrimSpace(b)) == "null"
}

// parse reads a component, nil for null.
func parse(what string, b json.RawMessage) (*component, error) {
	if isNull(b) {
		return nil, nil
	}
	if n := bytes.Count(b, []byte(",")); n > maxParts {
		return nil, fmt.Errorf("%s: %d commas, more than any tokenizer has", what, n)
	}
	c := new(component)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return c, nil
}

func parseSpec(b []byte) (*spec, error) {
	s := new(spec)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, err
	}
	m := &s.Model
	if m.Type == "" { // files of before 2020 do not say
		switch v := bytes.TrimSpace(m.Vocab); {
		case len(v) > 0 && v[0] == '[':
			m.Type = "Unigram"
		case !isNull(m.Merges):
			m.Type = "BPE"
		default:
			m.Type = "WordPiece"
		}
	}
	var err error
	switch m.Type {
	case "BPE", "WordPiece":
		err = json.Unmarshal(m.Vocab, &m.vocab)
	case "Unigram":
		if err = json.Unmarshal(m.Vocab, &m.pieces); err == nil {
			err = m.setPieces()
		}
	default:
		return nil, s.unsupportedModel()
	}
	if err != nil {
		return nil, fmt.Errorf("model.vocab: %w", err)
	}
	if m.merges, err = parseMerges(m.Merges); err != nil {
		return nil, fmt.Errorf("model.merges: %w", err)
	}
	m.Vocab, m.Merges = nil, nil
	return s, nil
}

// setPieces fills vocab from the list of a Unigram model.
func (m *modelJSON) setPieces() error {
	m.vocab = make(map[string]int32, len(m.pieces))
	for i, p := range m.pieces {
		if old, ok := m.vocab[p.text]; ok {
			return fmt.Errorf("%q stands at %d and %d", p.text, old, i)
		}
		m.vocab[p.text] = int32(i)
	}
	return nil
}

// unsupportedModel names every component of a tokenizer with another model.
func (s *spec) unsupportedModel() error {
	name := func(what string, b json.RawMessage) string {
		c, err := parse(what, b)
		if err != nil || c == nil {
			return what + " none"
		}
		return what + " " + c.Type
	}
	return &UnsupportedError{
		Component: "model",
		Found: fmt.Sprintf("%s (%s, %s, %s, %s)", s.Model.Type, name("normalizer", s.Normalizer),
			name("pre_tokenizer", s.PreTokenizer), name("post_processor", s.PostProcessor), name("decoder", s.Decoder)),
		Supported: []string{"BPE", "WordPiece", "Unigram"},
	}
}

// parseMerges reads both forms: "a b" and, since 2024, ["a","b"].
func parseMerges(b json.RawMessage) ([][2]string, error) {
	if isNull(b) {
		return nil, nil
	}
	var pairs [][]string
	if json.Unmarshal(b, &pairs) == nil {
		out := make([][2]string, len(pairs))
		for i, p := range pairs {
			if len(p) != 2 {
				return nil, fmt.Errorf("entry %d has %d parts, want 2", i, len(p))
			}
			out[i] = [2]string{p[0], p[1]}
		}
		return out, nil
	}
	var lines []string
	if err := json.Unmarshal(b, &lines); err != nil {
		return nil, err
	}
	out := make([][2]string, len(lines))
	for i, l := range lines {
		a, b, ok := strings.Cut(l, " ")
		if !ok || a == "" || b == "" || strings.Contains(b, " ") {
			return nil, fmt.Errorf("entry %d is %q, want two tokens and one space", i, l)
		}
		out[i] = [2]string{a, b}
	}
	return out, nil
}
