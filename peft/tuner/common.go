package tuner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// queryValue is PEFT's table of LoRA's targets, which most methods share: the
// query and value projections. Types marked with a star are not in it.
var queryValue = map[string][]string{
	"gpt2": {"c_attn"}, "bert": {"query", "value"}, "roberta": {"query", "value"}, "xlm-roberta": {"query", "value"},
	"distilbert": {"q_lin", "v_lin"}, // *
	"t5":         {"q", "v"}, "mt5": {"q", "v"},
	"phi3": {"qkv_proj"}, // *
}

// QueryValue is a Method.Targets: PEFT's choice for LoRA and most others.
func QueryValue(c *peft.Config, m *model.Model) error { return TargetTable(nil)(c, m) }

// TargetTable returns a Method.Targets that chooses by model type: an entry of
// special, else the query and value projections.
func TargetTable(special map[string][]string) func(c *peft.Config, m *model.Model) error {
	return func(c *peft.Config, m *model.Model) error {
		list := special[m.Type()]
		if list == nil {
			list = queryValue[m.Type()]
		}
		if list == nil {
			list = []string{"q_proj", "v_proj"}
		}
		c.SetTargets(peft.Targets{List: list})
		return nil
	}
}

// Options returns a method's own options followed by those that every method on
// this package has. targets is the default of target_modules, "" for PEFT's table.
func Options(targets string, own ...peft.Option) []peft.Option {
	o := peft.Option{Key: "target_modules", Flag: "target-modules", Doc: "suffixes, a regular expression, or all-linear"}
	if targets != "" {
		o.Default = targets
	}
	return append(own, o,
		peft.Option{Key: "exclude_modules", Doc: "suffixes or a regular expression of modules to leave alone"},
		peft.Option{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		peft.Option{Key: "layers_to_transform", Doc: "only these layers: a number or a list"},
		peft.Option{Key: "layers_pattern", Doc: "name of the list of layers, where it is not the first numbered one"},
	)
}

// BiasOption is the option about biases, for methods whose files have it.
func BiasOption(method string) peft.Option {
	return peft.Option{Key: "bias", Default: "none", Doc: "biases to train too: none, " + method + "_only or all"}
}

// Refuse returns an error when a key of the configuration has a value that the
// method does not compute. only lists, for each such key, the values as JSON that
// change nothing; absent and null always pass.
func Refuse(c *peft.Config, only map[string][]string) error {
	for _, key := range slices.Sorted(maps.Keys(only)) {
		v := c.Raw(key)
		if v == nil || slices.Contains(only[key], oneLine(v)) {
			continue
		}
		if why := refusals[key]; why != "" {
			return Invalid("%s is %.60s: %s", key, oneLine(v), why)
		}
		return Invalid("%s is %.60s, which this peftkit does not compute; without it the numbers would be wrong: merge the adapter in PEFT and use the merged model", key, oneLine(v))
	}
	return nil
}

// ActivatedLoRA is the key of aLoRA.
const ActivatedLoRA = "alora_invocation_tokens"

// refusals say of keys that are no matter of numbers alone why they are not computed,
// and what to do.
var refusals = map[string]string{
	"layer_replication": "the adapter is for a model with layers repeated, which this peftkit does not build and PEFT does not merge; use it in PEFT, or train one for the model as it is",
	"target_parameters": "it changes bare parameters (the experts of a mixture), which this peftkit does not compute; merge it in PEFT (merge_and_unload) and use the merged model",
	ActivatedLoRA:       RefusedALoRA,
}

// RefusedALoRA says what to do with an activated LoRA.
const RefusedALoRA = "an activated LoRA changes the text from these tokens on only, which this peftkit does not compute and weights cannot hold; use it in PEFT, or train a LoRA without them"

// oneLine is a value as JSON without the white space of the file.
func oneLine(v json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, v) != nil {
		return string(v)
	}
	return b.String()
}

// Invalid returns an error about adapter_config.json that wraps peft.ErrConfig.
func Invalid(format string, args ...any) error {
	return fmt.Errorf("adapter_config.json: "+format+": %w", append(args, peft.ErrConfig)...)
}

// CheckRank refuses ranks that are not from 1 to 65536.
func CheckRank(key string, r int) error {
	if r < 1 || r > 1<<16 {
		return Invalid("%s is %d, expected 1 to %d", key, r, 1<<16)
	}
	return nil
}

// CheckShare refuses probabilities that are not in [0, 1).
func CheckShare(key string, p float64) error {
	if !(p >= 0 && p < 1) {
		return Invalid("%s is %g, expected at least 0 and below 1", key, p)
	}
	return nil
}

// DropMask returns n numbers in one column, 0 with probability p and else 1, as a
// constant; with mean they are divided by their mean. It returns nil when the tape
// does not train or p is 0: nothing is dropped.
func DropMask(t *nn.Tape, n int, p float64, mean bool) *nn.Var {
	if !t.Train || p == 0 {
		return nil
	}
	ones := &nn.Var{Rows: n, Cols: 1, Data: make([]float32, n)}
	for i := range ones.Data {
		ones.Data[i] = 1
	}
	out := &nn.Var{Rows: n, Cols: 1, Data: make([]float32, n)}
	kept := 0
	for i, v := range nn.Dropout(t, ones, float32(p)).Data {
		if v != 0 {
			out.Data[i] = 1
			kept++
		}
	}
	if mean && kept > 0 {
		kernels.Scale(out.Data, float32(n)/float32(kept))
	}
	return out
}

// Constant returns a variable without gradient over data.
func Constant(data []float32, rows, cols int) *nn.Var {
	return &nn.Var{Rows: rows, Cols: cols, Data: data}
}

// AddProduct adds scale times a·b to w, a as [rows of w, r] and b as [r, columns].
func AddProduct(w, a, b kernels.Mat, scale float32) {
	if scale != 0 { // Gemm takes 0 for 1
		kernels.Gemm(w, true, kernels.Term{A: a, B: b, Scale: scale})
	}
}

// SetFanInFanOut writes the key fan_in_fan_out as PEFT does: true for GPT-2's
// Conv1D.
func (a *Adapter) SetFanInFanOut() {
	a.Cfg.Set("fan_in_fan_out", slices.ContainsFunc(a.Places, func(p *Place) bool {
		w := p.Mod.Weight()
		return w.Transposed || w.Conv1D
	}))
}

// Divisor returns the largest number up to limit that divides the sizes of all
// modules that the adapter targets: the length of blocks that fits everywhere.
func (p *Place) Divisor(limit int) (int, error) {
	all := 0
	for _, m := range p.Model.Modules {
		if m.Linear == nil || p.ad.Cfg.Saves(m.Path) {
			continue
		}
		hit, err := p.ad.Cfg.Hits(m)
		if err != nil {
			return 0, err
		}
		if hit {
			all = gcd(gcd(all, m.Weight().Out), m.Weight().In)
		}
	}
	for d := min(limit, all); d > 1; d-- {
		if all%d == 0 {
			return d, nil
		}
	}
	return 1, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Turned returns the same weight as the linear map back, from outputs to inputs: a
// product with it is one with the weight's transpose, and its gradients go to the
// weight.
func Turned(w *nn.Weight) *nn.Weight {
	return &nn.Weight{Name: w.Name, Out: w.In, In: w.Out, Transposed: !w.Transposed, Frozen: w.Frozen, P: w.P}
}
