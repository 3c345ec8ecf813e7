package tokenizer

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
)

func FuzzFromFiles(f *testing.F) {
	f.Add([]byte(`{"added_tokens":[{"id":3,"content":"<x>","lstrip":true,"normalized":true}],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`), "ab <x>b")
	f.Add([]byte(`{"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},"model":{"type":"BPE","byte_fallback":true,"fuse_unk":true,"unk_token":"u","vocab":{"u":0,"▁":1,"a":2,"▁a":3,"<0x41>":4},"merges":[["▁","a"]]}}`), "a A\x80")
	f.Add([]byte(`{"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}}],"special_tokens":{"a":{"ids":[0]}}},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":false},{"type":"Split","pattern":{"String":"a"},"behavior":"MergedWithNext"},{"type":"Metaspace","replacement":"_"}]},"model":{"type":"BPE","vocab":{"a":0,"1":1},"merges":[]}}`), "a1 1a")
	f.Add([]byte(`{"added_tokens":[{"id":1,"content":"[CLS]","special":true},{"id":2,"content":"[SEP]","special":true}],"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},"decoder":{"type":"WordPiece"},"model":{"type":"WordPiece","max_input_chars_per_word":9,"vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##b":4,"京":5}}}`), "Ab á京 [SEP] abbbbbbbbbbbb")
	f.Add([]byte(`{"normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":"DAAAAAAEAABhBAAAAAAAgGIA"},{"type":"Nmt"},{"type":"StripAccents"},{"type":"Strip"}]},"pre_tokenizer":{"type":"Metaspace","prepend_scheme":"first"},"decoder":{"type":"Metaspace"},"model":{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["u",0],["▁",-2],["a",-3.5],["▁a",-1],["<0x41>",0]]}}`), " a A\x80e\u0301 é")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		// A regular expression from outside may take for ever; that is not what
		// is looked for here.
		if len(text) > 200 || strings.Contains(string(b), "Regex") {
			return
		}
		tok, err := FromFiles(map[string][]byte{"tokenizer.json": b, "tokenizer_config.json": []byte(`{"bos_token":"a"}`)})
		if err != nil {
			return
		}
		ids := tok.Encode(text, true)
		for _, id := range ids {
			require.True(t, tok.has(id))
		}
		pair, types := tok.EncodePair(text, "a")
		require.Len(t, types, len(pair))
		tok.DecodeAll(ids)
		d := tok.NewDecoder()
		for _, id := range ids {
			d.Push(id)
		}
		d.Flush()
		if kv, err := tok.GGUF(tok.Size()); err == nil {
			_, _ = FromGGUF(kv)
		}
	})
}

func FuzzFromGGUF(f *testing.F) {
	f.Add("gpt2", "smollm", "a\nb\nab\n<e>", "\x01\x01\x01\x03", "a b", "ab1 <e>", int64(3), true)
	f.Add("llama", "default", "<unk>\n<s>\n</s>\n▁\na\n▁a\nb\n<0x41>", "\x02\x03\x03\x01\x01\x01\x01\x06", "", "a bA", int64(1), true)
	f.Add("t5", "", "<pad>\n</s>\n<unk>\n▁\na\n▁a", "\x03\x03\x02\x01\x01\x01", "", " a  b", int64(1), true)
	f.Add("bert", "", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n▁a\nb\n▁京", "\x03\x03\x03\x03\x01\x01\x01", "", "Ab京 b", int64(2), true)
	f.Fuzz(func(t *testing.T, model, pre, tokens, types, merges, text string, bos int64, add bool) {
		if len(text) > 200 {
			return
		}
		list := strings.Split(tokens, "\n")
		kinds := make([]int32, len(types))
		scores := make([]float32, len(list))
		for i := range kinds {
			kinds[i] = int32(types[i])
		}
		for i := range scores {
			scores[i] = -float32(i % 7)
		}
		tok, err := FromGGUF(formats.Meta{
			{Key: "tokenizer.ggml.model", Value: model}, {Key: "tokenizer.ggml.pre", Value: pre},
			{Key: "tokenizer.ggml.tokens", Value: list}, {Key: "tokenizer.ggml.token_type", Value: kinds},
			{Key: "tokenizer.ggml.scores", Value: scores}, {Key: "tokenizer.ggml.merges", Value: strings.Split(merges, "\n")},
			{Key: "tokenizer.ggml.bos_token_id", Value: bos}, {Key: "tokenizer.ggml.add_bos_token", Value: add},
		})
		if err != nil {
			return
		}
		ids := tok.Encode(text, true)
		for _, id := range ids {
			require.True(t, tok.has(id))
		}
		tok.DecodeAll(ids)
		files, err := tok.HF()
		require.NoError(t, err)
		if utf8.ValidString(tokens) { // JSON holds no other
			back, err := FromFiles(files)
			require.NoError(t, err)
			require.Equal(t, tok.Size() >= back.Size(), true)
		}
	})
}

// A charsmap of any bytes is refused or replaces within bounds.
func FuzzCharsmap(f *testing.F) {
	f.Add([]byte("\x0c\x00\x00\x00\x00\x04\x00\x00a\x05\x00\x00\x00\x00\x00\x80b\x00"), "aab")
	f.Add([]byte{0, 0, 0, 0}, "é\r\n")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		m, err := newCharsmap(b)
		if err != nil || len(text) > 200 {
			return
		}
		if a := m.normalize(text); utf8.ValidString(text) {
			require.True(t, utf8.ValidString(a), "%q", a)
		}
		m.longest(text)
	})
}

// Byte-level BPE with all 256 bytes gives back every text.
func FuzzRoundTrip(f *testing.F) {
	tok, err := FromFiles(readFolder(f, testdata.Dir(f, "tokenizers", "gpt2")))
	require.NoError(f, err)
	for _, s := range []string{"", " a  b\n", "don't 12 ½", "🚀 é́", "<|im_end|>x", "\x00\u2003"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		require.Equal(t, s, tok.DecodeAll(tok.Encode(s, false)))
	})
}

// The splitters written by hand cut where the regular expressions cut.
func FuzzSplitters(f *testing.F) {
	type pair struct {
		next func(string) int
		find func(string) [][2]int
	}
	var pairs []pair
	for p, next := range splitters {
		find, err := find(p)
		require.NoError(f, err)
		pairs = append(pairs, pair{next, find})
	}
	for _, s := range []string{"I'M 12345 don't", " a  \n\n b \r\n", "x!\n\n y", "１２３４ é\u0301", "'s'S'\u017f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// The engine has no Unicode case folding, and older tables.
		if len(s) > 200 || !utf8.ValidString(s) || strings.Contains(s, "\u017f") || strings.ContainsFunc(s, func(r rune) bool { return isNew(r) }) {
			return
		}
		for _, p := range pairs {
			at := 0
			for _, m := range p.find(s) {
				require.Equal(t, at, m[0])
				at += p.next(s[at:])
				require.Equal(t, at, m[1], "%q", s)
			}
			require.Equal(t, len(s), at)
		}
	})
}

func isNew(r rune) bool { return unicode.Is(newLetters, r) || unicode.Is(newNumbers, r) }
