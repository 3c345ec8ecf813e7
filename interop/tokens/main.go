// Command tokens encodes and decodes texts with the tokenizer of a Hugging Face
// folder, for the comparison with Hugging Face's tokenizers: it reads requests
// from standard input and answers each with one line, all JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/tokenizer"
)

// request asks for the ids of a and b, or for the text of ids.
type request struct {
	A, B string
	IDs  []int32
}

type answer struct {
	IDs       []int32 `json:"ids"`
	Special   []int32 `json:"special"`
	Types     []int32 `json:"types"`
	Pair      []int32 `json:"pair"`
	PairTypes []int32 `json:"pair_types"`
	Decoded   string  `json:"decoded"`
	All       string  `json:"all"`
	Streamed  string  `json:"streamed"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tokens:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 1 {
		return fmt.Errorf("usage: tokens FOLDER [NAME...]: the side files to read, all by default")
	}
	files := map[string][]byte{}
	names := args[1:]
	if len(names) == 0 {
		names = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json", "vocab.txt"}
	}
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(args[0], n)); err == nil {
			files[n] = b
		}
	}
	tok, err := tokenizer.FromFiles(files)
	if err != nil {
		return err
	}
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	enc := json.NewEncoder(out)
	for in.More() {
		var r request
		if err := in.Decode(&r); err != nil {
			return err
		}
		var a answer
		ids := r.IDs
		if ids == nil {
			a.IDs = tok.Encode(r.A, false)
			a.Special, a.Types = tok.EncodeSingle(r.A)
			a.Pair, a.PairTypes = tok.EncodePair(r.A, r.B)
			ids = a.Pair
		}
		a.Decoded, a.All = tok.Decode(ids), tok.DecodeAll(ids)
		var b strings.Builder
		d := tok.NewDecoder()
		for _, id := range ids {
			b.WriteString(d.Push(id))
		}
		b.WriteString(d.Flush())
		a.Streamed = b.String()
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
	return nil
}
