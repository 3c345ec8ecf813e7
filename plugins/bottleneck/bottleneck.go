// Package bottleneck is three methods that add small feed-forward blocks to a
// network, the files of all of which are those of the adapters library:
// Houlsby adapters after attention and feed-forward (double_seq_bn), Pfeiffer
// adapters after feed-forward alone (seq_bn), and parallel adapters beside it
// (par_bn).
package bottleneck

import (
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/hub"
)

func init() {
	for _, m := range []*hub.Method{Houlsby, Pfeiffer, Parallel} {
		peft.Register(m)
	}
}

// why is what merge-lora says.
const why = "the adapter computes a nonlinear function between the layers, which no weight matrix holds"

// options lists the keys that a user sets, with the preset's values.
func options(factor int, activation string, more ...peft.Option) []peft.Option {
	return append([]peft.Option{
		{Key: "reduction_factor", Default: factor, Doc: "width of the model divided by that of the bottleneck; an object gives one per layer"},
		{Key: "non_linearity", Default: activation, Doc: "activation in the bottleneck: relu, swish, gelu, gelu_new, tanh, leakyrelu"},
		{Key: "mh_adapter", Doc: "an adapter at self-attention"},
		{Key: "output_adapter", Doc: "an adapter at the feed-forward block"},
		{Key: "cross_adapter", Doc: "an adapter at cross-attention"},
		{Key: "original_ln_before", Doc: "add the residual and apply the layer's norm before the adapter"},
		{Key: "original_ln_after", Doc: "and after it"},
		{Key: "residual_before_ln", Doc: "where the adapter's own residual begins: true, false or post_add"},
		{Key: "adapter_residual_before_ln", Doc: "add the adapter's residual before ln_after"},
		{Key: "ln_before", Doc: "a trained norm before the bottleneck"},
		{Key: "ln_after", Doc: "a trained norm after it"},
		{Key: "init_weights", Doc: "bert (normal, 0.02), mam_adapter (the adapter begins as nothing) or houlsby"},
		{Key: "scaling", Doc: "what the bottleneck's output is multiplied with: a number, learned or channel"},
		{Key: "use_gating", Doc: "multiply the output by a learned gate per sequence"},
		{Key: "dropout", Doc: "dropout on the bottleneck's output"},
		{Key: "leave_out", Doc: "layers without adapters, as a list"},
		hub.NameOption(),
	}, more...)
}

// Houlsby is double_seq_bn. The paper finds learning rates up to 1e-3 to work
// alike (section 3.5).
var Houlsby = &hub.Method{
	Facts: peft.Info{
		Name: "houlsby", Aliases: []string{"double_seq_bn"}, PeftType: "double_seq_bn",
		Group: peft.AdapterBased, Format: "adapters", NotMergeable: why,
		Doc:          "small feed-forward blocks after attention and after feed-forward",
		Reference:    "Houlsby et al. 2019, arXiv 1902.00751",
		LearningRate: 1e-3,
		Options:      options(16, "swish"),
	},
	Presets: []hub.Preset{{Values: `{"mh_adapter": true}`}},
	Is:      func(s hub.Shape) bool { return single(s) && s.MH && s.Output && !s.Parallel },
}

// Pfeiffer is seq_bn. The learning rate is that of the paper and of the library's
// documentation.
var Pfeiffer = &hub.Method{
	Facts: peft.Info{
		Name: "pfeiffer", Aliases: []string{"seq_bn"}, PeftType: "seq_bn",
		Group: peft.AdapterBased, Format: "adapters", NotMergeable: why,
		Doc:          "small feed-forward blocks after feed-forward",
		Reference:    "Pfeiffer et al. 2020, arXiv 2005.00247",
		LearningRate: 1e-4,
		Options:      options(16, "relu"),
	},
	Presets: []hub.Preset{{Values: `{"original_ln_before": true}`}},
	Is:      func(s hub.Shape) bool { return single(s) && !s.Parallel && !(s.MH && s.Output) },
}

// Parallel is par_bn; scaling learned makes it scaled_par_bn. The learning rate is
// the paper's for classification.
var Parallel = &hub.Method{
	Facts: peft.Info{
		Name: "parallel", Aliases: []string{"par_bn", "parallel-adapter"}, PeftType: "par_bn",
		Group: peft.AdapterBased, Format: "adapters", NotMergeable: why,
		Doc:          "feed-forward blocks beside feed-forward, scaled",
		Reference:    "He et al. 2021, arXiv 2110.04366",
		LearningRate: 1e-4, WeightDecay: 0.01,
		Options: options(2, "relu"),
	},
	Presets: []hub.Preset{{Values: `{"init_weights": "mam_adapter", "is_parallel": true, "scaling": 4.0}`}},
	Is:      func(s hub.Shape) bool { return single(s) && s.Parallel },
}

// single reports whether a configuration is one bottleneck without PHM.
func single(s hub.Shape) bool { return s.Union == nil && s.Architecture == "" && !s.PHM }
