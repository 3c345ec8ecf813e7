package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// classConfig is the part of tokenizer_config.json with which transformers'
// classes for BERT and for byte-level models overrule the tokenizer.json.
type classConfig struct {
	Class          string `json:"tokenizer_class"`
	LowerCase      *bool  `json:"do_lower_case"`
	StripAccents   *bool  `json:"strip_accents"`
	Chinese        *bool  `json:"tokenize_chinese_chars"`
	AddPrefixSpace *bool  `json:"add_prefix_space"`
}

// overrule changes a tokenizer.json as transformers' classes do whose settings
// tokenizer_config.json names, and returns what it changed.
func overrule(s *spec, files map[string][]byte) (changes []string, err error) {
	var cfg classConfig
	var model struct {
		Type string `json:"model_type"`
	}
	if err := readJSON(files, "tokenizer_config.json", &cfg); err != nil {
		return nil, err
	}
	if err := readJSON(files, "config.json", &model); err != nil {
		return nil, err
	}
	is := func(names ...string) bool {
		name := strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(cfg.Class, "Fast"), "Tokenizer"))
		if cfg.Class == "" {
			name = model.Type
		}
		return slices.Contains(names, name)
	}
	switch {
	case is("bert", "distilbert"):
		return setKeys(&s.Normalizer, "BertNormalizer", map[string]*bool{
			"lowercase": cfg.LowerCase, "strip_accents": cfg.StripAccents, "handle_chinese_chars": cfg.Chinese,
		})
	case is("roberta", "bart", "gpt2", "longformer", "led"):
		return setKeys(&s.PreTokenizer, "ByteLevel", map[string]*bool{"add_prefix_space": cfg.AddPrefixSpace})
	}
	return nil, nil
}

// setKeys sets keys of a part of a tokenizer.json that is of a kind, or of those
// of a sequence that are, and says what it changed. A nil value stays as it is.
func setKeys(raw *json.RawMessage, kind string, values map[string]*bool) (changes []string, err error) {
	var c map[string]json.RawMessage
	if isNull(*raw) || json.Unmarshal(*raw, &c) != nil {
		return nil, nil // whoever reads the part says why
	}
	var parts []json.RawMessage
	switch string(c["type"]) {
	case `"` + kind + `"`:
		for key, v := range values {
			if v != nil && string(c[key]) != fmt.Sprint(*v) {
				changes = append(changes, fmt.Sprintf("tokenizer_config.json sets %s of %s to %v; tokenizer.json has %s", key, kind, *v, orNone(c[key])))
				c[key] = json.RawMessage(fmt.Sprint(*v))
			}
		}
	case `"Sequence"`:
		if json.Unmarshal(c["pretokenizers"], &parts) != nil {
			return nil, nil
		}
		for i := range parts {
			more, err := setKeys(&parts[i], kind, values)
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
		}
		if c["pretokenizers"], err = json.Marshal(parts); err != nil {
			return nil, err
		}
	}
	if len(changes) > 0 {
		slices.Sort(changes)
		*raw, err = json.Marshal(c)
	}
	return changes, err
}

func orNone(b json.RawMessage) string {
	if b == nil {
		return "none"
	}
	return string(b)
}
