package llama2c

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// Token types of GGUF (llama.h, enum llama_token_type).
const (
	normal  = 1
	unknown = 2
	control = 3
	byteTok = 6
)

// maxVocabFile bounds the vocabulary file; one of 128k tokens has 2 MB.
const maxVocabFile = 256 << 20

// vocab is a SentencePiece vocabulary as GGUF describes one.
type vocab struct {
	tokens []string
	scores []float32
	types  []int32
}

func fileSize(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, errors.New("not a regular file")
	}
	return st.Size(), nil
}

// findVocab reads the vocabulary of n tokens in the folder of the model:
// tok<n>.bin, tokenizer.bin, or any other tok*.bin that has n tokens.
func findVocab(model string, n int) (*vocab, string, error) {
	dir := filepath.Dir(model)
	names := []string{fmt.Sprintf("tok%d.bin", n), "tokenizer.bin"}
	more, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "tok*.bin"))
	sort.Strings(more)
	for _, p := range more {
		names = append(names, filepath.Base(p))
	}
	var first error
	for _, name := range names {
		path := filepath.Join(dir, name)
		size, err := fileSize(path)
		if err != nil {
			continue
		}
		if size > maxVocabFile {
			err = &formats.FileError{File: path, Err: formats.ErrLimit, Found: fmt.Sprintf("%d bytes", size), Want: fmt.Sprintf("at most %d", maxVocabFile)}
		} else {
			var b []byte
			if b, err = os.ReadFile(path); err == nil {
				var v *vocab
				if v, err = parseVocab(path, b, n); err == nil {
					return v, path, nil
				}
			}
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = &formats.FileError{File: model, Err: formats.ErrMissing, Found: "no vocabulary beside it",
			Want: fmt.Sprintf("tok%d.bin or tokenizer.bin with %d tokens in the same folder", n, n)}
	}
	return nil, "", first
}

// escapeGlob keeps a folder's name from being taken for a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`*`, `[*]`, `?`, `[?]`, `[`, `[[]`).Replace(dir)
}

// parseVocab reads the layout of llama2.c's tokenizer.py: int32 longest token,
// then for each token float32 score, int32 length, bytes.
func parseVocab(path string, b []byte, n int) (*vocab, error) {
	at := 4
	fail := func(kind error, found, want string) error {
		return &formats.FileError{File: path, Offset: int64(at), Err: kind, Found: found, Want: want}
	}
	if len(b) < 4+8*n {
		return nil, fail(formats.ErrTruncated, fmt.Sprintf("%d bytes", len(b)), fmt.Sprintf("%d tokens", n))
	}
	v := &vocab{tokens: make([]string, n), scores: make([]float32, n), types: make([]int32, n)}
	for i := range n {
		if len(b)-at < 8 {
			return nil, fail(formats.ErrTruncated, fmt.Sprintf("the end after %d tokens", i), fmt.Sprintf("%d tokens", n))
		}
		size := int(int32(binary.LittleEndian.Uint32(b[at+4:])))
		if size < 0 || size > len(b)-at-8 {
			return nil, fail(formats.ErrTruncated, fmt.Sprintf("token %d of %d bytes", i, size), fmt.Sprintf("at most the %d that are left", len(b)-at-8))
		}
		v.scores[i] = float32At(b[at:])
		v.tokens[i], v.types[i] = describe(i, string(b[at+8:at+8+size]))
		at += 8 + size
	}
	if at != len(b) {
		return nil, fail(formats.ErrLayout, fmt.Sprintf("%d bytes after token %d", len(b)-at, n), "the end: a vocabulary of this model's size")
	}
	return v, nil
}

// describe turns a token of llama2.c, which holds plain spaces and line breaks
// around the control tokens, into GGUF's spelling and type.
func describe(id int, s string) (string, int32) {
	switch id {
	case 0:
		return "<unk>", unknown
	case 1:
		return "<s>", control
	case 2:
		return "</s>", control
	}
	var x byte
	if len(s) == 6 && s[:3] == "<0x" && s[5] == '>' {
		if _, err := fmt.Sscanf(s[3:5], "%02X", &x); err == nil {
			return s, byteTok
		}
	}
	return strings.ReplaceAll(s, " ", "\u2581"), normal
}
