package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/dlclark/regexp2"
)

// words is GPT-2's split of text before byte-pair encoding.
var words = regexp2.MustCompile(`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, regexp2.None)

// byteRunes is GPT-2's printable stand-in for each byte.
func byteRunes() [256]rune {
	var out [256]rune
	next := rune(256)
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			out[b] = rune(b)
		} else {
			out[b] = next
			next++
		}
	}
	return out
}

const endOfText = "<|endoftext|>"

// trainBPE learns a byte-level BPE vocabulary of the given size (Sennrich et al.
// 2016): the most frequent pair is merged again and again, ties going to the
// pair that sorts first. It returns tokenizer.json.
func trainBPE(texts []string, size int) ([]byte, error) {
	stand := byteRunes()
	counts := map[string]int{}
	for _, text := range texts {
		m, err := words.FindStringMatch(text)
		for ; m != nil && err == nil; m, err = words.FindNextMatch(m) {
			counts[m.String()]++
		}
		if err != nil {
			return nil, err
		}
	}
	type word struct {
		parts []string
		n     int
	}
	var list []word
	for w, n := range counts {
		var parts []string
		for _, b := range []byte(w) {
			parts = append(parts, string(stand[b]))
		}
		list = append(list, word{parts, n})
	}
	vocab := []string{endOfText}
	var alphabet []string
	for _, r := range stand {
		alphabet = append(alphabet, string(r))
	}
	sort.Strings(alphabet)
	vocab = append(vocab, alphabet...)
	var merges []string
	for len(vocab) < size {
		pairs := map[[2]string]int{}
		for _, w := range list {
			for i := 1; i < len(w.parts); i++ {
				pairs[[2]string{w.parts[i-1], w.parts[i]}] += w.n
			}
		}
		var best [2]string
		for p, n := range pairs {
			if n > pairs[best] || n == pairs[best] && (p[0] < best[0] || p[0] == best[0] && p[1] < best[1]) {
				best = p
			}
		}
		if pairs[best] < 2 {
			return nil, fmt.Errorf("the text is too short for a vocabulary of %d", size)
		}
		for i, w := range list {
			out := w.parts[:0]
			for j := 0; j < len(w.parts); j++ {
				if j+1 < len(w.parts) && w.parts[j] == best[0] && w.parts[j+1] == best[1] {
					out = append(out, best[0]+best[1])
					j++
				} else {
					out = append(out, w.parts[j])
				}
			}
			list[i].parts = out
		}
		vocab = append(vocab, best[0]+best[1])
		merges = append(merges, best[0]+" "+best[1])
	}
	return tokenizerJSON(vocab, merges)
}

func tokenizerJSON(vocab, merges []string) ([]byte, error) {
	ids := map[string]int{}
	for i, v := range vocab {
		ids[v] = i
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	var pairs [][]string
	for _, m := range merges {
		pairs = append(pairs, strings.SplitN(m, " ", 2))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil,
		"added_tokens": []any{map[string]any{"id": 0, "content": endOfText, "single_word": false, "lstrip": false,
			"rstrip": false, "normalized": false, "special": true}},
		"pre_tokenizer": byteLevel, "post_processor": nil, "decoder": byteLevel,
		"model": map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
			"vocab": ids, "merges": pairs},
	})
	return b.Bytes(), err
}
