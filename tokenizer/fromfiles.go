package tokenizer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
)

// fromJSON reads a tokenizer.json and what the other files add to it.
func fromJSON(files map[string][]byte) (*Tokenizer, error) {
	s, err := parseSpec(files["tokenizer.json"])
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	var cfg tokenizerConfig
	if err := readJSON(files, "tokenizer_config.json", &cfg); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	ids := map[int32]bool{}
	for i := range s.Added {
		known[s.Added[i].Content] = true
		ids[s.Added[i].ID] = true
	}
	// Tokens that only the configuration names are added as transformers does.
	var keys []int
	for k := range cfg.AddedTokens {
		id, err := strconv.ParseInt(k, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: added_tokens_decoder: id %q: %w", k, err)
		}
		keys = append(keys, int(id))
	}
	sort.Ints(keys)
	for _, id := range keys {
		a := cfg.AddedTokens[strconv.Itoa(id)]
		if !known[a.Content] && !ids[int32(id)] && a.Content != "" {
			a.ID = int32(id)
			s.Added = append(s.Added, a)
		}
	}
	changes, err := overrule(s, files)
	if err != nil {
		return nil, err
	}
	t, err := build(s)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	t.files = files
	for _, c := range changes {
		t.warnf("%s: the former counts, as in transformers", c)
	}
	return t, t.configure(files, &cfg)
}

// tokenizerConfig is the part of tokenizer_config.json that bears on ids.
type tokenizerConfig struct {
	AddedTokens    map[string]addedJSON `json:"added_tokens_decoder"`
	BOS            json.RawMessage      `json:"bos_token"`
	EOS            json.RawMessage      `json:"eos_token"`
	UNK            json.RawMessage      `json:"unk_token"`
	Sep            json.RawMessage      `json:"sep_token"`
	PAD            json.RawMessage      `json:"pad_token"`
	CLS            json.RawMessage      `json:"cls_token"`
	Mask           json.RawMessage      `json:"mask_token"`
	AddBOS         *bool                `json:"add_bos_token"`
	AddEOS         *bool                `json:"add_eos_token"`
	AddPrefixSpace *bool                `json:"add_prefix_space"`
	ChatTemplate   json.RawMessage      `json:"chat_template"`
	Additional     json.RawMessage      `json:"additional_special_tokens"`
	Extra          json.RawMessage      `json:"extra_special_tokens"`
	SplitSpecial   bool                 `json:"split_special_tokens"`
}

// idsConfig is the part of config.json and generation_config.json.
type idsConfig struct {
	Architectures []string        `json:"architectures"`
	VocabSize     int             `json:"vocab_size"`
	BOS           json.RawMessage `json:"bos_token_id"`
	EOS           json.RawMessage `json:"eos_token_id"`
	PAD           json.RawMessage `json:"pad_token_id"`
	Sep           json.RawMessage `json:"sep_token_id"`
	UNK           json.RawMessage `json:"unk_token_id"`
	CLS           json.RawMessage `json:"cls_token_id"`
	Mask          json.RawMessage `json:"mask_token_id"`
}

func readJSON(files map[string][]byte, name string, v any) error {
	b := files[name]
	if b == nil {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// content reads a token written as a string or as an object.
func content(b json.RawMessage) string {
	var s string
	if json.Unmarshal(b, &s) == nil {
		return s
	}
	var a addedJSON
	_ = json.Unmarshal(b, &a) // anything else names no token
	return a.Content
}

// contents reads tokens written as a list, or as an object of names.
func contents(b json.RawMessage) (out []string) {
	var list []json.RawMessage
	var named map[string]json.RawMessage
	if json.Unmarshal(b, &list) != nil && json.Unmarshal(b, &named) == nil {
		list = slices.Collect(maps.Values(named))
	}
	for _, e := range list {
		if text := content(e); text != "" {
			out = append(out, text)
		}
	}
	return out
}

// idList reads an id or a list of ids.
func idList(b json.RawMessage) []int32 {
	var one int32
	if !isNull(b) && json.Unmarshal(b, &one) == nil {
		return []int32{one}
	}
	var many []int32
	_ = json.Unmarshal(b, &many) // null, or no ids
	return many
}

// pairID reads ["<s>", 0].
func (t *Tokenizer) pairID(b json.RawMessage) (int32, bool) {
	var pair []json.RawMessage
	if json.Unmarshal(b, &pair) != nil || len(pair) != 2 {
		return 0, false
	}
	var id int32
	if json.Unmarshal(pair[1], &id) != nil {
		return 0, false
	}
	return id, t.has(id)
}

// configure sets the roles of tokens, what is added around a text and the chat
// template.
func (t *Tokenizer) configure(files map[string][]byte, cfg *tokenizerConfig) error {
	var names tokenizerConfig // special_tokens_map.json uses the same keys
	if err := readJSON(files, "special_tokens_map.json", &names); err != nil {
		return err
	}
	var model, gen idsConfig
	if err := readJSON(files, "config.json", &model); err != nil {
		return err
	}
	if err := readJSON(files, "generation_config.json", &gen); err != nil {
		return err
	}
	for _, r := range []struct {
		id          *int32
		name        string
		token, also json.RawMessage
		ids         json.RawMessage
	}{
		{&t.special.bos, "bos_token", cfg.BOS, names.BOS, model.BOS},
		{&t.special.eos, "eos_token", cfg.EOS, names.EOS, model.EOS},
		{&t.special.unk, "unk_token", cfg.UNK, names.UNK, model.UNK},
		{&t.special.sep, "sep_token", cfg.Sep, names.Sep, model.Sep},
		{&t.special.pad, "pad_token", cfg.PAD, names.PAD, model.PAD},
		{&t.special.cls, "cls_token", cfg.CLS, names.CLS, model.CLS},
		{&t.special.mask, "mask_token", cfg.Mask, names.Mask, model.Mask},
	} {
		text := content(r.token)
		if text == "" {
			text = content(r.also)
		}
		if id, ok := t.ids[text]; ok && text != "" {
			*r.id = id
			continue
		}
		if text != "" {
			t.warnf("%s %q is not in the vocabulary and is left out", r.name, text)
		}
		if ids := idList(r.ids); len(ids) > 0 && t.has(ids[0]) {
			*r.id = ids[0]
		}
	}
	others := append(contents(cfg.Additional), contents(cfg.Extra)...)
	slices.Sort(others)
	for _, text := range slices.Compact(others) {
		if _, ok := t.ids[text]; !ok {
			t.warnf("special token %q is not in the vocabulary and is left out", text)
		}
	}
	if cfg.SplitSpecial {
		t.warnf("tokenizer_config.json sets split_special_tokens; special tokens in a text are tokens here")
	}
	if files["tokenizer_config.json"] == nil { // the post-processor tells BOS and EOS
		if t.special.bos < 0 && len(t.prefix) == 1 && t.tokens[t.prefix[0]] != "[CLS]" {
			t.special.bos = t.prefix[0]
		}
		if t.special.eos < 0 && len(t.suffix) == 1 && t.tokens[t.suffix[0]] != "[SEP]" {
			t.special.eos = t.suffix[0]
		}
	}
	if t.special.unk < 0 {
		t.special.unk = t.model.unknown()
	}
	t.usualRoles()
	// Flags in the configuration replace the post-processor, as in transformers.
	if cfg.AddBOS != nil || cfg.AddEOS != nil {
		t.prefix, t.suffix = nil, nil
		if cfg.AddBOS != nil && *cfg.AddBOS && t.special.bos >= 0 {
			t.prefix = []int32{t.special.bos}
		}
		if cfg.AddEOS != nil && *cfg.AddEOS && t.special.eos >= 0 {
			t.suffix = []int32{t.special.eos}
		}
		t.frames = around(t.prefix, t.suffix)
	}
	t.setEOGs(append(idList(gen.EOS), idList(model.EOS)...)...)
	t.readTemplates(files, cfg.ChatTemplate)
	return nil
}
