// Package xlora is X-LoRA (Buehler and Buehler 2024, arXiv 2402.07148) as a peftkit
// method: a small classifier reads what the model computes at a token and weighs the
// LoRA adapters that were trained before. Each forward pass is two, the first without
// the adapters. Files are those of Hugging Face PEFT's XLORA: the classifier, and the
// paths of the adapters in its configuration.
//
// PEFT 0.21 leaves the first layer of the classifier out when it saves (it takes the 0
// in its name for that of an adapter): such a file is incomplete and refused. PEFT
// reads the files that are written here.
package xlora

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

func init() { peft.Register(Method) }

// Method is X-LoRA. Neither paper nor library names a learning rate for the classifier
// alone.
var Method peft.Method = method{}

type method struct{}

// Info implements peft.Method.
func (method) Info() peft.Info {
	return peft.Info{
		Name: "xlora", Aliases: []string{"x-lora"}, PeftType: "XLORA", Group: peft.Reparametrisation,
		Doc:          "weighs LoRA adapters that exist, token by token, by a trained classifier",
		Reference:    "Buehler and Buehler 2024, arXiv 2402.07148",
		NotMergeable: "how much of each adapter is used depends on the text",
		LearningRate: 1e-3,
		Options: []peft.Option{
			{Key: "adapters", Needed: "lora-1,lora-2", Doc: "folders of LoRA adapters of this model; has to be given"},
			{Key: "xlora_depth", Default: 1, Doc: "layers of the classifier"},
			{Key: "xlora_size", Default: 2048, Doc: "width of its hidden layers"},
			{Key: "xlora_dropout_p", Flag: "dropout", Default: 0.2, Doc: "dropout behind its hidden layers"},
			{Key: "layerwise_scalings", Default: false, Doc: "weights for each adapted layer, instead of one for all"},
			{Key: "enable_softmax", Default: true, Doc: "weights that add up to 1"},
			{Key: "softmax_temperature", Default: 1.0, Doc: "what the classifier's output is divided by before"},
			{Key: "top_k_lora", Doc: "use the adapters of the largest weights alone"},
			{Key: "enable_softmax_topk", Default: false, Doc: "softmax over those"},
			{Key: "scaling_pass_value", Default: 0.0, Doc: "weight of every adapter in the first pass"},
			{Key: "global_scaling_weight", Default: 1.0, Doc: "factor of all adapters"},
		},
	}
}

type config struct {
	Adapters     json.RawMessage `json:"adapters"`
	HiddenSize   int             `json:"hidden_size"`
	Depth        int             `json:"xlora_depth"`
	Size         int             `json:"xlora_size"`
	Dropout      float64         `json:"xlora_dropout_p"`
	Layerwise    bool            `json:"layerwise_scalings"`
	Softmax      bool            `json:"enable_softmax"`
	Temperature  float64         `json:"softmax_temperature"`
	TopK         *int            `json:"top_k_lora"`
	SoftmaxTopK  bool            `json:"enable_softmax_topk"`
	First        float64         `json:"scaling_pass_value"`
	Global       float64         `json:"global_scaling_weight"`
	TrainExperts bool            `json:"use_trainable_adapters"`

	paths []string
}

// New implements peft.Method.
func (mt method) New(m *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	cfg, err := peft.NewConfig(o, mt.Info(), m)
	if err != nil {
		return nil, err
	}
	cfg.Set("hidden_size", m.HiddenSize)
	a, err := build(cfg, m, "")
	if err != nil {
		return nil, err
	}
	named := map[string]string{} // PEFT calls them by number
	for i, p := range a.c.paths {
		if named[strconv.Itoa(i)], err = filepath.Abs(p); err != nil {
			return nil, err
		}
	}
	cfg.Set("adapters", named)
	rng := rand.New(rand.NewPCG(seed, 0x786c6f7261))
	for i, w := range a.weights {
		bound := 1 / math.Sqrt(float64(w.V.Cols))
		tuner.Uniform(w.V.Data, bound, rng.Float64)
		tuner.Uniform(a.biases[i].V.Data, bound, rng.Float64)
	}
	a.attach(m, 1)
	return a, nil
}

// Load implements peft.Method. A scale multiplies the effect of all adapters.
func (mt method) Load(m *model.Model, f *formats.Adapter, scale float32) (peft.Adapter, error) {
	cfg, err := peft.ParseConfig(f.Config)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	a, err := build(cfg, m, f.Path)
	if err != nil {
		return nil, formats.At(f.Path, err)
	}
	set, err := peft.ExactTensorSet(f)
	if err != nil {
		return nil, err
	}
	if first := a.weights[0].Name; !set.Has(first) && !slices.ContainsFunc(set.Rest(), a.foreign) {
		kind := peft.ErrTensors
		if len(f.Tensors) == 0 {
			kind = peft.ErrNoMatch
		}
		return nil, fmt.Errorf("%s: %s is not in the file: PEFT 0.21 leaves the first layer of the classifier out when it saves; write model.state_dict()'s tensors with internal_xlora_classifier in their names to adapter_model.safetensors: %w",
			f.Path, first, kind)
	}
	if err := set.Fill(a.Params()...); err != nil {
		return nil, err
	}
	a.attach(m, scale)
	return a, nil
}

// foreign reports whether a name is of no tensor of the classifier.
func (a *adapter) foreign(name string) bool {
	return !slices.ContainsFunc(a.Params(), func(p *nn.Param) bool { return p.Name == name })
}

// adapter is a classifier with the adapters that it weighs.
type adapter struct {
	cfg             *peft.Config
	c               config
	weights, biases []*nn.Param // of the classifier's layers
	layers          []*layer

	// What the pass under way weighs the adapters with, [rows, adapters] or with a
	// weight for each layer [rows, layers*adapters]; nil leaves them out.
	scalings *nn.Var
}

// build reads the adapters and declares the classifier. home is the folder of a saved
// X-LoRA, "" for a new one.
func build(cfg *peft.Config, m *model.Model, home string) (*adapter, error) {
	if m.EncoderDecoder() || m.Options.Task != model.CausalLM && m.Options.Task != "" {
		return nil, fmt.Errorf("X-LoRA is for causal language models: lora fits other models and tasks: %w", peft.ErrNoFit)
	}
	a := &adapter{cfg: cfg, c: config{HiddenSize: m.HiddenSize, Depth: 1, Size: 2048, Dropout: 0.2, Softmax: true, Temperature: 1, Global: 1}}
	if err := cfg.Decode(&a.c); err != nil {
		return nil, err
	}
	if err := a.c.check(m, home); err != nil {
		return nil, err
	}
	if err := a.experts(m); err != nil {
		return nil, err
	}
	classes := len(a.c.paths)
	if a.c.Layerwise {
		classes *= len(a.layers)
	}
	in, step := m.HiddenSize, 2
	if a.c.Dropout > 0 {
		step = 3
	}
	for i := range a.c.Depth {
		out := a.c.Size
		if i == a.c.Depth-1 {
			out = classes
		}
		name := fmt.Sprintf("base_model.internal_xlora_classifier.layers.%d.", i*step)
		a.weights, a.biases = append(a.weights, nn.NewParam(name+"weight", out, in)), append(a.biases, nn.NewParam(name+"bias", out))
		in = out
	}
	for _, mod := range m.Modules {
		if cfg.Saves(mod.Path) {
			return nil, tuner.Invalid("modules_to_save names %s: X-LoRA trains its classifier alone, as in PEFT", mod.Path)
		}
	}
	return a, nil
}

func (c *config) check(m *model.Model, home string) error {
	var err error
	if c.paths, err = folders(c.Adapters, home); err != nil {
		return err
	}
	switch {
	case len(c.paths) == 0:
		return tuner.Invalid("adapters is empty: X-LoRA weighs LoRA adapters that exist; train some with --method lora and give their folders: --set adapters=FOLDER,FOLDER")
	case c.HiddenSize != m.HiddenSize:
		return tuner.Invalid("hidden_size is %d, the model's is %d", c.HiddenSize, m.HiddenSize)
	case c.Depth < 1 || c.Depth > 64:
		return tuner.Invalid("xlora_depth is %d, expected 1 to 64", c.Depth)
	case c.Size < 1 || c.Size > 1<<16:
		return tuner.Invalid("xlora_size is %d, expected 1 to %d", c.Size, 1<<16)
	case c.TrainExperts:
		return tuner.Invalid("use_trainable_adapters is true: the adapters would be trained and not saved, in PEFT too; leave it false")
	case !(c.Temperature > 0):
		return tuner.Invalid("softmax_temperature is %g, expected a positive number", c.Temperature)
	case c.TopK != nil && *c.TopK < 1:
		return tuner.Invalid("top_k_lora is %d, expected 1 or more", *c.TopK)
	case c.TopK != nil && *c.TopK > len(c.paths):
		return tuner.Invalid("top_k_lora is %d, there are %d adapters", *c.TopK, len(c.paths))
	case c.TopK != nil && c.First != 0:
		return tuner.Invalid("scaling_pass_value is %g with top_k_lora: which of equal weights are the largest is not defined; leave it 0", c.First)
	}
	return tuner.CheckShare("xlora_dropout_p", c.Dropout)
}

// folders reads adapters: a string with commas, a list, or PEFT's object of names and
// paths. One that is gone is looked for in the folder of that name within home, where
// PEFT puts copies.
func folders(raw json.RawMessage, home string) ([]string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var named map[string]string
	var list peft.OneOrMany
	if json.Unmarshal(raw, &named) != nil {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, tuner.Invalid("adapters is %.60s, expected folders", raw)
		}
		return list, nil
	}
	names := slices.Collect(maps.Keys(named))
	slices.SortFunc(names, func(a, b string) int { // in the order of their numbers
		if i, j, err := numbers(a, b); err == nil {
			return i - j
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		path := named[name]
		if _, err := os.Stat(path); err != nil && home != "" {
			if inner := filepath.Join(home, name); exists(inner) {
				path = inner
			}
		}
		list = append(list, path)
	}
	return list, nil
}

func numbers(a, b string) (i, j int, err error) {
	if i, err = strconv.Atoi(a); err == nil {
		j, err = strconv.Atoi(b)
	}
	return i, j, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Params implements peft.Adapter.
func (a *adapter) Params() (out []*nn.Param) {
	for i, w := range a.weights {
		out = append(out, w, a.biases[i])
	}
	return out
}

// Config implements peft.Adapter. PEFT's configuration has no modules_to_save.
func (a *adapter) Config() (json.RawMessage, error) {
	a.cfg.Remove("modules_to_save")
	return a.cfg.JSON()
}

// Summary implements peft.Adapter.
func (a *adapter) Summary() string {
	return fmt.Sprintf("X-LoRA over %d adapters in %d layers", len(a.c.paths), len(a.layers))
}
