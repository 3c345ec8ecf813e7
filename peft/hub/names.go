package hub

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// base returns the path of the network without head, with a dot at its end:
// "bert.", "model.", or "" in T5.
func (a *Adapter) base() string {
	if len(a.model.Sublayers) == 0 {
		return ""
	}
	first, _, _ := strings.Cut(a.model.Sublayers[0].LayerPath(), ".")
	if first == "encoder" || first == "decoder" {
		return ""
	}
	return first + "."
}

// layerIndex numbers the layers as the library does: those of a decoder go on
// after the encoder's.
func (a *Adapter) layerIndex(stack model.Stack, layer int) int {
	if stack == model.Encoder {
		return layer
	}
	n := 0
	for _, s := range a.model.Sublayers {
		if s.Stack == model.Encoder {
			n = max(n, s.Layer+1)
		}
	}
	return n + layer
}

// sublayerPath returns the module that holds the adapters of a sublayer.
func (a *Adapter) sublayerPath(s *model.Sublayer) string {
	layer := s.LayerPath()
	switch a.model.Type() {
	case "bert", "roberta", "xlm-roberta", "electra":
		if s.Kind == model.FeedForward {
			return layer + ".output"
		}
		return layer + ".attention.output"
	case "t5", "mt5":
		i := 0
		switch {
		case s.Kind == model.CrossAttention, s.Kind == model.FeedForward && s.Stack == model.Encoder:
			i = 1
		case s.Kind == model.FeedForward:
			i = 2
		}
		return fmt.Sprintf("%s.layer.%d", layer, i)
	}
	switch s.Kind {
	case model.SelfAttention:
		return layer + ".attention_adapters"
	case model.CrossAttention:
		return layer + ".cross_attention_adapters"
	}
	return layer + ".output_adapters"
}

// classes are transformers' class names up to the ending for the task.
var classes = map[string]string{
	"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma": "Gemma", "gemma2": "Gemma2",
	"gemma3_text": "Gemma3", "phi3": "Phi3", "gpt2": "GPT2", "bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta",
	"distilbert": "DistilBert", "t5": "T5", "mt5": "MT5", "bart": "Bart", "mbart": "MBart", "marian": "Marian",
}

// class returns the name of the model's class in transformers.
func (a *Adapter) class() string {
	kind, task := a.model.Type(), a.model.Options.Task
	name := classes[kind]
	switch {
	case name == "":
		name = kind
	case task == model.CausalLM && kind == "gpt2":
		return "GPT2LMHeadModel"
	case task == model.CausalLM:
		return name + "ForCausalLM"
	case task == model.Seq2SeqLM && kind == "marian":
		return "MarianMTModel"
	}
	if suffix := task.Suffix(); suffix != "" {
		return name + suffix
	}
	return name + "Model"
}

// about lists what a configuration says of its model.
func (a *Adapter) about() map[string]any {
	return map[string]any{
		"hidden_size": a.model.HiddenSize, "model_class": a.class(), "model_name": a.model.Source.Path,
		"model_type": a.model.Type(), "version": version,
	}
}

// describe fills in a fresh configuration.
func (a *Adapter) describe() {
	about := a.about()
	about["name"] = a.name
	for k, v := range about {
		b, err := json.Marshal(v)
		if err != nil {
			panic("hub: " + err.Error()) // strings and numbers
		}
		a.file.raw[k] = b
	}
}

// fits compares what a saved configuration says of its model with the model.
func (a *Adapter) fits() error {
	if kind := a.file.str("model_type"); kind != "" && kind != a.model.Type() {
		return fmt.Errorf("the adapter is for a model of type %q, this one is %q: %w", kind, a.model.Type(), peft.ErrNoMatch)
	}
	var hidden *int
	if json.Unmarshal(a.file.raw["hidden_size"], &hidden) == nil && hidden != nil && *hidden != a.model.HiddenSize {
		return fmt.Errorf("the adapter is for %d features, this model has %d: %w", *hidden, a.model.HiddenSize, peft.ErrNoMatch)
	}
	return nil
}
