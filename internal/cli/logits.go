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

// probe is one input whose logits are asked for.
type probe struct {
	Tokens []int32 `json:"tokens"`
	Types  []int32 `json:"types,omitempty"`
	// Source is what the encoder reads, Tokens then the decoder's.
	Source []int32 `json:"source_ids,omitempty"`
}

// probeLine is a line of --prompts.
type probeLine struct {
	probe
	Decoder  []int32 `json:"decoder_ids"`
	Text     *string `json:"text"`
	TextPair *string `json:"text_pair"`
	From     *string `json:"source"`
	To       string  `json:"target"`
}

// logitsCommand writes raw logits, by which other engines are compared.
func (a *app) logitsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "logits -m MODEL --tokens 1,2,3 -o OUT.safetensors", Hidden: true,
		Short: "Write the logits of token sequences",
		Long: "Write the float32 logits of a token sequence as the tensor \"logits\" of a\n" +
			"safetensors file: [tokens, vocabulary] for text generation, [1, labels] for a text\n" +
			"classifier, [tokens, labels] for a token classifier. --json prints them instead.\n" +
			"An encoder-decoder takes --source-ids and --decoder-ids, or --source and --target:\n" +
			"the decoder then reads its start token and the target but its last token.\n\n" +
			"--prompts reads inputs from a file with a line of JSON each: a list of ids, or an\n" +
			"object with tokens (and types), text (and text_pair), source_ids and decoder_ids,\n" +
			"or source and target; the tensors are then named logits.0, logits.1 and so on,\n" +
			"beside tokens.0, tokens.1.",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	m := addModelFlags(f)
	tokens := f.text("tokens", "", "IDS", "", "token ids, separated by commas")
	types := f.text("types", "", "IDS", "", "token type ids of --tokens")
	text := f.text("text", "", "TEXT", "", "a text, with the model's special tokens")
	pair := f.text("text-pair", "", "TEXT", "", "the second text")
	sourceIDs := f.text("source-ids", "", "IDS", "", "what the encoder reads")
	decoderIDs := f.text("decoder-ids", "", "IDS", "", "what the decoder reads, its start token included")
	source := f.text("source", "", "TEXT", "", "a text for the encoder")
	target := f.text("target", "", "TEXT", "", "a text for the decoder")
	prompts := f.text("prompts", "", "FILE", "", "JSON lines of inputs")
	out := f.text("output", "o", "FILE", "", "safetensors file to write")
	asJSON := f.Bool("json", false, "print a line of JSON for each input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needFlags(cmd, "model"); err != nil {
			return err
		}
		if !*asJSON {
			if err := needFlags(cmd, "output"); err != nil {
				return err
			}
		}
		given := 0
		for _, v := range []string{*tokens, *text, *sourceIDs, *source, *prompts} {
			if v != "" {
				given++
			}
		}
		if given != 1 {
			return usagef("give one of --tokens, --text, --source-ids, --source and --prompts")
		}
		l, err := a.load(cmd, m, nil)
		if err != nil {
			return err
		}
		defer l.Close()
		var probes []probe
		if *prompts != "" {
			probes, err = l.readPrompts(*prompts)
		} else {
			line := probeLine{To: *target}
			for _, v := range []struct {
				flag, text string
				dst        *[]int32
			}{{"tokens", *tokens, &line.Tokens}, {"types", *types, &line.Types}, {"source-ids", *sourceIDs, &line.Source}, {"decoder-ids", *decoderIDs, &line.Decoder}} {
				if v.text != "" && err == nil {
					*v.dst, err = parseIDs(v.flag, v.text)
				}
			}
			for _, v := range []struct {
				text *string
				dst  **string
			}{{text, &line.Text}, {pair, &line.TextPair}, {source, &line.From}} {
				if *v.text != "" {
					*v.dst = v.text
				}
			}
			probes = []probe{l.probe(&line)}
		}
		if err != nil {
			return err
		}
		return a.writeLogits(cmd, l, probes, *out, *prompts != "", *asJSON)
	}
	return cmd
}

func (a *app) writeLogits(cmd *cobra.Command, l *loaded, probes []probe, out string, numbered, asJSON bool) error {
	var tensors []formats.OutTensor
	tape := nn.NewTape()
	defer tape.Close()
	for i, p := range probes {
		b, err := l.batch(&p)
		if err != nil {
			return usagef("input %d: %w", i+1, err)
		}
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		tape.Reset()
		x := l.Logits(tape, b, nil)
		values := slices.Clone(x.Mat().Data)
		if asJSON {
			j := struct {
				probe
				Labels []string    `json:"labels,omitempty"`
				Logits [][]float32 `json:"logits"`
			}{probe: p, Labels: l.Options.Labels}
			for r := range x.Rows {
				j.Logits = append(j.Logits, values[r*x.Cols:(r+1)*x.Cols])
			}
			if err := printJSONLine(a.out, j); err != nil {
				return err
			}
		}
		name := "logits"
		if numbered {
			name = "logits." + strconv.Itoa(i)
			tensors = append(tensors, idTensor("tokens."+strconv.Itoa(i), p.Tokens))
		}
		tensors = append(tensors, formats.OutTensor{Name: name, Type: tensor.F32, Shape: []int{x.Rows, x.Cols},
			WriteTo: func(w io.Writer) error { return peft.WriteFloats(w, tensor.F32, values) }})
	}
	if out == "" {
		return nil
	}
	return safetensors.WriteFile(cmd.Context(), out, l.Source.Sources, tensors, nil)
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

func parseIDs(flag, s string) ([]int32, error) {
	var ids []int32
	for _, p := range strings.Split(s, ",") {
		v, err := strconv.ParseInt(strings.TrimSpace(p), 10, 32)
		if err != nil {
			return nil, usagef("--%s: %q is no token id", flag, p)
		}
		ids = append(ids, int32(v))
	}
	return ids, nil
}

// probe tokenizes a line as its task reads texts.
func (l *loaded) probe(line *probeLine) probe {
	p := line.probe
	switch {
	case line.From != nil:
		p.Source, _ = l.tok.EncodeSingle(*line.From)
		p.Tokens = []int32{l.Start}
		if line.To != "" {
			target := l.tok.EncodeTarget(line.To)
			p.Tokens = append(p.Tokens, target[:len(target)-1]...)
		}
	case line.Decoder != nil:
		p.Tokens = line.Decoder
	case p.Source != nil && p.Tokens == nil:
		p.Tokens = []int32{l.Start}
	case line.Text != nil && line.TextPair != nil:
		p.Tokens, p.Types = l.tok.EncodePair(*line.Text, *line.TextPair)
	case line.Text != nil:
		p.Tokens, p.Types = l.tok.EncodeSingle(*line.Text)
	}
	if !slices.ContainsFunc(p.Types, func(t int32) bool { return t != 0 }) {
		p.Types = nil
	}
	return p
}

// batch checks an input and makes it one of the network.
func (l *loaded) batch(p *probe) (*model.Batch, error) {
	seq2seq := l.Options.Task == model.Seq2SeqLM
	if seq2seq != (p.Source != nil) {
		if seq2seq {
			return nil, fmt.Errorf("an encoder-decoder reads a source: --source or --source-ids")
		}
		return nil, fmt.Errorf("a source is for encoder-decoders")
	}
	if err := l.checkIDs(p.Tokens, model.Decoder); err != nil {
		return nil, err
	}
	if p.Types != nil && len(p.Types) != len(p.Tokens) {
		return nil, fmt.Errorf("%d types for %d tokens", len(p.Types), len(p.Tokens))
	}
	b := model.Sequence(p.Tokens, 0)
	b.Types = p.Types
	if n := l.taskNumber(); n != 0 {
		b.Tasks = []int32{n}
	}
	if p.Source != nil {
		if err := l.checkIDs(p.Source, model.Encoder); err != nil {
			return nil, err
		}
		b.Source = model.Sequence(p.Source, 0)
		b.Source.Tasks = b.Tasks
	}
	return b, nil
}

// checkIDs checks the tokens of one stack.
func (l *loaded) checkIDs(ids []int32, stack model.Stack) error {
	if len(ids) == 0 || len(ids) > l.MaxPositions {
		return fmt.Errorf("%d tokens; expected 1 to %d", len(ids), l.MaxPositions)
	}
	size := l.VocabSize
	for _, in := range l.Inputs { // a translator may have two vocabularies
		if in.Stack == stack {
			size = in.Embedding.W.Out
		}
	}
	for _, id := range ids {
		if id < 0 || int(id) >= size {
			return fmt.Errorf("token %d is not in the vocabulary of %d", id, size)
		}
	}
	return nil
}

// readPrompts reads an input from each line of a file.
func (l *loaded) readPrompts(path string) ([]probe, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	var out []probe
	n := 0
	for line := range bytes.Lines(b) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var p probeLine
		if json.Unmarshal(line, &p.Tokens) != nil && json.Unmarshal(line, &p) != nil {
			return nil, withCode(exitData, fmt.Errorf("%s:%d: expected [ids], or an object with tokens, text, source_ids or source", path, n))
		}
		out = append(out, l.probe(&p))
	}
	if len(out) == 0 {
		return nil, withCode(exitData, fmt.Errorf("%s: no sequences", path))
	}
	return out, nil
}
