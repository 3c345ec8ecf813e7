// Package attentionprefix is prefix tuning (Li and Liang 2021, arXiv 2101.00190)
// as the adapters library has it: keys and values per kind of attention, learned
// directly or through an MLP that stays in the file, without moving the positions
// of the text. Plugin prefixtuning is the form of Hugging Face PEFT.
package attentionprefix

import (
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/hub"
)

func init() { peft.Register(Method) }

// Method is the library's prefix_tuning; flat makes it prefix_tuning_flat. The
// learning rate is that of Mao et al. 2022 for prefix tuning (arXiv 2110.07577).
var Method = &hub.Method{
	Facts: peft.Info{
		Name: "attention-prefix", PeftType: "prefix_tuning",
		Group: peft.PromptBased, Format: "adapters",
		NotMergeable: "keys and values before the text's are no part of any weight",
		Doc:          "prefix tuning in the form of the adapters library",
		Reference:    "Li and Liang 2021, arXiv 2101.00190",
		LearningRate: 2e-4,
		Options: []peft.Option{
			{Key: "prefix_length", Default: 30, Doc: "learned keys and values per attention"},
			{Key: "flat", Default: false, Doc: "learn them directly instead of through an MLP"},
			{Key: "bottleneck_size", Default: 512, Doc: "width of the MLP"},
			{Key: "non_linearity", Default: "tanh", Doc: "activation of the MLP"},
			{Key: "encoder_prefix", Default: true, Doc: "a prefix in the encoder of an encoder-decoder model"},
			{Key: "cross_prefix", Default: true, Doc: "a prefix in cross-attention"},
			{Key: "use_gating", Default: false, Doc: "multiply the prefix by a learned gate per sequence"},
			{Key: "shared_gating", Default: true, Doc: "one gate for keys and values"},
			{Key: "dropout", Default: 0.0, Doc: "dropout on keys and values"},
			{Key: "leave_out", Doc: "layers without a prefix, as a list"},
			hub.NameOption(),
		},
	},
	Presets: []hub.Preset{{Architecture: "prefix_tuning"}},
	Is:      func(s hub.Shape) bool { return s.Union == nil && s.Architecture == "prefix_tuning" },
}
