package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// bertConfig is the part of tokenizer_config.json that BERT's normalizer takes.
type bertConfig struct {
	LowerCase *bool `json:"do_lower_case"`
	Chinese   *bool `json:"tokenize_chinese_chars"`
	Accents   *bool `json:"strip_accents"`
}

// bertTokens are the special tokens of BERT, the unknown token first.
var bertTokens = []string{"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}

// fromVocab reads a vocab.txt, one WordPiece a line, with the settings of
// tokenizer_config.json: what transformers makes of a BERT folder without
// tokenizer.json.
func fromVocab(files map[string][]byte) (*Tokenizer, error) {
	var cfg tokenizerConfig
	var bert bertConfig
	if err := readJSON(files, "tokenizer_config.json", &cfg); err != nil {
		return nil, err
	}
	if err := readJSON(files, "tokenizer_config.json", &bert); err != nil {
		return nil, err
	}
	s, err := vocabSpec(string(files["vocab.txt"]), &cfg, &bert)
	if err != nil {
		return nil, fmt.Errorf("vocab.txt: %w", err)
	}
	t, err := build(s)
	if err != nil {
		return nil, fmt.Errorf("vocab.txt: %w", err)
	}
	t.files = files
	return t, t.configure(files, &cfg)
}

func vocabSpec(text string, cfg *tokenizerConfig, bert *bertConfig) (*spec, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("no UTF-8")
	}
	vocab := map[string]int32{}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		line = strings.TrimRight(line, "\r")
		if old, ok := vocab[line]; ok {
			return nil, fmt.Errorf("%q stands in lines %d and %d", line, old+1, i+1)
		}
		vocab[line] = int32(i)
	}
	names := make([]string, len(bertTokens))
	for i, b := range []json.RawMessage{cfg.UNK, cfg.Sep, cfg.PAD, cfg.CLS, cfg.Mask} {
		if names[i] = content(b); names[i] == "" {
			names[i] = bertTokens[i]
		}
	}
	return bertSpec(vocab, names, orTrue(bert.LowerCase), orTrue(bert.Chinese), bert.Accents)
}

// bertSpec describes a BERT tokenizer in the terms of tokenizer.json. names are
// its tokens in the order of bertTokens.
func bertSpec(vocab map[string]int32, names []string, lower, chinese bool, accents *bool) (*spec, error) {
	sp := noSpecial()
	s := &spec{Model: modelJSON{Type: "WordPiece", Unk: &names[0], vocab: vocab}}
	for i, id := range []*int32{&sp.unk, &sp.sep, &sp.pad, &sp.cls, &sp.mask} {
		at, ok := vocab[names[i]]
		if !ok {
			if i != 2 && i != 4 { // no text needs padding and mask
				return nil, fmt.Errorf("%q is not in the vocabulary", names[i])
			}
			continue
		}
		*id = at
		s.Added = append(s.Added, addedJSON{ID: at, Content: names[i], Special: true})
	}
	s.Normalizer = json.RawMessage(fmt.Sprintf(`{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":%v,"strip_accents":%s,"lowercase":%v}`,
		chinese, mustJSON(accents), lower))
	s.PreTokenizer = json.RawMessage(`{"type":"BertPreTokenizer"}`)
	s.Decoder = json.RawMessage(`{"type":"WordPiece","prefix":"##","cleanup":true}`)
	s.PostProcessor = bertTemplate(names[3], sp.cls, names[1], sp.sep)
	return s, nil
}

// bertTemplate writes the post-processor [CLS] A [SEP] and [CLS] A [SEP] B [SEP].
func bertTemplate(cls string, clsID int32, sep string, sepID int32) json.RawMessage {
	c, e := mustJSON(cls), mustJSON(sep)
	tok := func(name string, kind int) string {
		return fmt.Sprintf(`{"SpecialToken":{"id":%s,"type_id":%d}}`, name, kind)
	}
	single := tok(c, 0) + `,{"Sequence":{"id":"A","type_id":0}},` + tok(e, 0)
	return json.RawMessage(`{"type":"TemplateProcessing","single":[` + single + `],"pair":[` + single + `,{"Sequence":{"id":"B","type_id":1}},` + tok(e, 1) +
		fmt.Sprintf(`],"special_tokens":{%s:{"id":%s,"ids":[%d],"tokens":[%s]},%s:{"id":%s,"ids":[%d],"tokens":[%s]}}}`, c, c, clsID, c, e, e, sepID, e))
}
