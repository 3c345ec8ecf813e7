// Package unipelt is UniPELT (Mao et al. 2022, arXiv 2110.07577): prefix tuning,
// a sequential adapter and LoRA at once, each behind a gate that is learned per
// layer and computed per sequence, as one union of the adapters library.
//
// A gate is the mean over all tokens of its sequence, those to come included. A
// decoder that writes token by token computes it over the token that it reads, as
// the library does: its logits are then others than those of the whole text.
package unipelt

import (
	"slices"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/hub"
)

func init() { peft.Register(Method) }

// Method is the library's unipelt. The learning rate is the paper's.
var Method = &hub.Method{
	Facts: peft.Info{
		Name: "unipelt", PeftType: "unipelt",
		Group: peft.AdapterBased, Format: "adapters",
		NotMergeable: "its gates depend on the text",
		Doc:          "prefix tuning, adapters and LoRA, each behind a learned gate",
		Reference:    "Mao et al. 2022, arXiv 2110.07577",
		LearningRate: 5e-4,
		Options: []peft.Option{
			{Key: "prefix_length", Default: 10, Doc: "learned keys and values per attention"},
			{Key: "bottleneck_size", Default: 512, Doc: "width of the MLP that makes them"},
			{Key: "flat", Default: false, Doc: "learn them directly instead"},
			{Key: "reduction_factor", Default: 16, Doc: "width of the model divided by that of the adapter"},
			{Key: "r", Flag: "rank", Default: 8, Doc: "rank of LoRA"},
			{Key: "alpha", Default: 2, Doc: "kept in the file; a gate replaces alpha/r"},
			{Key: "attn_matrices", Doc: "projections with LoRA, of q, k and v"},
			{Key: "use_gating", Default: true, Doc: "gates; without them the parts are simply added"},
			{Key: "non_linearity", Default: "relu", Doc: "activation of the adapter"},
			{Key: "dropout", Doc: "dropout in all parts"},
			{Key: "leave_out", Doc: "layers to leave alone, as a list"},
			hub.NameOption(),
		},
	},
	Union: true,
	Presets: []hub.Preset{
		{Architecture: "prefix_tuning", Values: `{"prefix_length": 10, "use_gating": true}`},
		{Values: `{"original_ln_before": true, "use_gating": true}`},
		{Architecture: "lora", Values: `{"alpha": 2, "use_gating": true}`},
	},
	Is: func(s hub.Shape) bool { return s.Union != nil && slices.Contains(s.Union, "lora") },
}
