package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
	"github.com/spf13/cobra"
)

// logitsCommand writes raw logits, by which other engines are compared.
func (a *app) logitsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "logits -m MODEL --tokens 1,2,3 -o OUT.safetensors", Hidden: true,
		Short: "Write the logits of token sequences",
		Long: "Write the float32 logits [tokens, vocabulary] of a token sequence as the tensor\n" +
			"\"logits\" of a safetensors file. --prompts reads sequences from a file with a line\n" +
			"of JSON each: a list of ids, {\"tokens\": [ids]} or {\"text\": \"...\"}; the tensors are\n" +
			"then named logits.0, logits.1 and so on, beside tokens.0, tokens.1.",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	m := addModelFlags(f)
	tokens := f.text("tokens", "", "IDS", "", "token ids, separated by commas")
	prompts := f.text("prompts", "", "FILE", "", "JSON lines of sequences")
	out := f.text("output", "o", "FILE", "", "safetensors file to write")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needFlags(cmd, "model", "output"); err != nil {
			return err
		}
		if (*tokens == "") == (*prompts == "") {
			return usagef("give either --tokens or --prompts")
		}
		l, err := a.load(cmd, m)
		if err != nil {
			return err
		}
		defer l.Close()
		var sequences [][]int32
		if *tokens != "" {
			ids, err := parseIDs(*tokens)
			if err != nil {
				return err
			}
			sequences = append(sequences, ids)
		} else if sequences, err = l.readPrompts(*prompts); err != nil {
			return err
		}
		var tensors []formats.OutTensor
		tape := nn.NewTape()
		defer tape.Close()
		for i, ids := range sequences {
			if err := l.checkIDs(ids); err != nil {
				return usagef("sequence %d: %w", i+1, err)
			}
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			tape.Reset()
			x := l.Logits(tape, model.Sequence(ids, 0), nil)
			values := slices.Clone(x.Mat().Data)
			name := "logits"
			if *prompts != "" {
				name = "logits." + strconv.Itoa(i)
				tensors = append(tensors, idTensor("tokens."+strconv.Itoa(i), ids))
			}
			tensors = append(tensors, formats.OutTensor{Name: name, Type: tensor.F32, Shape: []int{x.Rows, x.Cols},
				WriteTo: func(w io.Writer) error { return peft.WriteFloats(w, tensor.F32, values) }})
		}
		return safetensors.WriteFile(cmd.Context(), *out, l.Source.Sources, tensors, nil)
	}
	return cmd
}

func idTensor(name string, ids []int32) formats.OutTensor {
	return formats.OutTensor{Name: name, Type: tensor.I32, Shape: []int{len(ids)}, WriteTo: func(w io.Writer) error {
		b := make([]byte, 0, 4*len(ids))
		for _, id := range ids {
			b = append(b, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
		}
		_, err := w.Write(b)
		return err
	}}
}

func parseIDs(s string) ([]int32, error) {
	var ids []int32
	for _, p := range strings.Split(s, ",") {
		v, err := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
		if err != nil {
			return nil, usagef("--tokens: %q is no token id", p)
		}
		ids = append(ids, int32(v))
	}
	return ids, nil
}

func (l *loaded) checkIDs(ids []int32) error {
	if len(ids) == 0 || len(ids) > l.MaxPositions {
		return fmt.Errorf("%d tokens; expected 1 to %d", len(ids), l.MaxPositions)
	}
	for _, id := range ids {
		if id < 0 || int(id) >= l.VocabSize {
			return fmt.Errorf("token %d is not in the vocabulary of %d", id, l.VocabSize)
		}
	}
	return nil
}

// readPrompts reads a sequence from each line of a file.
func (l *loaded) readPrompts(path string) ([][]int32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	var out [][]int32
	n := 0
	for line := range bytes.Lines(b) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var p struct {
			Tokens []int32 `json:"tokens"`
			Text   *string `json:"text"`
		}
		switch {
		case json.Unmarshal(line, &p.Tokens) == nil:
		case json.Unmarshal(line, &p) != nil:
			return nil, withCode(exitData, fmt.Errorf("%s:%d: expected [ids], {\"tokens\": [ids]} or {\"text\": \"...\"}", path, n))
		case p.Text != nil:
			p.Tokens = l.tok.Encode(*p.Text, true)
		}
		out = append(out, p.Tokens)
	}
	if len(out) == 0 {
		return nil, withCode(exitData, fmt.Errorf("%s: no sequences", path))
	}
	return out, nil
}
