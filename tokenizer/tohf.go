package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/peftkit/peftkit/formats"
)

// HF returns the side files of a Hugging Face folder: tokenizer.json,
// tokenizer_config.json, special_tokens_map.json and, when there is a chat
// template, chat_template.jinja, with further ones in additional_chat_templates.
// transformers' AutoTokenizer opens them and gives
// the ids of this tokenizer.
//
// A tokenizer that came from such files gives back their bytes.
func (t *Tokenizer) HF() (map[string][]byte, error) {
	if t.files != nil {
		out := map[string][]byte{}
		for _, n := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "tokenizer.model"} {
			if b := t.files[n]; b != nil {
				out[n] = b
			}
		}
		for n, b := range t.files {
			if _, ok := formats.TemplateName(n); ok {
				out[n] = b
			}
		}
		return out, nil
	}
	s := *t.spec
	// Tokens that only fill up the embedding rows are none.
	s.Model.vocab = maps.Clone(s.Model.vocab)
	types, _ := t.meta.Get(ggml + "token_type").([]int32)
	for i, k := range types {
		if k == typeUnused && t.tokens[i] == padName(i) {
			if s.Model.pieces == nil { // a Unigram list has no gaps
				delete(s.Model.vocab, t.tokens[i])
			}
		}
	}
	if s.Model.scores != nil {
		s.Model.merges = scoreMerges(&s.Model)
	}
	tj, err := s.marshal()
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	cfg := map[string]any{
		"clean_up_tokenization_spaces": false,
		"tokenizer_class":              "PreTrainedTokenizerFast",
	}
	if s.Model.Type == "BPE" { // of the others the post-processor says all
		cfg["add_bos_token"], cfg["add_eos_token"] = len(t.prefix) > 0, len(t.suffix) > 0
	}
	decoder := map[string]any{}
	object := func(a *AddedToken) map[string]any {
		return map[string]any{"content": a.Content, "lstrip": a.LStrip, "normalized": a.Normalized, "rstrip": a.RStrip, "single_word": a.SingleWord}
	}
	for id, a := range t.added {
		o := object(a)
		o["special"] = a.Special
		decoder[fmt.Sprint(id)] = o
	}
	cfg["added_tokens_decoder"] = decoder
	special := map[string]any{}
	for _, r := range []struct {
		name string
		id   int32
	}{
		{"bos_token", t.special.bos}, {"eos_token", t.special.eos}, {"unk_token", t.special.unk}, {"sep_token", t.special.sep},
		{"pad_token", t.special.pad}, {"cls_token", t.special.cls}, {"mask_token", t.special.mask},
	} {
		if r.id < 0 {
			continue
		}
		cfg[r.name] = t.tokens[r.id]
		if a := t.added[r.id]; a != nil {
			special[r.name] = object(a)
		} else {
			special[r.name] = t.tokens[r.id]
		}
	}
	if n, ok := t.meta.Int(t.meta.Str("general.architecture") + ".context_length"); ok && n > 0 {
		cfg["model_max_length"] = n
	}
	out := map[string][]byte{"tokenizer.json": tj}
	for name, v := range map[string]any{"tokenizer_config.json": cfg, "special_tokens_map.json": special} {
		if out[name], err = indented(v); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if t.template != "" {
		out["chat_template.jinja"] = []byte(t.template)
	}
	for _, e := range t.named {
		out[formats.TemplateFolder+"/"+e.Name+".jinja"] = []byte(e.Template)
	}
	return out, nil
}

// indented writes JSON as transformers does: keys sorted, two spaces, characters
// as they are, a line break at the end.
func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
