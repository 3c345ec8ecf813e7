package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/spf13/cobra"
)

func (a *app) tokenizeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tokenize -m MODEL -p TEXT", GroupID: groupLook,
		Short: "Show the tokens of a text",
		Long:  "Show the token ids of a text, with the special tokens that the model's tokenizer\nadds around it.",
		Example: "peftkit tokenize -m model.gguf -p \"Hello world\"\n" +
			"peftkit tokenize -m model.gguf --file book.txt --json\n" +
			"peftkit tokenize -m model.gguf -p \"Hello world\" --pieces",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	path := f.text("model", "m", "MODEL", "", "GGUF file or Hugging Face folder")
	prompt := f.text("prompt", "p", "TEXT", "", "the text; - reads standard input")
	file := f.text("file", "", "FILE", "", "read the text from a file")
	plain := f.Bool("no-special", false, "do not add special tokens such as BOS")
	pieces := f.Bool("pieces", false, "one token a line, with its text")
	asJSON := f.Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := needFlags(cmd, "model"); err != nil {
			return err
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
