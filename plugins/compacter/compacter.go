// Package compacter is Compacter and Compacter++ (Mahabadi et al. 2021, arXiv
// 2106.04647): bottleneck adapters whose projections are sums of Kronecker products
// of a small rule, shared by all layers, and of matrices of rank one. Files are
// those of the adapters library. The paper trains the layer norms too, which is the
// combination compacter+ln-tuning.
package compacter

import (
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/hub"
)

func init() {
	peft.Register(Compacter)
	peft.Register(PlusPlus)
}

const why = "the adapter computes a nonlinear function between the layers, which no weight matrix holds"

func options() []peft.Option {
	return []peft.Option{
		{Key: "reduction_factor", Default: 32, Doc: "width of the model divided by that of the bottleneck, which is a multiple of phm_dim (the default is made to fit)"},
		{Key: "non_linearity", Default: "gelu", Doc: "activation in the bottleneck"},
		{Key: "phm_dim", Default: 4, Doc: "number of Kronecker products; divides both widths"},
		{Key: "phm_rank", Default: 1, Doc: "rank of their right factors, if they are factorised"},
		{Key: "factorized_phm_W", Doc: "false keeps the right factors whole"},
		{Key: "shared_W_phm", Doc: "one pair of projections for all layers"},
		{Key: "shared_phm_rule", Doc: "one rule for all layers"},
		{Key: "factorized_phm_rule", Doc: "rules of rank one"},
		{Key: "learn_phm", Doc: "train the rules"},
		{Key: "phm_c_init", Doc: "normal or uniform rules at the start"},
		{Key: "phm_init_range", Doc: "deviation of normal rules at the start, if all layers share one (those of their own have 0.01)"},
		{Key: "phm_bias", Doc: "projections with a bias"},
		{Key: "mh_adapter", Doc: "an adapter at self-attention"},
		{Key: "cross_adapter", Doc: "an adapter at cross-attention"},
		{Key: "original_ln_before", Doc: "add the residual and apply the layer's norm before the adapter"},
		{Key: "original_ln_after", Doc: "and after it"},
		{Key: "residual_before_ln", Doc: "where the adapter's own residual begins: true, false or post_add"},
		{Key: "adapter_residual_before_ln", Doc: "add the adapter's residual before ln_after"},
		{Key: "ln_before", Doc: "a trained norm before the bottleneck"},
		{Key: "ln_after", Doc: "a trained norm after it"},
		{Key: "scaling", Doc: "what the bottleneck's output is multiplied with: a number, learned or channel"},
		{Key: "use_gating", Doc: "multiply the output by a learned gate per sequence"},
		{Key: "dropout", Doc: "dropout on the bottleneck's output"},
		{Key: "leave_out", Doc: "layers without adapters, as a list"},
		hub.NameOption(),
	}
}

// Compacter sits where Houlsby adapters sit. The learning rate is the paper's.
var Compacter = &hub.Method{
	Facts: peft.Info{
		Name: "compacter", PeftType: "compacter",
		Group: peft.AdapterBased, Format: "adapters", NotMergeable: why,
		Doc:          "Houlsby adapters made of Kronecker products with a shared rule",
		Reference:    "Mahabadi et al. 2021, arXiv 2106.04647",
		LearningRate: 3e-3,
		Options:      options(),
	},
	Presets: []hub.Preset{{Values: `{"phm_layer": true, "mh_adapter": true}`}},
	Is: func(s hub.Shape) bool {
		return s.Union == nil && s.Architecture == "" && s.PHM && s.MH
	},
}

// PlusPlus is Compacter++, with adapters after feed-forward alone.
var PlusPlus = &hub.Method{
	Facts: peft.Info{
		Name: "compacterpp", Aliases: []string{"compacter++"}, PeftType: "compacter++",
		Group: peft.AdapterBased, Format: "adapters", NotMergeable: why,
		Doc:          "Compacter after feed-forward alone",
		Reference:    "Mahabadi et al. 2021, arXiv 2106.04647",
		LearningRate: 3e-3,
		Options:      options(),
	},
	Presets: []hub.Preset{{Values: `{"phm_layer": true, "original_ln_before": true}`}},
	Is: func(s hub.Shape) bool {
		return s.Union == nil && s.Architecture == "" && s.PHM && !s.MH
	},
}
