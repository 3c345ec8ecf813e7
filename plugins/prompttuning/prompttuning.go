// Package prompttuning is prompt tuning (Lester et al. 2021, arXiv 2104.08691) as
// a peftkit method: a few trained embeddings stand before every text. Files are
// those of Hugging Face PEFT's PROMPT_TUNING.
package prompttuning

import (
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is prompt tuning. The paper's learning rate is 0.3, with Adafactor; AdamW
// does a little better at 0.1 and learns far more slowly at 0.03; a classifier whose
// prompt begins from a text does better at 0.3. A classifier's head has a tenth of it.
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "prompt-tuning", Aliases: []string{"prompt_tuning", "prompt"}, PeftType: "PROMPT_TUNING", Group: peft.PromptBased,
		Doc:          "trains embeddings that stand before every text",
		Reference:    "Lester et al. 2021, arXiv 2104.08691",
		NotMergeable: "its rows stand before the text: no weight of the model holds them",
		LearningRate: 0.1,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Default: 20, Doc: "number of trained embeddings; 100 in the paper"},
			{Key: "prompt_tuning_init", Flag: "prompt-init", Default: prompts.SampleVocab, Doc: "begin with SAMPLE_VOCAB (embeddings of random tokens), RANDOM (normal numbers) or TEXT"},
			{Key: "prompt_tuning_init_text", Flag: "prompt-text", Doc: "text whose embeddings TEXT begins with"},
			{Key: "tokenizer_name_or_path", Doc: "where PEFT finds the tokenizer of the text; the model's own is used here"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	HeadRate: 0.1,
	Encoder:  encoder,
	Init:     prompts.Begin,
	Attach:   prompts.AttachRows,
	Wrap:     prompts.WaitForText,
}

func encoder(a *prompts.Adapter, _ bool) (prompts.Encoder, error) {
	return prompts.NewDirect(a.Geometry.Rows(), a.Geometry.Width), nil
}
