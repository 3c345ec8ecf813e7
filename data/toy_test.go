package data

import (
	"cmp"
	"strings"
)

// toy is a tokenizer whose tokens are bytes, a few words, and special tokens.
type toy struct {
	template  string
	tools     string // the template for tools, where it is another
	addEOS    bool
	noSpecial bool
}

var toyWords = []string{"<s>", "</s>", "<|im_start|>", "<|im_end|>", " good", toyBreak} // ids 256...

const (
	// toyBreak is one token at the end of a text, and two within.
	toyBreak = "\n\n"

	toyBOS  int32 = 256
	toyEOS  int32 = 257
	toyEnd  int32 = 259
	toyGood int32 = 260
)

func (t toy) Encode(text string, addSpecial bool) []int32 {
	out := []int32{}
	if addSpecial && !t.noSpecial {
		out = append(out, toyBOS)
	}
outer:
	for text != "" {
		for i, w := range toyWords {
			if strings.HasPrefix(text, w) && (w != toyBreak || strings.Trim(text, "\n") == "") {
				out, text = append(out, 256+int32(i)), text[len(w):]
				continue outer
			}
		}
		out, text = append(out, int32(text[0])), text[1:]
	}
	if addSpecial && t.addEOS {
		out = append(out, toyEOS)
	}
	return out
}

func (t toy) DecodeAll(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		if id < 256 {
			b.WriteByte(byte(id))
		} else {
			b.WriteString(t.Token(id))
		}
	}
	return b.String()
}

func (t toy) Token(id int32) string {
	if id >= 256 {
		return toyWords[id-256]
	}
	return string(rune(id))
}
func (t toy) BOS() (int32, bool)   { return toyBOS, !t.noSpecial }
func (t toy) EOS() (int32, bool)   { return toyEOS, !t.noSpecial }
func (t toy) EOGs() []int32        { return []int32{toyEOS, toyEnd} }
func (t toy) ChatTemplate() string { return t.template }
func (t toy) ToolTemplate() string { return cmp.Or(t.tools, t.template) }

// show writes an example with the trained tokens in brackets.
func (t toy) show(ex *Example) string {
	var b strings.Builder
	on := false
	for i, id := range ex.Tokens {
		if trained := ex.Labels[i] != Ignore; trained != on {
			b.WriteString(map[bool]string{true: "[", false: "]"}[trained])
			on = trained
		}
		b.WriteString(t.Token(id))
	}
	if on {
		b.WriteString("]")
	}
	return b.String()
}

const chatML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

// FrameSingle, FramePair, Specials and EncodeTarget make toy a Framer in BERT's
// way: <s> a </s> b </s>, the second text and its end of type 1.
func (t toy) FrameSingle(a []int32) (ids, types []int32) {
	ids = append(append([]int32{toyBOS}, a...), toyEOS)
	return ids, make([]int32, len(ids))
}

func (t toy) FramePair(a, b []int32) (ids, types []int32) {
	ids, types = t.FrameSingle(a)
	for _, id := range append(append([]int32{}, b...), toyEOS) {
		ids, types = append(ids, id), append(types, 1)
	}
	return ids, types
}

func (t toy) Specials() (single, pair int) { return 2, 3 }

func (t toy) EncodeTarget(text string) []int32 { return append(t.Encode(text, false), toyEOS) }

// text decodes ids.
func (t toy) text(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.Token(id))
	}
	return b.String()
}
