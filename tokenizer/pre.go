package tokenizer

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// preType is what a value of tokenizer.ggml.pre stands for, in the terms of
// tokenizer.json.
type preType struct {
	names        []string // the first is written, all are read
	normalizer   string
	patterns     []string // Split patterns, each isolated, in order; "" is GPT-2's
	digits       bool     // single digits are cut off first
	ignoreMerges bool
	addBOS       bool // unless tokenizer.ggml.add_bos_token says otherwise
}

const (
	nfc = `{"type":"NFC"}`

	qwen35Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	gpt4oPattern   = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	tekkenPattern  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	deepSeek3Last  = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
	seedPattern    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+`
	bloomPattern   = ` ?[^(\s|.,!?…。，、।۔،)]+`
	defaultPattern = `[\p{P}\$\+<=>\^~\|]+`
	falconPattern  = "[\\p{P}\\$\\+<=>\\^~\\|`]+"
)

// preTypes lists the pre-tokenizers as llama.cpp applies them. Qwen's normalizer
// is the model's own: llama.cpp leaves it out, which differs only for text that
// is not composed (NFC).
var preTypes = []preType{
	{names: []string{"gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
		"modern-bert", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "roberta-bpe", "jina-v1-en", "jina-v2-code"},
		patterns: []string{gpt2Pattern}},
	{names: []string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
		patterns: []string{gpt2Pattern}, digits: true},
	{names: []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
		patterns: []string{llama3Pattern}, ignoreMerges: true, addBOS: true},
	{names: []string{"glm4"}, patterns: []string{llama3Pattern}, ignoreMerges: true},
	{names: []string{"smaug-bpe", "dbrx", "chatglm-bpe"}, patterns: []string{llama3Pattern}},
	{names: []string{"qwen2", "deepseek-r1-qwen", "megrez"}, normalizer: nfc, patterns: []string{qwen2Pattern}},
	{names: []string{"stablelm2", "hunyuan", "solar-open", "grok-2", "kormo", "f2llmv2"}, patterns: []string{qwen2Pattern}},
	{names: []string{"qwen35"}, normalizer: nfc, patterns: []string{qwen35Pattern}},
	{names: []string{"gpt-4o", "llama4", "kanana2"}, patterns: []string{gpt4oPattern}},
	{names: []string{"tekken"}, patterns: []string{tekkenPattern}, ignoreMerges: true, addBOS: true},
	{names: []string{"deepseek-v3", "hunyuan-dense", "joyai-llm"}, patterns: []string{`\p{N}{1,3}`, `[一-龥぀-ゟ゠-ヿ]+`, deepSeek3Last}},
	{names: []string{"deepseek-coder"}, patterns: []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}`}},
	{names: []string{"seed-coder"}, patterns: []string{seedPattern}},
	{names: []string{"bloom", "gpt3-finnish", "poro-chat"}, patterns: []string{bloomPattern}},
	{names: []string{"viking"}, patterns: []string{bloomPattern, `\p{N}`}},
	{names: []string{"falcon"}, patterns: []string{falconPattern, gpt2Pattern, `[0-9][0-9][0-9]`}},
	{names: []string{"default"}, patterns: []string{defaultPattern, gpt2Pattern, `\p{N}+`, `[0-9][0-9][0-9]`}},
}

// samePattern maps spellings of a pattern that cut every text alike to one.
var samePattern = map[string]string{
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`:                                    llama3Pattern,
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`:                                     llama3Pattern,
	`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`: llama3Pattern,
	`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`:                                                                           gpt2Pattern,
}

func findPre(name string) *preType {
	for i := range preTypes {
		for _, n := range preTypes[i].names {
			if n == name {
				return &preTypes[i]
			}
		}
	}
	return nil
}

func preNames() []string {
	var out []string
	for i := range preTypes {
		out = append(out, preTypes[i].names...)
	}
	sort.Strings(out)
	return out
}

func mustJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // strings only
	return strings.TrimSpace(b.String())
}

// preTokenizer writes the pre-tokenizer as tokenizer.json does.
func (p *preType) preTokenizer() json.RawMessage {
	level := func(regex bool) string {
		return fmt.Sprintf(`{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":%v}`, regex)
	}
	var parts []string
	if p.digits {
		parts = append(parts, `{"type":"Digits","individual_digits":true}`)
	}
	if len(p.patterns) == 1 && p.patterns[0] == gpt2Pattern {
		parts = append(parts, level(true))
	} else {
		for _, re := range p.patterns {
			parts = append(parts, fmt.Sprintf(`{"type":"Split","pattern":{"Regex":%s},"behavior":"Isolated","invert":false}`, mustJSON(re)))
		}
		parts = append(parts, level(false))
	}
	if len(parts) == 1 {
		return json.RawMessage(parts[0])
	}
	return json.RawMessage(`{"type":"Sequence","pretokenizers":[` + strings.Join(parts, ",") + `]}`)
}

// signature describes what a pre-tokenizer does, the same for all that do the
// same as far as this package knows.
func signature(c *component) string {
	var parts []string
	for _, c := range flatten(c) {
		switch c.Type {
		case "Digits":
			if c.IndividualDigits {
				parts = append(parts, "digit")
			} else {
				parts = append(parts, "digits")
			}
		case "ByteLevel":
			if orTrue(c.AddPrefixSpace) {
				parts = append(parts, "prefix space")
			}
			if orTrue(c.UseRegex) {
				parts = append(parts, gpt2Pattern)
			}
		case "Split":
			switch {
			case c.Pattern.Regex == nil:
				parts = append(parts, "string")
			case c.Behavior == "Isolated" || c.Behavior == "Removed" && c.Invert && covers(*c.Pattern.Regex):
				re := *c.Pattern.Regex
				if same := samePattern[re]; same != "" {
					re = same
				}
				parts = append(parts, re)
			default:
				parts = append(parts, c.Behavior)
			}
		default:
			parts = append(parts, c.Type)
		}
	}
	if len(parts) > 0 && parts[0] == `\p{N}` {
		parts[0] = "digit"
	}
	return strings.Join(parts, "\n")
}

// covers reports whether a pattern matches every text without gaps, as those do
// that end in runs of white space and take everything else before.
func covers(re string) bool { return strings.HasSuffix(re, `|\s+(?!\S)|\s+`) }

func (p *preType) signature() string {
	parts := p.patterns
	if p.digits {
		parts = append([]string{"digit"}, parts...)
	}
	return strings.Join(parts, "\n")
}

// detectPre finds the value of tokenizer.ggml.pre for a byte-level tokenizer.json
// by what its parts do. Vocabulary and added tokens play no role, so that a
// fine-tuned tokenizer is recognised like the one it comes from.
//
// Of several that cut alike it prefers one that adds a BOS by default as the
// tokenizer does. exact is false when only the normalizer NFC differs, which
// llama.cpp applies to no byte-level text.
func detectPre(s *spec, addsBOS bool) (p *preType, exact bool, err error) {
	n, err := parse("normalizer", s.Normalizer)
	if err != nil {
		return nil, false, err
	}
	c, err := parse("pre_tokenizer", s.PreTokenizer)
	if err != nil {
		return nil, false, err
	}
	if n != nil && n.Type == "Sequence" && len(n.Normalizers) == 1 {
		n = &n.Normalizers[0]
	}
	if n != nil && n.Type == "Sequence" && len(n.Normalizers) == 0 {
		n = nil
	}
	if n != nil && n.Type != "NFC" {
		return nil, false, fmt.Errorf("tokenizer: a byte-level tokenizer with the normalizer %s has no equal in GGUF", n.Type)
	}
	sig := signature(c)
	best := -1
	for i := range preTypes {
		c := &preTypes[i]
		if c.signature() != sig || c.ignoreMerges != s.Model.IgnoreMerges {
			continue
		}
		fit := 0
		if (c.normalizer == nfc) == (n != nil) {
			fit += 2
		}
		if c.addBOS == addsBOS {
			fit++
		}
		if fit > best {
			p, best = c, fit
		}
	}
	if p != nil {
		return p, best >= 2, nil
	}
	return nil, false, &UnsupportedError{
		Component: "pre_tokenizer for GGUF",
		Found:     fmt.Sprintf("%q with ignore_merges %v", strings.ReplaceAll(sig, "\n", " then "), s.Model.IgnoreMerges),
		Supported: preNames(),
	}
}
