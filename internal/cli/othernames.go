package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/internal/spell"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	aboutQLoRA = "QLoRA is lora on a base whose weights are quantised: give a 4-bit GGUF file as the model (peftkit convert MODEL -o model.gguf -q q4_0 makes one) and --method lora"
	aboutKinds = "train learns from answers; preferences and rewards are not in this peftkit"
	aboutFloat = "peftkit computes in float32 and reads the weights in the type that the file has: leave it out"
	aboutAdamW = "the optimizer is AdamW, with moments in float32 for what is trained: leave it out; --lr, --weight-decay and --clip are its settings"
)

// otherMethods are words of papers and other tools that are no method here, and
// what they are.
var otherMethods = map[string]string{
	"qlora": aboutQLoRA, "qdora": strings.Replace(strings.Replace(aboutQLoRA, "QLoRA is lora", "QDoRA is dora", 1), "--method lora", "--method dora", 1),
	"q-lora": aboutQLoRA, "lora-4bit": aboutQLoRA,
	"lora+": "LoRA+ is --method loraplus", "lora-plus": "LoRA+ is --method loraplus",
	"sft":    "supervised fine-tuning is what train does; --method says what is trained: lora, full, prompt-tuning, ...",
	"freeze": "--method last-layer --layers N trains the last N layers", "frozen": "--method last-layer --layers N trains the last N layers",
	"adapter": "houlsby and pfeiffer are the adapters of the papers", "adapters": "houlsby and pfeiffer are the adapters of the papers", "bottleneck": "houlsby and pfeiffer are the adapters of the papers",
	"p-tuning-v2": "P-tuning v2 is prefix-tuning", "ptuning-v2": "P-tuning v2 is prefix-tuning", "p_tuning_v2": "P-tuning v2 is prefix-tuning",
	"soft-prompt": "--method prompt-tuning", "soft_prompt": "--method prompt-tuning", "llama-adapter-v2": "adaption-prompt is LLaMA-Adapter; its second version is not in this peftkit",
	"dpo": aboutKinds, "orpo": aboutKinds, "kto": aboutKinds, "simpo": aboutKinds, "ppo": aboutKinds, "grpo": aboutKinds, "rlhf": aboutKinds, "rm": aboutKinds,
}

// otherTypes are names of tensor types elsewhere.
var otherTypes = map[string]string{
	"fp16": "f16", "half": "f16", "float16": "f16", "fp32": "f32", "float": "f32", "float32": "f32", "bfloat16": "bf16", "bfloat": "bf16",
	"q8": "q8_0", "int8": "q8_0", "8bit": "q8_0", "8": "q8_0", "q4": "q4_0", "int4": "q4_0", "4bit": "q4_0", "4": "q4_0", "nf4": "q4_0", "fp4": "q4_0",
}

// otherFormats are names of file formats elsewhere.
var otherFormats = map[string]string{
	"hf": "safetensors", "huggingface": "safetensors", "transformers": "safetensors", "pytorch": "safetensors", "bin": "safetensors",
	"ggml": "gguf", "llama.cpp": "gguf", "ollama": "gguf", "lora": "peft",
}

// otherChoices are words of other tools for those of a flag, with what to say.
var otherChoices = map[string]map[string]string{
	"task": {
		"causal": "causal-lm", "clm": "causal-lm", "text-generation": "causal-lm", "lm": "causal-lm",
		"seq-2-seq-lm": "seq2seq", "seq2seq-lm": "seq2seq", "summarization": "seq2seq", "translation": "seq2seq",
		"classification": "seq-cls", "text-classification": "seq-cls", "sequence-classification": "seq-cls", "regression": "seq-cls with --problem regression",
		"ner": "token-cls", "token-classification": "token-cls", "tagging": "token-cls",
	},
	"problem": {"multilabel": "multi-label", "multi-label-classification": "multi-label", "single-label-classification": "single-label"},
	"schedule": {
		"constant-with-warmup": "constant, with --warmup", "cosine-with-restarts": "cosine", "cosine-annealing": "cosine", "cosine-with-min-lr": "cosine",
		"none": "constant", "fixed": "constant",
	},
	"train-on": {"completion": "assistant", "answer": "assistant", "answers": "assistant", "everything": "all", "last-turn": "last"},
}

// otherFlags are flags and keys of other tools that have no counterpart.
var otherFlags = map[string]string{
	"optim": aboutAdamW, "optimizer": aboutAdamW, "optimiser": aboutAdamW,
	"load-in-4bit": aboutQLoRA, "load-in-8bit": aboutQLoRA, "quantization-bit": aboutQLoRA, "quantization-config": aboutQLoRA,
	"bf16": aboutFloat, "fp16": aboutFloat, "tf32": aboutFloat, "dtype": aboutFloat, "torch-dtype": aboutFloat,
	"gradient-checkpointing": "activations are kept; --max-seq-len and --batch-size decide how much memory they take",
	"use-dora":               "--method dora, or --set use_dora=true", "use-rslora": "--method rslora, or --set use_rslora=true",
	"packing": "texts are packed unless --no-packing is given", "sample-packing": "texts are packed unless --no-packing is given",
	"device": "peftkit runs on the CPU; --threads says how many cores it uses", "gpu": "peftkit runs on the CPU; --threads says how many cores it uses",
	"n-gpu-layers": "peftkit runs on the CPU; --threads says how many cores it uses", "fp8": aboutFloat,
	"logging-steps": "every step is in metrics.jsonl: leave it out",
}

// wordHint says what to do about a word that names nothing here, "" when the error
// itself says it all.
func wordHint(e *spell.UnknownError) string {
	word := strings.ToLower(e.Word)
	switch e.Kind {
	case "method":
		if about := otherMethods[word]; about != "" {
			return about
		}
		return "peftkit methods lists them"
	case "tensor type":
		if t := otherTypes[word]; t != "" {
			return fmt.Sprintf("did you mean %q?", t)
		}
		if strings.Contains(word, "_k") || strings.HasPrefix(word, "iq") {
			return "k- and i-quants are made by llama.cpp's llama-quantize from a .gguf file in f16 or f32; peftkit writes q4_0, q4_1 and q8_0"
		}
	case "format":
		if f := otherFormats[word]; f != "" {
			return fmt.Sprintf("did you mean %q?", f)
		}
	}
	if name, ok := strings.CutPrefix(e.Kind, "option of "); ok {
		return fmt.Sprintf("peftkit methods %s lists them", name)
	}
	return ""
}

// flagHint says what to give in place of a flag or key that a command lacks.
func flagHint(cmd *cobra.Command, name string) string {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if about := otherFlags[name]; about != "" {
		return about
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	for alias, targets := range aliases {
		if slices.ContainsFunc(targets, func(t string) bool { return cmd.Flags().Lookup(t) != nil }) {
			known = append(known, alias)
		}
	}
	slices.Sort(known)
	near := spell.Nearest(name, known)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("did you mean --%s?", near)
}

// choiceHint says which word of a flag was meant.
func choiceHint(flag, word string, of []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "_", "-")
	if other := otherChoices[flag][word]; other != "" {
		return "did you mean " + other + "?"
	}
	return spell.DidYouMean(word, of)
}

// explained reports a word of other tools that wordHint knows: no guess is needed.
func explained(e *spell.UnknownError) bool {
	word := strings.ToLower(e.Word)
	switch e.Kind {
	case "method":
		return otherMethods[word] != ""
	case "tensor type", "format":
		return wordHint(e) != ""
	}
	return false
}

// unknownWord is the hint of an error about a word, "" when it is about something else.
func unknownWord(err error) string {
	var unknown *spell.UnknownError
	if !errors.As(err, &unknown) {
		return ""
	}
	return wordHint(unknown)
}
