// Package standard is the bundle that the peftkit binary is built with: every
// format, model family and method of this repository, and nothing else.
package standard

import (
	_ "github.com/peftkit/peftkit/formats/gguf"
	_ "github.com/peftkit/peftkit/formats/hfmodel"
	_ "github.com/peftkit/peftkit/formats/hfpeft"
	_ "github.com/peftkit/peftkit/formats/llama2c"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/bert"
	_ "github.com/peftkit/peftkit/model/distilbert"
	_ "github.com/peftkit/peftkit/model/gemma"
	_ "github.com/peftkit/peftkit/model/gpt2"
	_ "github.com/peftkit/peftkit/model/llama"
	_ "github.com/peftkit/peftkit/model/mistral"
	_ "github.com/peftkit/peftkit/model/phi3"
	_ "github.com/peftkit/peftkit/model/qwen2"
	_ "github.com/peftkit/peftkit/model/qwen3"
	_ "github.com/peftkit/peftkit/model/roberta"
	_ "github.com/peftkit/peftkit/model/smollm3"
	_ "github.com/peftkit/peftkit/plugins/adaptionprompt"
	_ "github.com/peftkit/peftkit/plugins/bitfit"
	_ "github.com/peftkit/peftkit/plugins/full"
	_ "github.com/peftkit/peftkit/plugins/ia3"
	_ "github.com/peftkit/peftkit/plugins/lastlayer"
	_ "github.com/peftkit/peftkit/plugins/lntuning"
	_ "github.com/peftkit/peftkit/plugins/lora"
	_ "github.com/peftkit/peftkit/plugins/multitaskprompt"
	_ "github.com/peftkit/peftkit/plugins/prefixtuning"
	_ "github.com/peftkit/peftkit/plugins/prompttuning"
	_ "github.com/peftkit/peftkit/plugins/ptuning"
)
