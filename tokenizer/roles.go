package tokenizer

import "slices"

// BOS returns the token that begins a text.
func (t *Tokenizer) BOS() (int32, bool) { return role(t.special.bos) }

// EOS returns the token that ends a text.
func (t *Tokenizer) EOS() (int32, bool) { return role(t.special.eos) }

// PAD returns the token that fills up a batch.
func (t *Tokenizer) PAD() (int32, bool) { return role(t.special.pad) }

// UNK returns the token for what is not in the vocabulary.
func (t *Tokenizer) UNK() (int32, bool) { return role(t.special.unk) }

// CLS returns the token whose output a classifier reads, [CLS] or <s>.
func (t *Tokenizer) CLS() (int32, bool) { return role(t.special.cls) }

// SEP returns the token between the texts of a pair, [SEP] or </s>.
func (t *Tokenizer) SEP() (int32, bool) { return role(t.special.sep) }

// MASK returns the token that stands for a hidden one.
func (t *Tokenizer) MASK() (int32, bool) { return role(t.special.mask) }

func role(id int32) (int32, bool) { return id, id >= 0 }

// EOGs returns, in ascending order, every token that ends a generation: EOS, the
// end of a turn or message, and what the generation configuration names.
func (t *Tokenizer) EOGs() []int32 { return slices.Clone(t.eogs) }

// Target returns the tokenizer of the texts that an encoder-decoder model
// writes. It is t itself unless the model has a vocabulary of its own for them.
// Labels are Target().Encode(text, true), and what the decoder writes is read
// with Target().Decode.
func (t *Tokenizer) Target() *Tokenizer {
	if t.target != nil {
		return t.target
	}
	return t
}

// EncodeTarget returns the labels of a target text: its ids in the target
// vocabulary with the special tokens that transformers puts around them, such as
// T5's </s> and BART's <s> and </s>. The decoder's own start token is the
// model's matter and not among them.
func (t *Tokenizer) EncodeTarget(text string) []int32 { return t.Target().Encode(text, true) }

// usualRoles gives roles that no file names to tokens with the usual names, as
// transformers' classes for BERT, RoBERTa and T5 do. A special token of the
// vocabulary is needed: nothing is invented.
func (t *Tokenizer) usualRoles() {
	for _, r := range []struct {
		id    *int32
		names []string
	}{
		{&t.special.cls, []string{"[CLS]"}}, {&t.special.sep, []string{"[SEP]"}}, {&t.special.pad, []string{"[PAD]", "<pad>"}},
		{&t.special.mask, []string{"[MASK]", "<mask>"}}, {&t.special.unk, []string{"[UNK]", "<unk>"}},
	} {
		for _, name := range r.names {
			if id, ok := t.ids[name]; ok && *r.id < 0 && t.IsSpecial(id) {
				*r.id = id
			}
		}
	}
	// RoBERTa's and BART's post-processor names cls and sep by their use.
	if p := t.frames.pair; len(p) > 3 && t.special.cls < 0 && t.special.sep < 0 && len(p[0].ids) == 1 && len(p[len(p)-1].ids) == 1 {
		if f, l := p[0].ids[0], p[len(p)-1].ids[0]; f != l && t.tokens[f] == "<s>" && t.tokens[l] == "</s>" && !t.bothBegin() {
			t.special.cls, t.special.sep = f, l
		}
	}
}

// bothBegin reports whether both texts of a pair begin with tokens: then those
// are a BOS each, not a CLS.
func (t *Tokenizer) bothBegin() bool {
	seen := 0
	for _, p := range t.frames.pair {
		if p.text < 0 && len(p.ids) > 0 && len(t.prefix) > 0 && p.ids[0] == t.prefix[0] {
			seen++
		}
	}
	return seen > 1
}
