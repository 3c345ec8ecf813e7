package tokenizer

import (
	"fmt"
	"slices"
)

// part is one part of what a model reads: a text, or tokens around it.
type part struct {
	text int     // 0 and 1: the first and the second text; -1: the tokens of ids
	ids  []int32 // fixed tokens
	kind int32   // token type id of the part
}

// frame says how one text or a pair of texts becomes an input, in order.
type frame []part

// frames holds the frame of a single text and that of a pair.
type frames struct{ single, pair frame }

// plain is what the tokenizers library does without a post-processor: the texts
// one after the other, of types 0 and 1.
var plain = frames{single: frame{{text: 0}}, pair: frame{{text: 0}, {text: 1, kind: 1}}}

// around frames each text with tokens, as transformers' flags add_bos_token and
// add_eos_token do: those of the second text have type 1.
func around(prefix, suffix []int32) frames {
	one := func(n int) (f frame) {
		if len(prefix) > 0 {
			f = append(f, part{-1, prefix, int32(n)})
		}
		f = append(f, part{n, nil, int32(n)})
		if len(suffix) > 0 {
			f = append(f, part{-1, suffix, int32(n)})
		}
		return f
	}
	return frames{one(0), append(one(0), one(1)...)}
}

// sides returns the tokens before and after a single text.
func (f frame) sides() (prefix, suffix []int32) {
	seen := false
	for _, p := range f {
		switch {
		case p.text >= 0:
			seen = true
		case seen:
			suffix = append(suffix, p.ids...)
		default:
			prefix = append(prefix, p.ids...)
		}
	}
	return prefix, suffix
}

// newFrames reads a post-processor.
func (t *Tokenizer) newFrames(c *component) (frames, error) {
	if c == nil {
		return plain, nil
	}
	switch c.Type {
	case "ByteLevel":
		return plain, nil // moves offsets only
	case "Sequence":
		out, by := plain, ""
		for i := range c.Processors {
			p := &c.Processors[i]
			f, err := t.newFrames(p)
			if err != nil {
				return out, err
			}
			if p.Type == "ByteLevel" {
				continue
			}
			if by != "" {
				return out, &UnsupportedError{"post_processor", p.Type + " after " + by, []string{"one that adds tokens in a Sequence"}}
			}
			out, by = f, p.Type
		}
		return out, nil
	case "RobertaProcessing", "BertProcessing":
		cls, ok1 := t.pairID(c.Cls)
		sep, ok2 := t.pairID(c.Sep)
		if !ok1 || !ok2 {
			return plain, fmt.Errorf("post_processor %s: cls and sep must name tokens of the vocabulary", c.Type)
		}
		first, end := part{-1, []int32{cls}, 0}, part{-1, []int32{sep}, 0}
		single := frame{first, {text: 0}, end}
		if c.Type == "RobertaProcessing" { // no types: RoBERTa has one embedding for all
			return frames{single, append(slices.Clone(single), end, part{text: 1}, end)}, nil
		}
		return frames{single, append(slices.Clone(single), part{1, nil, 1}, part{-1, []int32{sep}, 1})}, nil
	case "TemplateProcessing":
		single, err := t.templateFrame(c, c.Single)
		if err != nil {
			return plain, err
		}
		if n := single.texts(); n[1] > 0 || n[0] > 1 {
			return plain, fmt.Errorf("post_processor TemplateProcessing: a single text with two sequences")
		}
		pair, err := t.templateFrame(c, c.Pair)
		if err != nil {
			return plain, err
		}
		return frames{single, pair}, nil
	}
	return plain, &UnsupportedError{"post_processor", c.Type,
		[]string{"TemplateProcessing", "RobertaProcessing", "BertProcessing", "ByteLevel", "Sequence"}}
}

func (t *Tokenizer) templateFrame(c *component, pieces []piece) (frame, error) {
	var f frame
	for _, p := range pieces {
		switch {
		case p.Sequence != nil:
			n := 0
			if p.Sequence.ID == "B" {
				n = 1
			}
			f = append(f, part{n, nil, p.Sequence.Type})
		case p.SpecialToken != nil:
			st, ok := c.SpecialTokens[p.SpecialToken.ID]
			if !ok {
				return nil, fmt.Errorf("post_processor TemplateProcessing: %q is not among its special_tokens", p.SpecialToken.ID)
			}
			for _, id := range st.IDs {
				if !t.has(id) {
					return nil, fmt.Errorf("post_processor TemplateProcessing: id %d of %q is not in the vocabulary", id, p.SpecialToken.ID)
				}
			}
			f = append(f, part{-1, st.IDs, p.SpecialToken.Type})
		}
	}
	return f, nil
}

// texts counts how often each text stands in the frame.
func (f frame) texts() (n [2]int) {
	for _, p := range f {
		if p.text >= 0 {
			n[p.text]++
		}
	}
	return n
}

// EncodeSingle returns the ids of a text with the special tokens that the model
// wants around it, and the token type id of each: what transformers'
// tokenizer(a) gives as input_ids and token_type_ids.
func (t *Tokenizer) EncodeSingle(a string) (ids, types []int32) {
	return t.frame(t.frames.single, a, "")
}

// EncodePair returns the ids of two texts as one input, such as
// [CLS] a [SEP] b [SEP], and the token type id of each, as transformers'
// tokenizer(a, b) does. Models without token types (RoBERTa, T5) have 0
// throughout; a tokenizer without special tokens puts the texts one after the
// other.
func (t *Tokenizer) EncodePair(a, b string) (ids, types []int32) {
	return t.frame(t.frames.pair, a, b)
}

// FramePair is EncodePair of texts that are encoded already, without special
// tokens: it serves callers that shorten the texts first.
func (t *Tokenizer) FramePair(a, b []int32) (ids, types []int32) {
	return t.frames.pair.fill(a, b)
}

// FrameSingle is EncodeSingle of a text that is encoded already.
func (t *Tokenizer) FrameSingle(a []int32) (ids, types []int32) {
	return t.frames.single.fill(a, nil)
}

// Specials returns how many tokens EncodeSingle and EncodePair add.
func (t *Tokenizer) Specials() (single, pair int) {
	count := func(f frame) (n int) {
		for _, p := range f {
			n += len(p.ids)
		}
		return n
	}
	return count(t.frames.single), count(t.frames.pair)
}

func (t *Tokenizer) frame(f frame, a, b string) (ids, types []int32) {
	n := f.texts()
	var x, y []int32
	if n[0] > 0 {
		x = t.Encode(a, false)
	}
	if n[1] > 0 {
		y = t.Encode(b, false)
	}
	return f.fill(x, y)
}

func (f frame) fill(a, b []int32) (ids, types []int32) {
	ids, types = []int32{}, []int32{}
	for _, p := range f {
		from := p.ids
		switch p.text {
		case 0:
			from = a
		case 1:
			from = b
		}
		ids = append(ids, from...)
		for range from {
			types = append(types, p.kind)
		}
	}
	return ids, types
}
