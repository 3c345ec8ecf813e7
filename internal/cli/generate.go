package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/peftkit/peftkit/generate"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer/chat"
	"github.com/spf13/cobra"
)

type generated struct {
	Text                  string  `json:"text"`
	Tokens                []int32 `json:"tokens"`
	PromptTokens          int     `json:"prompt_tokens"`
	TokensPerSecond       float64 `json:"tokens_per_second"`
	PromptTokensPerSecond float64 `json:"prompt_tokens_per_second"`
	// Stop is the token that ended the text, null when the limit did.
	Stop     *string `json:"stop"`
	Template bool    `json:"chat_template"`
	// Ignored are keys of the adapters that nothing reads.
	Ignored []peft.IgnoredKey `json:"ignored_keys,omitempty"`
}

func (a *app) generateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "generate -m MODEL -p PROMPT", GroupID: groupTry, Aliases: []string{"run"},
		Short: "Let a model answer a prompt",
		Long: "Let a model answer a prompt. A model with a chat template gets the prompt as a\n" +
			"message of the user; --raw continues the text as it stands. An encoder-decoder reads\n" +
			"the prompt with its encoder. The text goes to\n" +
			"standard output as it is written, the speed to standard error.",
		Example: "peftkit generate -m model.gguf -p \"Why is the sky blue?\"\n" +
			"peftkit generate -m model.gguf --lora adapters -p \"I love it\" -n 8\n" +
			"peftkit generate -m model.gguf --raw -p \"Once upon a time\" --temp 0.8 --top-p 0.95\n" +
			"echo \"Summarise: ...\" | peftkit generate -m model.gguf -p -",
		Args: noArgs,
	}
	f := flagsOf(cmd)
	f.section("Model")
	m := addModelFlags(f)
	f.section("Prompt")
	prompt := f.text("prompt", "p", "TEXT", "", "the prompt; - reads standard input")
	system := f.text("system", "", "TEXT", "", "system message of the chat")
	raw := f.Bool("raw", false, "no chat template: continue the text")
	template := f.text("chat-template", "", "FILE", "", "Jinja file to use instead of the model's chat template, or the word chatml")
	f.section("Text")
	var o generate.Options
	f.IntVarP(&o.MaxTokens, "tokens", "n", 128, "most tokens to write; 0 for as many as the model takes")
	f.Float64Var(&o.Temperature, "temp", 0, "temperature; 0 always takes the likeliest token")
	f.Float64Var(&o.TopP, "top-p", 1, "sample among the likeliest tokens that reach this probability")
	f.IntVar(&o.TopK, "top-k", 0, "sample among this many likeliest tokens; 0 for all")
	f.Uint64Var(&o.Seed, "seed", 42, "seed of the samples")
	ignoreEOS := f.Bool("ignore-eos", false, "go on after the end-of-sequence token")
	asJSON := f.Bool("json", false, "print one JSON object at the end")
	f.mark()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, v := range []struct {
			name string
			v    float64
		}{{"temp", o.Temperature}, {"top-p", o.TopP}} {
			if err := finiteFlag(v.name, v.v); err != nil {
				return err
			}
		}
		text, err := a.promptText(cmd, *prompt)
		if err != nil {
			return err
		}
		l, err := a.load(cmd, m, nil)
		if err != nil {
			return err
		}
		defer l.Close()
		if *template != "" {
			if l.template, err = templateSource(*template, l.tok); err != nil {
				return err
			}
		}
		if t := l.Options.Task; t != "" && !t.Generates() {
			return withHint(usagef("%s: a model for %s writes no text", *m.model, taskText(t)), "%s", try(*m.model, adapterPaths(*m.loras)...))
		}
		if l.Options.Task == "" && len(l.Blocks) == 0 { // only decoders have blocks
			return usagef("%s: a bare encoder (%s) writes no text", *m.model, l.Family.Name())
		}
		ids, templated, err := l.prompt(text, *system, *raw)
		if err != nil {
			return err
		}
		o.Task = l.taskNumber()
		if !*ignoreEOS {
			o.Stop = l.tok.Target().EOGs()
		}
		return a.generate(cmd, l, ids, o, templated, *asJSON)
	}
	return cmd
}

// prompt renders and tokenizes a prompt.
func (l *loaded) prompt(text, system string, raw bool) (ids []int32, templated bool, err error) {
	if l.Options.Task == model.Seq2SeqLM {
		if system != "" {
			return nil, false, usagef("--system needs a chat template, and an encoder-decoder has none")
		}
		ids, _ = l.tok.EncodeSingle(text)
		return ids, false, nil
	}
	t, err := l.chatTemplate()
	if err != nil && !raw {
		return nil, false, err
	}
	if raw || t == nil {
		if system != "" {
			return nil, false, usagef("--system needs a chat template, and %s", map[bool]string{true: "--raw uses none", false: "the model has none"}[raw])
		}
		return l.tok.Encode(text, true), false, nil
	}
	msgs := []chat.Message{{Role: "user", Content: text}}
	if system != "" {
		msgs = append([]chat.Message{{Role: "system", Content: system}}, msgs...)
	}
	rendered, err := t.Render(chat.Talk(msgs...), true)
	if err != nil {
		return nil, false, withCode(exitUsage, err)
	}
	return l.tok.Encode(rendered, false), true, nil // the template writes BOS itself
}

func (a *app) generate(cmd *cobra.Command, l *loaded, ids []int32, o generate.Options, templated, asJSON bool) error {
	emit := func(piece string) error {
		_, err := io.WriteString(a.out, piece)
		return err
	}
	if asJSON {
		emit = nil
	}
	text, r, err := generate.Text(cmd.Context(), l.Model, l.tok, ids, o, emit)
	if r == nil {
		return err
	}
	g := &generated{Text: text, Tokens: r.Tokens, PromptTokens: r.PromptTokens, TokensPerSecond: round3(r.TokensPerSecond()),
		PromptTokensPerSecond: round3(r.PromptTokensPerSecond()), Template: templated, Ignored: l.ignored}
	if g.Tokens == nil {
		g.Tokens = []int32{}
	}
	end := fmt.Sprintf("stopped at %d tokens (-n)", len(r.Tokens))
	if r.StopToken >= 0 {
		s := l.tok.Target().Token(r.StopToken)
		g.Stop = &s
		end = "ended with " + s
	}
	if asJSON {
		if e := printJSON(a.out, g); err == nil {
			err = e
		}
		return err
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		fmt.Fprintln(a.out)
	}
	if err != nil {
		if cmd.Context().Err() != nil && errors.Is(err, cmd.Context().Err()) {
			end = "interrupted"
		} else {
			return err
		}
	}
	fmt.Fprintf(a.err, "%s\n", a.err.paint(dim, fmt.Sprintf("%s at %s tokens/s · %s at %s tokens/s · %s",
		plural(r.PromptTokens, "prompt token"), digits(r.PromptTokensPerSecond()), plural(len(r.Tokens), "token"), digits(r.TokensPerSecond()), end)))
	return err
}

func round3(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }
