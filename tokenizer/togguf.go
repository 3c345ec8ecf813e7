package tokenizer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// GGUF returns the tokenizer.* entries of a GGUF file in the order in which
// convert_hf_to_gguf.py writes them. vocabSize is the number of embedding rows:
// ids up to it that are no token become unused ones named [PADid]; 0 adds none.
// A tokenizer that came from a GGUF file gives back its own entries.
//
// A SentencePiece-style tokenizer needs scores. They are those of tokenizer.model
// when it is among the files; otherwise they are derived from the merges, which
// gives other numbers but the same ids.
func (t *Tokenizer) GGUF(vocabSize int) ([]formats.KV, error) {
	if vocabSize != 0 && vocabSize < len(t.tokens) {
		return nil, fmt.Errorf("tokenizer: %d tokens do not fit %d embedding rows", len(t.tokens), vocabSize)
	}
	vocabSize = max(vocabSize, len(t.tokens))
	if t.target != nil {
		return nil, fmt.Errorf("tokenizer: a vocabulary of its own for the target has no place in GGUF")
	}
	if t.meta != nil {
		return t.ownEntries(vocabSize), nil
	}
	var cfg tokenizerConfig
	var model idsConfig
	if err := readJSON(t.files, "tokenizer_config.json", &cfg); err != nil {
		return nil, err
	}
	if err := readJSON(t.files, "config.json", &model); err != nil {
		return nil, err
	}
	var kv formats.Meta
	isLlama := len(model.Architectures) == 0
	for _, a := range model.Architectures {
		isLlama = isLlama || slices.Contains([]string{"LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "LlamaModel"}, a)
	}
	if isLlama && cfg.AddPrefixSpace != nil {
		kv.Set(ggml+"add_space_prefix", *cfg.AddPrefixSpace)
	}
	var err error
	switch {
	case t.spec.Model.Type == "WordPiece":
		err = t.bertEntries(&kv, vocabSize)
	case t.spec.Model.Type == "Unigram":
		err = t.unigramEntries(&kv, vocabSize)
	case t.byteLevel:
		err = t.byteLevelEntries(&kv, vocabSize)
	default:
		err = t.spmEntries(&kv, vocabSize, &cfg)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range []struct {
		key string
		id  int32
	}{
		{"bos", t.special.bos}, {"eos", t.special.eos}, {"unknown", t.special.unk}, {"seperator", t.special.sep},
		{"padding", t.special.pad}, {"cls", t.special.cls}, {"mask", t.special.mask}, {"eot", t.special.eot}, {"eom", t.special.eom},
	} {
		if e.id >= 0 {
			kv.Set(ggml+e.key+"_token_id", uint32(e.id))
		}
	}
	if err := t.addFlags(&kv, &cfg); err != nil {
		return nil, err
	}
	t.templateEntries(&kv)
	// Upstream's rule for the small Granite and SmolLM models.
	if isLlama && (model.VocabSize == 49152 || model.VocabSize == 0 && vocabSize == 49152) {
		kv.Set(ggml+"add_bos_token", false)
	}
	return kv, nil
}

func padName(id int) string { return fmt.Sprintf("[PAD%d]", id) }

// ownEntries returns the entries of the GGUF file, lengthened to size.
func (t *Tokenizer) ownEntries(size int) []formats.KV {
	var out []formats.KV
	for _, e := range t.meta {
		if !strings.HasPrefix(e.Key, "tokenizer.") {
			continue
		}
		switch v := e.Value.(type) {
		case []string:
			if e.Key == ggml+"tokens" && len(v) < size {
				v = slices.Clone(v)
				for i := len(v); i < size; i++ {
					v = append(v, padName(i))
				}
				e.Value = v
			}
		case []float32:
			if e.Key == ggml+"scores" && len(v) < size {
				v = slices.Clone(v)
				for len(v) < size {
					v = append(v, -10000)
				}
				e.Value = v
			}
		case []int32:
			if e.Key == ggml+"token_type" && len(v) < size {
				v = slices.Clone(v)
				for len(v) < size {
					v = append(v, typeUnused)
				}
				e.Value = v
			}
		}
		out = append(out, e)
	}
	return out
}

// looksSpecial is upstream's guess for added tokens that the file does not call
// special.
func looksSpecial(s string) bool {
	return s == "<pad>" || s == "<mask>" || s == "<2mass>" || s == "[@BOS@]" ||
		strings.HasPrefix(s, "<|") && strings.HasSuffix(s, "|>") ||
		strings.HasPrefix(s, "<｜") && strings.HasSuffix(s, "｜>") ||
		strings.HasPrefix(s, "<unused") && strings.HasSuffix(s, ">")
}

// addedEntry returns how GGUF writes an added token.
func addedEntry(a *AddedToken) (text string, kind int32) {
	if a.Special || looksSpecial(a.Content) {
		return a.Content, typeControl
	}
	return strings.ReplaceAll(a.Content, mark, " "), typeUserDefined
}

// entries lists the tokens and their types as GGUF has them, size of them: what has
// no token is named and unused.
func (t *Tokenizer) entries(size int) (tokens []string, kinds []int32) {
	tokens, kinds = make([]string, size), make([]int32, size)
	for id := range tokens {
		switch a := t.added[int32(id)]; {
		case a != nil:
			tokens[id], kinds[id] = addedEntry(a)
		case id < len(t.tokens) && t.tokens[id] != "":
			tokens[id], kinds[id] = t.tokens[id], typeNormal
		default:
			tokens[id], kinds[id] = padName(id), typeUnused
		}
	}
	return tokens, kinds
}

func (t *Tokenizer) byteLevelEntries(kv *formats.Meta, size int) error {
	p, _, err := detectPre(t.spec, len(t.prefix) > 0)
	if err != nil {
		return err
	}
	pre := p.names[0]
	if c, err := parse("post_processor", t.spec.PostProcessor); err == nil && c != nil && c.Type == "RobertaProcessing" && pre == "gpt-2" {
		pre = "roberta-bpe"
	}
	tokens, kinds := t.entries(size)
	merges := make([]string, len(t.spec.Model.merges))
	for i, m := range t.spec.Model.merges {
		merges[i] = strings.ReplaceAll(m[0], " ", "Ġ") + " " + strings.ReplaceAll(m[1], " ", "Ġ")
	}
	kv.Set(ggml+"model", "gpt2")
	kv.Set(ggml+"pre", pre)
	kv.Set(ggml+"tokens", tokens)
	kv.Set(ggml+"token_type", kinds)
	kv.Set(ggml+"merges", merges)
	return nil
}

func (t *Tokenizer) spmEntries(kv *formats.Meta, size int, cfg *tokenizerConfig) error {
	prefix, err := t.spmPrefix()
	if err != nil {
		return err
	}
	var pieces []modelPiece
	if b := t.files["tokenizer.model"]; b != nil {
		if pieces, err = readModelFile(b); err != nil {
			return err
		}
		for id, p := range pieces {
			if id >= len(t.tokens) || p.text != t.tokens[id] && t.added[int32(id)] == nil {
				return fmt.Errorf("tokenizer: tokenizer.model and tokenizer.json differ: token %d is %q and %q", id, p.text, t.Token(int32(id)))
			}
		}
	}
	var derived []float32
	if pieces == nil {
		if derived, err = mergeScores(&t.spec.Model, len(t.tokens)); err != nil {
			return fmt.Errorf("tokenizer: tokenizer.json cannot be written as a GGUF tokenizer of model llama without tokenizer.model: %w", err)
		}
	}
	tokens, scores, kinds := make([]string, size), make([]float32, size), make([]int32, size)
	for id := range tokens {
		tokens[id], scores[id], kinds[id] = padName(id), -10000, typeUnused
		if id < len(t.tokens) && t.tokens[id] != "" {
			tokens[id], kinds[id] = t.tokens[id], typeNormal
			if id < len(pieces) {
				scores[id] = pieces[id].score
				if k := pieces[id].kind; k != typeUserDefined {
					kinds[id] = k
				}
			} else if derived != nil {
				scores[id] = derived[id]
			}
			if _, ok := byteToken(tokens[id]); ok {
				kinds[id] = typeByte
				if pieces == nil {
					scores[id] = 0
				}
			}
		}
		if a := t.added[int32(id)]; a != nil {
			_, listed := cfg.AddedTokens[fmt.Sprint(id)]
			switch {
			case !listed && int32(id) == t.model.unknown():
				scores[id], kinds[id] = 0, typeUnknown
			case !listed && id < len(pieces) && kinds[id] == typeControl:
			default:
				tokens[id], kinds[id] = addedEntry(a)
				scores[id] = -1000
			}
		}
	}
	kv.Set(ggml+"model", "llama")
	kv.Set(ggml+"pre", "default")
	kv.Set(ggml+"tokens", tokens)
	kv.Set(ggml+"scores", scores)
	kv.Set(ggml+"token_type", kinds)
	if !prefix {
		kv.Set(ggml+"add_space_prefix", false)
	}
	return nil
}

// spmPrefix checks that a tokenizer.json does what a GGUF tokenizer of model
// llama does, and tells whether a space goes before the text.
func (t *Tokenizer) spmPrefix() (bool, error) {
	bad := func(what string) (bool, error) {
		return false, fmt.Errorf("tokenizer: %s has no equal in a GGUF tokenizer of model llama", what)
	}
	if !t.spec.Model.ByteFallback {
		return bad("a BPE without ByteLevel and without byte_fallback")
	}
	if t.spec.Model.IgnoreMerges {
		return bad("ignore_merges")
	}
	n, err := parse("normalizer", t.spec.Normalizer)
	if err != nil {
		return false, err
	}
	c, err := parse("pre_tokenizer", t.spec.PreTokenizer)
	if err != nil {
		return false, err
	}
	var parts []component
	if n != nil {
		if parts = []component{*n}; n.Type == "Sequence" {
			parts = n.Normalizers
		}
	}
	prefix, marks := false, false
	for _, p := range parts {
		switch {
		case p.Type == "Prepend" && p.Prepend == mark && !prefix && !marks:
			prefix = true
		case p.Type == "Replace" && p.Pattern.String != nil && *p.Pattern.String == " " && p.Content == mark && !marks:
			marks = true
		default:
			return bad("the normalizer " + p.Type)
		}
	}
	switch steps := flatten(c); {
	case len(steps) == 0:
	case len(steps) == 1 && steps[0].Type == "Metaspace" && !marks && (steps[0].Replacement == "" || steps[0].Replacement == mark):
		marks = true
		prefix = steps[0].PrependScheme != "never" && orTrue(steps[0].AddPrefixSpace)
	default:
		return bad("the pre_tokenizer " + steps[0].Type)
	}
	if !marks {
		return bad("a text whose spaces stay spaces")
	}
	return prefix, nil
}

// addFlags writes what is added around a text: by the post-processor, overruled
// by the flags of tokenizer_config.json.
func (t *Tokenizer) addFlags(kv *formats.Meta, cfg *tokenizerConfig) error {
	var flags []addFlag // in the order in which upstream comes upon them
	set := func(name string, v bool) {
		for i := range flags {
			if flags[i].name == name {
				flags[i].v = v
				return
			}
		}
		flags = append(flags, addFlag{name, v})
	}
	c, err := parse("post_processor", t.spec.PostProcessor)
	if err != nil {
		return err
	}
	var parts []component
	if c != nil {
		if parts = []component{*c}; c.Type == "Sequence" {
			parts = c.Processors
		}
	}
	for _, p := range parts {
		switch p.Type {
		case "RobertaProcessing":
			set("bos", true)
			set("eos", true)
			set("sep", true)
		case "TemplateProcessing":
			t.templateFlags(p.Single, p.Pair, set)
		}
	}
	if cfg.AddBOS != nil {
		set("bos", *cfg.AddBOS)
	}
	if cfg.AddEOS != nil {
		set("eos", *cfg.AddEOS)
	}
	for _, f := range flags {
		kv.Set(ggml+"add_"+f.name+"_token", f.v)
	}
	return t.checkFlags(kv)
}

// checkFlags makes sure that a reader of the entries adds what this tokenizer
// adds, where the flags so far and the reader's defaults do not say so.
func (t *Tokenizer) checkFlags(kv *formats.Meta) error {
	addBOS, addEOS := !t.byteLevel, false
	switch t.spec.Model.Type {
	case "WordPiece": // always framed by CLS and SEP
		return nil
	case "Unigram":
		addBOS, addEOS = false, true
	}
	if p := findPre(kv.Str(ggml + "pre")); p != nil && t.byteLevel {
		addBOS = p.addBOS
	}
	for _, f := range []struct {
		name, where string
		reader      bool
		adds        []int32
		id          int32
	}{{"bos", "before", addBOS, t.prefix, t.special.bos}, {"eos", "after", addEOS, t.suffix, t.special.eos}} {
		if len(f.adds) > 0 && (len(f.adds) > 1 || f.adds[0] != f.id) {
			return fmt.Errorf("tokenizer: GGUF has no way to say that the tokens %v go %s a text", f.adds, f.where)
		}
		key := ggml + "add_" + f.name + "_token"
		if v, ok := kv.Get(key).(bool); ok {
			f.reader = v
		}
		if f.reader != (len(f.adds) > 0) {
			kv.Set(key, len(f.adds) > 0)
		}
	}
	return nil
}

type addFlag struct {
	name string
	v    bool
}

// templateFlags reads from a template whether a BOS goes before a text, an EOS
// after it and a separator between two.
func (t *Tokenizer) templateFlags(single, pair []piece, set func(string, bool)) {
	is := func(p piece, roles ...int32) bool {
		if p.SpecialToken == nil {
			return false
		}
		id, ok := t.ids[p.SpecialToken.ID]
		return ok && slices.Contains(roles, id)
	}
	first, last := "", ""
	if n := len(single); n > 1 {
		if s := single[0].SpecialToken; s != nil {
			first = s.ID
			set("bos", is(single[0], t.special.bos, t.special.cls))
		}
		if s := single[n-1].SpecialToken; s != nil {
			last = s.ID
			set("eos", is(single[n-1], t.special.eos, t.special.sep))
		}
	}
	named := func(p piece, name string) bool {
		return name != "" && p.SpecialToken != nil && p.SpecialToken.ID == name
	}
	if len(pair) > 0 && named(pair[0], first) {
		pair = pair[1:]
	}
	if n := len(pair); n > 0 && named(pair[n-1], last) {
		pair = pair[:n-1]
	}
	if n := len(pair); n > 2 && pair[0].Sequence != nil && pair[n-1].Sequence != nil {
		middle := pair[1 : n-1]
		sep := is(middle[0], t.special.sep, t.special.eos) && last == ""
		if len(middle) == 2 && is(middle[1], t.special.sep, t.special.eos) {
			sep = true
		}
		set("sep", sep)
	}
}

// templateEntries writes the chat template and, under tokenizer.chat_template.NAME,
// further ones.
func (t *Tokenizer) templateEntries(kv *formats.Meta) {
	var names []string
	for _, e := range t.named {
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, e.Name)
		names = append(names, name)
		kv.Set(ggufTemplate+name, e.Template)
	}
	if names != nil {
		kv.Set("tokenizer.chat_templates", names)
	}
	if t.template != "" {
		kv.Set("tokenizer.chat_template", t.template)
	}
}
