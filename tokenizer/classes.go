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
	var set func(raw *json.RawMessage, kind string, values map[string]*bool) error
	set = func(raw *json.RawMessage, kind string, values map[string]*bool) error {
		var c map[string]json.RawMessage
		if isNull(*raw) || json.Unmarshal(*raw, &c) != nil {
			return nil
		}
		if parts := c["pretokenizers"]; string(c["type"]) == `"Sequence"` && parts != nil {
			var list []json.RawMessage
			if err := json.Unmarshal(parts, &list); err != nil {
				return nil // reading the sequence says why
			}
			for i := range list {
				if err := set(&list[i], kind, values); err != nil {
					return err
				}
			}
			if c["pretokenizers"], err = json.Marshal(list); err != nil {
				return err
			}
			*raw, err = json.Marshal(c)
			return err
		}
		if string(c["type"]) != `"`+kind+`"` {
			return nil
		}
		was := len(changes)
		for key, v := range values {
			if v == nil || string(c[key]) == fmt.Sprint(*v) {
				continue
			}
			changes = append(changes, fmt.Sprintf("tokenizer_config.json sets %s of %s to %v; tokenizer.json has %s", key, kind, *v, orNone(c[key])))
			c[key] = json.RawMessage(fmt.Sprint(*v))
		}
		if len(changes) == was {
			return nil
		}
		slices.Sort(changes)
		*raw, err = json.Marshal(c)
		return err
	}
	switch {
	case is("bert", "distilbert"):
		err = set(&s.Normalizer, "BertNormalizer", map[string]*bool{
			"lowercase": cfg.LowerCase, "strip_accents": cfg.StripAccents, "handle_chinese_chars": cfg.Chinese,
		})
	case is("roberta", "bart", "gpt2", "longformer", "led"):
		err = set(&s.PreTokenizer, "ByteLevel", map[string]*bool{"add_prefix_space": cfg.AddPrefixSpace})
	}
	return changes, err
}

func orNone(b json.RawMessage) string {
	if b == nil {
		return "none"
	}
	return string(b)
}
