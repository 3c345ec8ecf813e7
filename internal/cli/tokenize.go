package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/spf13/cobra"
)

func (a *app) tokenizeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tokenize -m MODEL {-p TEXT | -d DATA --mask}", GroupID: groupLook,
		Short: "Show the tokens of a text, or what of a data set is trained",
		Long: "Show the token ids of a text, with the special tokens that the model's tokenizer\nadds around it.\n\n" +
			"With -d DATA --mask show each record of a data set as the model sees it when it is\n" +
			"trained, the trained tokens in [brackets]; a weight other than 1 stands in front of\n" +
			"them ([0.5:...]). --json gives the tokens and labels themselves, a line for each\n" +
			"sequence; the label of a token that is not trained is -100.",
		Example: "peftkit tokenize -m model.gguf -p \"Hello world\"\n" +
			"peftkit tokenize -m model.gguf --file book.txt --json\n" +
			"peftkit tokenize -m model.gguf -p \"Hello world\" --pieces\n" +
			"peftkit tokenize -m model.gguf -d train.jsonl --mask\n" +
			"peftkit tokenize -m model.gguf -d train.jsonl --mask --train-on last --json",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	f.section("Model and text")
	path := f.text("model", "m", "MODEL", "", "GGUF file or Hugging Face folder")
	prompt := f.text("prompt", "p", "TEXT", "", "the text; - reads standard input")
	file := f.text("file", "", "FILE", "", "read the text from a file")
	plain := f.Bool("no-special", false, "do not add special tokens such as BOS")
	pieces := f.Bool("pieces", false, "one token a line, with its text")
	asJSON := f.Bool("json", false, "print one JSON object; with --mask one for each sequence")
	f.section("Data")
	d := addDataFlags(f, "data set whose mask is shown")
	mask := f.Bool("mask", false, "show what of the data set is trained")
	part := f.oneOf("part", "", "", "part of a folder (default train)", "train", "valid", "test")
	limit := f.Int("limit", shownRecords, "show the first N records; 0 for all (the default with --json)")
	maxLen := f.Int("max-seq-len", 0, "cut sequences to this many tokens, as train does; 0 for no limit")
	f.mark()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needFlags(cmd, "model"); err != nil {
			return err
		}
		ofData := []string{"map", "columns", "chat-template", "chat", "train-on", "part", "limit", "max-seq-len"}
		switch {
		case cmd.Flags().Changed("data") != *mask:
			return usagef("-d DATA and --mask belong together")
		case *mask:
			for _, name := range []string{"prompt", "file", "no-special", "pieces"} {
				if cmd.Flags().Changed(name) {
					return usagef("--%s is for a text, not for --mask", name)
				}
			}
			if *limit < 0 {
				return usagef("--limit: expected 0 or more")
			}
			if *asJSON && !cmd.Flags().Changed("limit") {
				*limit = 0
			}
			return a.showMasks(*path, d, *part, *maxLen, *limit, *asJSON)
		default:
			for _, name := range ofData {
				if cmd.Flags().Changed(name) {
					return usagef("--%s needs -d DATA --mask", name)
				}
			}
		}
		var text string
		switch {
		case *file != "" && cmd.Flags().Changed("prompt"):
			return usagef("-p and --file exclude each other")
		case *file != "":
			b, err := os.ReadFile(*file)
			if err != nil {
				return withCode(exitUsage, err)
			}
			text = string(b)
		case *prompt == "-" && a.in != nil:
			b, err := io.ReadAll(a.in)
			if err != nil {
				return err
			}
			text = string(b)
		case !cmd.Flags().Changed("prompt"):
			return needFlags(cmd, "prompt")
		default:
			text = *prompt
		}
		m, err := formats.OpenModel(*path)
		if err != nil {
			return err
		}
		defer m.Close()
		tok, err := tokenizer.FromModel(m)
		if err != nil {
			return withCode(exitFormat, err)
		}
		ids := tok.Encode(text, !*plain)
		var words []string
		for _, id := range ids {
			words = append(words, tok.Token(id))
		}
		switch {
		case *asJSON:
			return printJSONLine(a.out, map[string]any{"tokens": ids, "pieces": words})
		case *pieces:
			for i, id := range ids {
				fmt.Fprintf(a.out, "%6d  %s\n", id, words[i])
			}
			return nil
		}
		var b strings.Builder
		for i, id := range ids {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(strconv.Itoa(int(id)))
		}
		_, err = fmt.Fprintln(a.out, b.String())
		return err
	}
	return cmd
}

// showMasks reads a data set as train does and shows it.
func (a *app) showMasks(path string, d *dataFlags, part string, maxLen, limit int, asJSON bool) error {
	m, err := formats.OpenModel(path)
	if err != nil {
		return err
	}
	defer m.Close()
	tok, err := tokenizer.FromModel(m)
	if err != nil {
		return withCode(exitFormat, err)
	}
	o, err := d.options(tok, maxLen)
	if err != nil {
		return err
	}
	o.Part = part
	ds, err := data.Load(*d.path, o)
	if err != nil {
		return dataError(err, *d.path)
	}
	return a.printMasks(tok, ds, limit, asJSON)
}
