package peanut

import (
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/nn"
)

// more are activations of transformers that nothing else here needs.
var more = []nn.Activation{
	{Name: "linear", F: func(x float64) float64 { return x }, D: func(float64) float64 { return 1 }},
	{Name: "leaky_relu", F: func(x float64) float64 { return max(x, 0.01*x) }, D: func(x float64) float64 { return pick(x > 0, 1, 0.01) }},
	{Name: "relu6", F: func(x float64) float64 { return min(max(x, 0), 6) }, D: func(x float64) float64 { return pick(x > 0 && x < 6, 1, 0) }},
	{Name: "relu2", F: func(x float64) float64 { return max(x, 0) * max(x, 0) }, D: func(x float64) float64 { return 2 * max(x, 0) }},
	{Name: "quick_gelu", F: func(x float64) float64 { return x * sigmoid(1.702*x) },
		D: func(x float64) float64 { s := sigmoid(1.702 * x); return s * (1 + 1.702*x*(1-s)) }},
	{Name: "mish", F: func(x float64) float64 { return x * math.Tanh(softplus(x)) },
		D: func(x float64) float64 { t := math.Tanh(softplus(x)); return t + x*(1-t*t)*sigmoid(x) }},
	{Name: "hardswish", F: func(x float64) float64 { return x * min(max(x+3, 0), 6) / 6 },
		D: func(x float64) float64 { return pick(x <= -3, 0, pick(x >= 3, 1, x/3+0.5)) }},
}

func sigmoid(x float64) float64  { return 1 / (1 + math.Exp(-x)) }
func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func pick(first bool, a, b float64) float64 {
	if first {
		return a
	}
	return b
}

// activations lists the names that activation knows.
var activations = func() string {
	names := []string{"relu", "sigmoid", "tanh", "silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python", "gelu_accurate", "gelu_python_tanh"}
	for _, a := range more {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}()

// activation finds an activation by transformers' name (ACT2FN). Those with parameters of
// their own (prelu, xielu), and a few that no model has, are left out.
func activation(name string) (nn.Activation, bool) {
	if name == "gelu_accurate" || name == "gelu_python_tanh" {
		name = "gelu_new"
	}
	if i := slices.IndexFunc(more, func(a nn.Activation) bool { return a.Name == name }); i >= 0 {
		return more[i], true
	}
	return nn.ActivationByName(name)
}
