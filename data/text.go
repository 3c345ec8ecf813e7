package data

import (
	"bytes"
	"slices"
)

// SplitText says what becomes of a text file.
type SplitText string

// How texts are split.
const (
	// ByFile, the default: the file is one text, tokenized as a whole and split into
	// windows of the maximum sequence length. Every window begins with what the
	// tokenizer puts before a text, or, where that is nothing, with the last token of
	// the window before: each token of the text is predicted once, none is lost.
	ByFile SplitText = "file"
	// ByParagraph: blank lines divide texts.
	ByParagraph SplitText = "paragraph"
	// ByLine: each line that is not blank is a text.
	ByLine SplitText = "line"
)

// text adds the texts of a file, as they stand.
func (in *reading) text(file string, content []byte) {
	if found := notText(content); found != "" {
		line := 1
		for text := range bytes.Lines(content) {
			if notText(text) != "" {
				break
			}
			line++
		}
		in.bad.add(&LineError{File: file, Line: line, Found: found, Want: wantText, Err: ErrSyntax})
		return
	}
	add := func(line int, text []byte, windows bool) {
		if len(bytes.TrimSpace(text)) > 0 {
			in.rows = append(in.rows, row{line: line, fields: map[string]any{"text": string(text)}, file: file, windows: windows})
		}
	}
	if in.split == ByFile || in.split == "" {
		add(1, content, true)
		return
	}
	line, start := 0, 0
	var paragraph []byte
	flush := func() {
		add(start, trimLineEnd(paragraph), false)
		paragraph = nil
	}
	for text := range bytes.Lines(content) {
		line++
		switch {
		case in.split == ByLine:
			add(line, trimLineEnd(text), false)
		case len(bytes.TrimSpace(text)) == 0:
			flush()
		default:
			if paragraph == nil {
				start = line
			}
			paragraph = append(paragraph, text...)
		}
	}
	flush()
}

func trimLineEnd(text []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
}

// takeWindows keeps a text that is not cut.
func (d *Dataset) takeWindows(ex Example, front, ends []int32) {
	s := &d.Stats
	list := windows(ex, front, d.MaxSeqLen)
	if len(list) > 1 {
		s.Windows += len(list)
		s.Split++
	}
	for _, w := range list {
		before := s.NoEnd
		d.take(&result{examples: []Example{w}}, ends)
		if len(list) > 1 {
			s.NoEnd = before // the text goes on, or it ends as the others do
		}
	}
}

// frontOf returns what a tokenizer puts before a text.
func frontOf(tok Tokenizer) []int32 {
	id, ok := tok.BOS()
	if around := tok.Encode("", true); ok && len(around) > 0 && around[0] == id {
		return []int32{id}
	}
	return nil
}

// windows splits a text that is too long. front is what the tokenizer puts before
// a text. The tokens that a window repeats carry no label.
func windows(ex Example, front []int32, size int) []Example {
	if size <= 0 || len(ex.Tokens) <= size {
		return []Example{ex}
	}
	if len(front) >= size || !slices.Equal(front, ex.Tokens[:min(len(front), len(ex.Tokens))]) {
		front = nil
	}
	w := ex
	w.Tokens, w.Labels = ex.Tokens[:size:size], ex.Labels[:size:size]
	out := []Example{w}
	w.TrainFirst = false
	repeated := max(len(front), 1)
	for at := size; at < len(ex.Tokens); at += len(w.Tokens) - repeated {
		before := front
		if len(front) == 0 {
			before = ex.Tokens[at-1 : at]
		}
		end := min(at+size-repeated, len(ex.Tokens))
		w.Tokens = slices.Concat(before, ex.Tokens[at:end])
		w.Labels = slices.Concat(slices.Repeat([]int32{Ignore}, repeated), ex.Labels[at:end])
		out = append(out, w)
	}
	return out
}
