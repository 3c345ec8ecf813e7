package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/model"
)

// sequence encodes a record of a task other than causal language modelling.
func (e *encoder) sequence(r *Record) (result, error) {
	var res result
	var err error
	switch e.o.Task {
	case model.SequenceClassification:
		if res, err = e.labelled(r); err == nil {
			err = e.target(r, &res.examples[0])
		}
	case model.TokenClassification:
		res, err = e.tagged(r)
	default:
		res = e.pair(r)
	}
	if err != nil {
		return result{}, &LineError{File: r.File, Line: r.Line, Found: err.Error(), Want: e.known(), Err: ErrFields}
	}
	for i := range res.examples {
		res.examples[i].File, res.examples[i].Line = r.File, r.Line
	}
	return res, nil
}

// labelled frames the text or texts of a record.
func (e *encoder) labelled(r *Record) (result, error) {
	a := e.o.Tokenizer.Encode(r.Text, false)
	single, pair := e.frame.Specials()
	if !r.HasPair {
		ids, types, lost := e.single(a, single)
		return result{examples: []Example{{Tokens: ids, Types: typed(types)}}, length: len(a) + single, lost: lost}, nil
	}
	b := e.o.Tokenizer.Encode(r.Pair, false)
	n, k := len(a), len(b)
	if e.o.MaxSeqLen > 0 {
		n, k = longestFirst(n, k, max(0, e.o.MaxSeqLen-pair))
	}
	ids, types := e.frame.FramePair(a[:n], b[:k])
	return result{examples: []Example{{Tokens: ids, Types: typed(types)}}, length: len(a) + len(b) + pair, lost: len(a) - n + len(b) - k}, nil
}

// single frames one text, of which it keeps the beginning.
func (e *encoder) single(a []int32, specials int) (ids, types []int32, lost int) {
	n := len(a)
	if e.o.MaxSeqLen > 0 {
		n = min(n, max(0, e.o.MaxSeqLen-specials))
	}
	ids, types = e.frame.FrameSingle(a[:n])
	return ids, types, len(a) - n
}

// longestFirst says how many tokens of two texts stay so that there are at most
// limit: the longer one gives way first, then both (the strategy of this name in
// the tokenizers library).
func longestFirst(a, b, limit int) (int, int) {
	if a+b <= limit {
		return a, b
	}
	short := min(a, b)
	if short > limit-short {
		short = limit / 2
	}
	if a <= b {
		return short, limit - short
	}
	return limit - short, short
}

// typed returns nil for types that are all 0.
func typed(types []int32) []int32 {
	if slices.ContainsFunc(types, func(t int32) bool { return t != 0 }) {
		return types
	}
	return nil
}

// target writes the classes of a record as the problem wants them.
func (e *encoder) target(r *Record, ex *Example) error {
	if len(ex.Tokens) == 0 {
		return nil // left out
	}
	switch e.o.Problem {
	case model.Regression:
		if len(r.Classes) != len(e.o.Labels) {
			return fmt.Errorf("%d numbers", len(r.Classes))
		}
		for _, c := range r.Classes {
			v, err := strconv.ParseFloat(c, 32)
			if err != nil || v-v != 0 {
				return fmt.Errorf("label %q", c)
			}
			ex.Targets = append(ex.Targets, float32(v))
		}
	case model.MultiLabel:
		ex.Targets = make([]float32, len(e.o.Labels))
		for _, c := range r.Classes {
			i, ok := e.class(c)
			if !ok {
				return fmt.Errorf("label %q", c)
			}
			ex.Targets[i] = 1
		}
	default:
		if r.Many && len(r.Classes) != 1 {
			return fmt.Errorf("%d labels", len(r.Classes))
		}
		i, ok := e.class(r.Classes[0])
		if !ok {
			return fmt.Errorf("label %q", r.Classes[0])
		}
		ex.Labels = []int32{i}
	}
	return nil
}

// class finds a label by its name, or by its number when no name is like it.
func (e *encoder) class(name string) (int32, bool) {
	if i := slices.Index(e.o.Labels, name); i >= 0 {
		return int32(i), true
	}
	i, err := strconv.Atoi(name)
	return int32(i), err == nil && i >= 0 && i < len(e.o.Labels)
}

// known says what a label may be.
func (e *encoder) known() string {
	switch {
	case e.o.Problem == model.Regression && len(e.o.Labels) == 1:
		return "a number"
	case e.o.Problem == model.Regression:
		return fmt.Sprintf("a list of %d numbers", len(e.o.Labels))
	}
	return "one of " + someLabels(e.o.Labels)
}

// someLabels lists label names, the first of many.
func someLabels(labels []string) string {
	const most = 12
	if len(labels) > most {
		return fmt.Sprintf("%s ... (%d)", strings.Join(labels[:most], ", "), len(labels))
	}
	return strings.Join(labels, ", ")
}

// tagged labels the first token of each word.
func (e *encoder) tagged(r *Record) (result, error) {
	var ids, labels []int32
	for i, w := range r.Words {
		c, ok := e.class(r.Tags[i])
		if !ok {
			return result{}, fmt.Errorf("tag %q of %q", r.Tags[i], w)
		}
		for k, id := range e.word(w) {
			ids = append(ids, id)
			if k > 0 {
				c = Ignore
			}
			labels = append(labels, c)
		}
	}
	specials, _ := e.frame.Specials()
	framed, types, lost := e.single(ids, specials)
	if len(ids) == 0 {
		return result{}, nil
	}
	out := slices.Repeat([]int32{Ignore}, len(framed))
	copy(out[e.prefix(len(ids)-lost):], labels[:len(ids)-lost])
	return result{examples: []Example{{Tokens: framed, Types: typed(types), Labels: out}}, length: len(ids) + specials, lost: lost}, nil
}

// prefix counts the special tokens before a text of n tokens.
func (e *encoder) prefix(n int) int {
	probe := slices.Repeat([]int32{-1}, max(1, n))
	ids, _ := e.frame.FrameSingle(probe)
	return slices.Index(ids, -1)
}

// wordEncoder encodes one word of a text that was split into words. Where a space
// belongs to the word after it (byte-level BPE), every word gets one, as
// transformers does with is_split_into_words and add_prefix_space.
func wordEncoder(t Tokenizer) func(string) []int32 {
	plain := func(w string) []int32 { return t.Encode(w, false) }
	both := t.Encode("a a", false)
	if slices.Equal(both, slices.Concat(t.Encode("a", false), t.Encode("a", false))) {
		return plain
	}
	if slices.Equal(both, slices.Concat(t.Encode("a", false), t.Encode(" a", false))) {
		return func(w string) []int32 { return t.Encode(" "+w, false) }
	}
	return plain
}

// pair frames the source for the encoder and shifts the target for the decoder:
// it reads the start token and then what it should have written.
func (e *encoder) pair(r *Record) result {
	source, target := r.Source, r.Target
	if r.Kind == Instruction {
		source, target = strings.TrimSuffix(exercisePrompt(r), "\n"), r.Output
		if r.System == "" {
			source = r.Instruction
			if r.Input != "" {
				source += "\n" + r.Input
			}
		}
	}
	single, _ := e.frame.Specials()
	a := e.o.Tokenizer.Encode(source, false)
	src, _, lost := e.single(a, single)
	if target == "" || len(src) == 0 {
		return result{}
	}
	b := e.frame.EncodeTarget(target)
	length := max(len(a)+single, len(b))
	limit := e.o.MaxTargetLen
	if limit == 0 {
		limit = e.o.MaxSeqLen
	}
	if limit > 0 && len(b) > limit {
		lost += len(b) - limit
		b = b[:limit]
	}
	ex := Example{Source: src, Tokens: append([]int32{e.o.Start}, b...), Labels: append([]int32{Ignore}, b...)}
	return result{examples: []Example{ex}, length: length, lost: lost}
}
