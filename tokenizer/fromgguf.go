package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// Values of tokenizer.ggml.token_type.
const (
	typeNormal      = 1
	typeUnknown     = 2
	typeControl     = 3
	typeUserDefined = 4
	typeUnused      = 5
	typeByte        = 6
)

const ggml = "tokenizer.ggml."

// FromGGUF reads the tokenizer.ggml.* entries of a GGUF file. It gives the ids
// of llama.cpp with special tokens parsed; of model bert those of BERT itself,
// from which llama.cpp departs for rare texts.
func FromGGUF(meta formats.Meta) (*Tokenizer, error) {
	t, err := fromGGUF(meta)
	if err != nil {
		return nil, fmt.Errorf("GGUF metadata: %w", err)
	}
	return t, nil
}

func fromGGUF(meta formats.Meta) (*Tokenizer, error) {
	tokens, ok := meta.Get(ggml + "tokens").([]string)
	if !ok || len(tokens) == 0 {
		return nil, fmt.Errorf("tokenizer.ggml.tokens is missing or no list of strings")
	}
	types, err := types(meta, len(tokens))
	if err != nil {
		return nil, err
	}
	s := &spec{Model: modelJSON{Type: "BPE", vocab: make(map[string]int32, len(tokens))}}
	text := make([]string, len(tokens))
	bert := meta.Str(ggml+"model") == "bert"
	for i, tok := range tokens {
		if tok == "" {
			tok = fmt.Sprintf("[EMPTY_%d]", i) // as llama.cpp names it
		}
		if bert {
			tok = fromPhantom(tok, types[i])
		}
		if old, ok := s.Model.vocab[tok]; ok {
			return nil, fmt.Errorf("tokenizer.ggml.tokens: %q stands at %d and %d", tok, old, i)
		}
		text[i] = tok
		s.Model.vocab[tok] = int32(i)
		if types[i] == typeControl || types[i] == typeUserDefined || types[i] == typeUnknown {
			s.Added = append(s.Added, addedJSON{ID: int32(i), Content: tok, Special: types[i] != typeUserDefined})
		}
	}
	var pre *preType
	preName := meta.Str(ggml + "pre")
	missing := false
	addBOS, addEOS, prefix := false, false, false
	switch model := meta.Str(ggml + "model"); model {
	case "gpt2":
		if missing = preName == ""; missing {
			preName = "default"
		}
		if pre = findPre(preName); pre == nil {
			return nil, &UnsupportedError{"tokenizer.ggml.pre", fmt.Sprintf("%q", preName), preNames()}
		}
		addBOS = pre.addBOS
		if err := byteLevelSpec(s, meta, pre); err != nil {
			return nil, err
		}
	case "llama":
		addBOS, prefix = true, true
		if v, ok := meta.Get(ggml + "add_space_prefix").(bool); ok {
			prefix = v
		}
		if err := spmSpec(s, meta, text, prefix); err != nil {
			return nil, err
		}
		if meta.Str("general.architecture") == "phi3" {
			stripPhi3(s)
		}
	case "t5":
		addEOS = true
		if err := unigramGGUF(s, meta, text, types); err != nil {
			return nil, err
		}
	case "bert":
	default:
		return nil, &UnsupportedError{"tokenizer.ggml.model", fmt.Sprintf("%q", model),
			[]string{`"gpt2" (byte-level BPE)`, `"llama" (SentencePiece BPE)`, `"t5" (Unigram)`, `"bert" (WordPiece)`}}
	}
	sp := noSpecial()
	for key, id := range map[string]*int32{
		"bos": &sp.bos, "eos": &sp.eos, "unknown": &sp.unk, "seperator": &sp.sep, "padding": &sp.pad,
		"cls": &sp.cls, "mask": &sp.mask, "eot": &sp.eot, "eom": &sp.eom,
	} {
		key = ggml + key + "_token_id"
		v, ok := meta.Int(key)
		switch {
		case !ok && meta.Get(key) != nil:
			return nil, fmt.Errorf("%s is a %T, want an integer", key, meta.Get(key))
		case ok && (v < 0 || v >= int64(len(tokens))):
			return nil, fmt.Errorf("%s is %d, outside the vocabulary of %d", key, v, len(tokens))
		case ok:
			*id = int32(v)
		}
	}
	if v, ok := meta.Get(ggml + "add_bos_token").(bool); ok {
		addBOS = v
	}
	if v, ok := meta.Get(ggml + "add_eos_token").(bool); ok {
		addEOS = v
	}
	if s.Model.scores != nil { // llama.cpp's defaults for this model
		for id, at := range map[*int32]int32{&sp.unk: 0, &sp.bos: 1, &sp.eos: 2} {
			if *id < 0 && int(at) < len(tokens) {
				*id = at
			}
		}
		s.Model.Unk = &text[sp.unk]
	}
	if s.Model.pieces != nil {
		for id, at := range map[*int32]int32{&sp.pad: 0, &sp.eos: 1, &sp.unk: 2} {
			if *id < 0 && int(at) < len(tokens) {
				*id = at
			}
		}
		unk := int(sp.unk)
		s.Model.UnkID = &unk
	}
	if !bert && addBOS && sp.bos < 0 {
		return nil, fmt.Errorf("the tokenizer adds a BOS but tokenizer.ggml.bos_token_id is missing")
	}
	if !bert && addEOS && sp.eos < 0 {
		return nil, fmt.Errorf("the tokenizer adds an EOS but tokenizer.ggml.eos_token_id is missing")
	}
	if bert {
		if err := bertGGUF(s, meta, &sp, text); err != nil {
			return nil, err
		}
	} else {
		s.PostProcessor = template(addBOS, addEOS, sp, text, s.Model.Type)
	}
	t, err := build(s)
	if err != nil {
		return nil, err
	}
	t.meta, t.special = meta, sp
	t.template = meta.Str("tokenizer.chat_template")
	t.namedInGGUF(meta)
	t.setEOGs()
	if missing {
		t.warnf("tokenizer.ggml.pre is missing: the old default pre-tokenizer is used, which is wrong for most models; convert the model again")
	}
	return t, nil
}

// types reads tokenizer.ggml.token_type; without it all tokens are normal.
func types(meta formats.Meta, n int) ([]int32, error) {
	switch v := meta.Get(ggml + "token_type").(type) {
	case nil:
		out := make([]int32, n)
		for i := range out {
			out[i] = typeNormal
		}
		return out, nil
	case []int32:
		if len(v) != n {
			return nil, fmt.Errorf("tokenizer.ggml.token_type has %d entries for %d tokens", len(v), n)
		}
		return v, nil
	default:
		return nil, fmt.Errorf("tokenizer.ggml.token_type is a %T, want a list of int32", v)
	}
}

const byteLevelDecoder = `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`

func byteLevelSpec(s *spec, meta formats.Meta, pre *preType) error {
	lines, ok := meta.Get(ggml + "merges").([]string)
	if !ok {
		return fmt.Errorf("tokenizer.ggml.merges is missing or no list of strings")
	}
	s.Model.merges = make([][2]string, len(lines))
	for i, l := range lines {
		// The first part is never empty, so the space is not the first byte.
		k := -1
		if len(l) > 1 {
			k = strings.IndexByte(l[1:], ' ')
		}
		if k < 0 || k+2 == len(l) {
			return fmt.Errorf("tokenizer.ggml.merges: entry %d is %q, want two tokens and one space", i, l)
		}
		s.Model.merges[i] = [2]string{l[:k+1], l[k+2:]}
	}
	if pre.normalizer != "" {
		s.Normalizer = json.RawMessage(pre.normalizer)
	}
	s.PreTokenizer = pre.preTokenizer()
	s.Decoder = json.RawMessage(byteLevelDecoder)
	s.Model.IgnoreMerges = pre.ignoreMerges
	return nil
}

// spmSpec describes a SentencePiece BPE in the terms of tokenizer.json: the
// normalizer and decoder of Llama 2.
func spmSpec(s *spec, meta formats.Meta, text []string, prefix bool) error {
	switch v := meta.Get(ggml + "scores").(type) {
	case []float32:
		if len(v) != len(text) {
			return fmt.Errorf("tokenizer.ggml.scores has %d entries for %d tokens", len(v), len(text))
		}
		s.Model.scores = v
	default:
		return fmt.Errorf("tokenizer.ggml.scores is %T, want a list of float32", v)
	}
	for i, f := range s.Model.scores {
		if f != f {
			return fmt.Errorf("tokenizer.ggml.scores: the score of token %d is not a number", i)
		}
	}
	s.Normalizer = spmNormalizer(prefix)
	s.Decoder = spmDecoder(prefix)
	s.Model.FuseUnk, s.Model.ByteFallback = true, true
	return nil
}

func spmNormalizer(prefix bool) json.RawMessage {
	replace := `{"type":"Replace","pattern":{"String":" "},"content":"▁"}`
	if !prefix {
		return json.RawMessage(replace)
	}
	return json.RawMessage(`{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},` + replace + `]}`)
}

func spmDecoder(prefix bool) json.RawMessage {
	strip := ""
	if prefix {
		strip = `,{"type":"Strip","content":" ","start":1,"stop":0}`
	}
	return json.RawMessage(`{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"}` + strip + `]}`)
}

// stripPhi3 makes the special tokens of Phi-3 swallow the white space after
// them, as its tokenizer.json says and llama.cpp does by the model's name.
func stripPhi3(s *spec) {
	for i := range s.Added {
		switch a := &s.Added[i]; a.Content {
		case "<unk>", "<s>", "<|endoftext|>":
		default:
			a.RStrip = true
		}
	}
}

// template writes the post-processor that adds BOS and EOS. The second text of a
// pair has type 1, but 0 in Unigram models (T5), which have no types.
func template(addBOS, addEOS bool, sp specialIDs, text []string, model string) json.RawMessage {
	if !addBOS && !addEOS {
		return nil
	}
	var single, pair, special []string
	seq := func(id string, typ int) string { return fmt.Sprintf(`{"Sequence":{"id":%q,"type_id":%d}}`, id, typ) }
	tok := func(id int32, typ int) string {
		return fmt.Sprintf(`{"SpecialToken":{"id":%s,"type_id":%d}}`, mustJSON(text[id]), typ)
	}
	entry := func(id int32) string {
		name := mustJSON(text[id])
		return fmt.Sprintf(`%s:{"id":%s,"ids":[%d],"tokens":[%s]}`, name, name, id, name)
	}
	if addBOS {
		single = append(single, tok(sp.bos, 0))
		special = append(special, entry(sp.bos))
	}
	single = append(single, seq("A", 0))
	if addEOS {
		single = append(single, tok(sp.eos, 0))
		if !addBOS || sp.eos != sp.bos {
			special = append(special, entry(sp.eos))
		}
	}
	second := 1
	if model == "Unigram" {
		second = 0
	}
	pair = append(pair, single...)
	if addBOS {
		pair = append(pair, tok(sp.bos, second))
	}
	pair = append(pair, seq("B", second))
	if addEOS {
		pair = append(pair, tok(sp.eos, second))
	}
	return json.RawMessage(`{"type":"TemplateProcessing","single":[` + strings.Join(single, ",") +
		`],"pair":[` + strings.Join(pair, ",") + `],"special_tokens":{` + strings.Join(special, ",") + `}}`)
}
