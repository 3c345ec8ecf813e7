package tokenizer

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder turns tokens into text.
type decoder struct {
	pieces []string // the text of each token, or the bytes of a byte-level one
	isByte []bool   // tokens <0x00> to <0xFF>, each one byte; nil without byte fallback
	bytes  bool     // pieces are bytes of UTF-8 that may break inside a character
	strip  int      // spaces dropped at the start of the text
	// first gives the text of a token at the start, where Metaspace drops every
	// mark and WordPiece puts no space; nil where it is that of pieces.
	first func(token string) string
	join  string // between tokens
}

var decoders = []string{"ByteLevel", "WordPiece", "Metaspace", "Sequence of Replace (a string), ByteFallback, Fuse and Strip at the start"}

func newDecoder(c *component, tokens []string) (decoder, error) {
	d := decoder{pieces: make([]string, len(tokens))}
	copy(d.pieces, tokens)
	if c == nil {
		d.join = " " // what the tokenizers library does without a decoder
		return d, nil
	}
	parts := []component{*c}
	if c.Type == "Sequence" {
		parts = c.Decoders
	}
	if len(parts) == 1 && parts[0].Type == "ByteLevel" {
		d.bytes = true
		for i, t := range tokens {
			d.pieces[i] = fromByteLevel(t)
		}
		return d, nil
	}
	if len(parts) == 1 && parts[0].Type == "WordPiece" {
		d.wordPiece(&parts[0])
		return d, nil
	}
	bytesSeen := false
	for i := range parts {
		switch p := &parts[i]; p.Type {
		case "Replace":
			if p.Pattern.String == nil || *p.Pattern.String == "" || bytesSeen {
				return d, &UnsupportedError{"decoder", "Replace of a regular expression or after ByteFallback", decoders}
			}
			for k, t := range d.pieces {
				d.pieces[k] = strings.ReplaceAll(t, *p.Pattern.String, p.Content)
			}
		case "Metaspace":
			m := p.Replacement
			if m == "" {
				m = mark
			}
			if i != 0 {
				return d, &UnsupportedError{"decoder", "Metaspace after " + parts[i-1].Type, decoders}
			}
			if p.PrependScheme != "never" && orTrue(p.AddPrefixSpace) {
				d.first = func(t string) string { return strings.ReplaceAll(t, m, "") }
			}
			for k, t := range d.pieces {
				d.pieces[k] = strings.ReplaceAll(t, m, " ")
			}
		case "ByteFallback":
			bytesSeen = true
			d.isByte = make([]bool, len(tokens))
			for k, t := range tokens {
				if b, ok := byteToken(t); ok {
					d.isByte[k] = true
					d.pieces[k] = string([]byte{b})
				}
			}
		case "Fuse":
		case "Strip":
			if p.Content != " " || p.Stop != 0 || i == 0 || parts[i-1].Type != "Fuse" {
				return d, &UnsupportedError{"decoder", "Strip of anything but leading spaces after Fuse", decoders}
			}
			d.strip += p.Start
		default:
			return d, &UnsupportedError{"decoder", p.Type, decoders}
		}
	}
	return d, nil
}

// wordPiece joins tokens with spaces but for those that continue a word.
func (d *decoder) wordPiece(c *component) {
	prefix := "##"
	if c.Prefix != nil {
		prefix = *c.Prefix
	}
	d.first = func(t string) string { return t }
	if orTrue(c.Cleanup) {
		d.first = cleanup.Replace
	}
	for i, t := range d.pieces {
		if in, ok := strings.CutPrefix(t, prefix); ok {
			t = in
		} else {
			t = " " + t
		}
		d.pieces[i] = d.first(t)
	}
}

// tidy removes the spaces before English punctuation and shortened words, one
// rule after the other.
type tidy [][2]string

func (r tidy) Replace(s string) string {
	for _, p := range r {
		s = strings.ReplaceAll(s, p[0], p[1])
	}
	return s
}

var cleanup = tidy{
	{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
	{" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
}

// byteToken reads <0x00> to <0xFF>.
func byteToken(t string) (byte, bool) {
	if len(t) != 6 || t[:3] != "<0x" || t[5] != '>' {
		return 0, false
	}
	b, err := strconv.ParseUint(t[3:5], 16, 8)
	return byte(b), err == nil
}

// StreamDecoder decodes tokens one by one. What its calls return, joined, is
// what Decode returns for all the tokens, with one exception: bytes written by
// byte tokens come out as soon as they form a character, whereas Decode replaces
// a whole run of them when it is broken anywhere.
//
// To continue a text, push the ids of the text first and drop what comes back:
// the first token of a text may lose a leading space.
type StreamDecoder struct {
	t       *Tokenizer
	all     bool
	started bool
	strip   int
	pending []byte
	out     []byte
}

// NewDecoder returns a decoder that leaves out special tokens.
func (t *Tokenizer) NewDecoder() *StreamDecoder {
	return &StreamDecoder{t: t, strip: t.decoder.strip}
}

// Push adds a token and returns the text that is complete.
func (s *StreamDecoder) Push(id int32) string {
	s.out = s.out[:0]
	s.push(id)
	return string(s.out)
}

func (s *StreamDecoder) push(id int32) {
	d := &s.t.decoder
	if !s.t.has(id) || !s.all && s.t.IsSpecial(id) {
		return
	}
	p := d.pieces[id]
	if d.bytes || d.isByte != nil && d.isByte[id] {
		s.pending = append(s.pending, p...)
		if d.bytes {
			s.settle(false)
		} else if utf8.Valid(s.pending) {
			s.flushBytes()
		}
	} else {
		s.flushBytes()
		if !s.started && d.first != nil {
			p = d.first(s.t.tokens[id])
		}
		if s.started {
			s.write(d.join)
		}
		s.write(p)
	}
	s.started = true
}

// Flush ends the text and returns what was held back: an unfinished character
// as U+FFFD.
func (s *StreamDecoder) Flush() string {
	s.out = s.out[:0]
	s.flush()
	return string(s.out)
}

func (s *StreamDecoder) flush() {
	if s.t.decoder.bytes {
		s.settle(true)
	} else {
		s.flushBytes()
	}
}

// settle writes the complete characters of the pending bytes of a byte-level
// text.
func (s *StreamDecoder) settle(final bool) {
	out, rest := lossy(s.out, s.pending, final)
	s.out = out
	s.pending = append(s.pending[:0], rest...)
}

// flushBytes ends a run of byte tokens: its text when it is one, else U+FFFD for
// each byte, as the tokenizers library does.
func (s *StreamDecoder) flushBytes() {
	if len(s.pending) == 0 {
		return
	}
	if utf8.Valid(s.pending) {
		s.write(string(s.pending))
	} else {
		s.write(strings.Repeat("\uFFFD", len(s.pending)))
	}
	s.pending = s.pending[:0]
}

// write appends text, less the leading spaces of the whole.
func (s *StreamDecoder) write(p string) {
	for s.strip > 0 && p != "" {
		if p[0] != ' ' {
			s.strip = 0
			break
		}
		p = p[1:]
		s.strip--
	}
	s.out = append(s.out, p...)
}

// Decode returns the text of ids without the special tokens, with U+FFFD where
// the bytes are no UTF-8. Ids that are not in the vocabulary are left out.
func (t *Tokenizer) Decode(ids []int32) string { return t.decode(ids, false) }

// DecodeAll is Decode with the special tokens.
func (t *Tokenizer) DecodeAll(ids []int32) string { return t.decode(ids, true) }

func (t *Tokenizer) decode(ids []int32, all bool) string {
	s := t.NewDecoder()
	s.all = all
	for i := 0; i < len(ids); i++ {
		if d := &t.decoder; d.isByte != nil && t.has(ids[i]) && d.isByte[ids[i]] {
			// Judge the run of byte tokens as a whole.
			k := i
			for ; k < len(ids) && (!t.has(ids[k]) || !all && t.IsSpecial(ids[k]) || d.isByte[ids[k]]); k++ {
				if t.has(ids[k]) && d.isByte[ids[k]] {
					s.pending = append(s.pending, d.pieces[ids[k]]...)
				}
			}
			s.flushBytes()
			s.started = true
			i = k - 1
			continue
		}
		s.push(ids[i])
	}
	s.flush()
	return string(s.out)
}
