// Package mam is the mix-and-match adapter of He et al. 2021 (arXiv 2110.04366):
// prefix tuning at every attention and a parallel adapter at every feed-forward
// block, as one union of the adapters library.
package mam

import (
	"slices"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/hub"
)

func init() { peft.Register(Method) }

// Method is the library's mam. The learning rate is the paper's for
// classification.
var Method = &hub.Method{
	Facts: peft.Info{
		Name: "mam", Aliases: []string{"mix-and-match"}, PeftType: "mam",
		Group: peft.AdapterBased, Format: "adapters",
		NotMergeable: "prefixes and nonlinear adapters are no part of any weight",
		Doc:          "prefix tuning with parallel adapters",
		Reference:    "He et al. 2021, arXiv 2110.04366",
		LearningRate: 1e-4, WeightDecay: 0.01,
		Options: []peft.Option{
			{Key: "prefix_length", Default: 30, Doc: "learned keys and values per attention"},
			{Key: "bottleneck_size", Default: 800, Doc: "width of the MLP that makes them"},
			{Key: "flat", Default: false, Doc: "learn them directly instead"},
			{Key: "reduction_factor", Default: 2, Doc: "width of the model divided by that of the adapter"},
			{Key: "scaling", Doc: "what the adapter's output is multiplied with: a number, learned or channel"},
			{Key: "non_linearity", Default: "relu", Doc: "activation of the adapter"},
			{Key: "dropout", Doc: "dropout on prefixes and adapters"},
			{Key: "leave_out", Doc: "layers to leave alone, as a list"},
			hub.NameOption(),
		},
	},
	Union: true,
	Presets: []hub.Preset{
		{Architecture: "prefix_tuning", Values: `{"bottleneck_size": 800}`},
		{Values: `{"reduction_factor": 2, "init_weights": "mam_adapter", "is_parallel": true, "scaling": 4.0}`},
	},
	// Unions of other shapes without LoRA are read by it too.
	Is: func(s hub.Shape) bool { return s.Union != nil && !slices.Contains(s.Union, "lora") },
}
