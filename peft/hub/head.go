package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// headConfigName is the file that describes the head beside the adapter.
const headConfigName = "head_config.json"

// headFile is head_config.json. Config is that of a flexible head; a head of
// transformers' own has none.
type headFile struct {
	Config *struct {
		Type       string         `json:"head_type"`
		Labels     int            `json:"num_labels"`
		Layers     int            `json:"layers"`
		Activation string         `json:"activation_function"`
		Pooler     bool           `json:"use_pooler"`
		LabelID    map[string]int `json:"label2id"`
	} `json:"config"`
	Name    string         `json:"name"`
	Class   string         `json:"model_class"`
	Labels  int            `json:"num_labels"`
	LabelID map[string]int `json:"label2id"`
}

// headConfig returns head_config.json as the library writes it for a model of
// transformers with a head.
func (a *Adapter) headConfig() ([]byte, error) {
	about := a.about()
	about["name"], about["config"] = nil, nil
	ids := map[string]int{}
	for i, l := range a.model.Options.Labels {
		ids[l] = i
	}
	about["label2id"], about["num_labels"] = ids, len(a.model.Options.Labels)
	return json.MarshalIndent(about, "", "  ")
}

// readHead returns the description of the head of a file, nil when it has none.
func readHead(a *formats.Adapter) (*headFile, error) {
	raw := a.Files[headConfigName]
	if raw == nil {
		return nil, nil
	}
	h := &headFile{}
	if err := json.Unmarshal(raw, h); err != nil {
		return nil, fmt.Errorf("%s: %s: %w: %w", a.Path, headConfigName, err, peft.ErrConfig)
	}
	return h, nil
}

// OptionsFor implements peft.Tasker: the task and the labels of the head.
func (m *Method) OptionsFor(a *formats.Adapter) (model.Options, error) {
	h, err := readHead(a)
	if h == nil || err != nil {
		return model.Options{}, err
	}
	var o model.Options
	n, ids := h.Labels, h.LabelID
	if h.Config != nil {
		switch h.Config.Type {
		case "classification":
			o.Task = model.SequenceClassification
		case "multilabel_classification":
			o.Task, o.Problem = model.SequenceClassification, model.MultiLabel
		case "tagging":
			o.Task = model.TokenClassification
		case "causal_lm":
			o.Task = model.CausalLM
		case "seq2seq_lm":
			o.Task = model.Seq2SeqLM
		default:
			return o, fmt.Errorf("%s: a head of type %q: %w", a.Path, h.Config.Type, model.ErrUnsupported)
		}
		n, ids = h.Config.Labels, h.Config.LabelID
	} else {
		for _, t := range []model.Task{model.SequenceClassification, model.TokenClassification} {
			if strings.HasSuffix(h.Class, t.Suffix()) {
				o.Task = t
			}
		}
	}
	if o.Task != model.SequenceClassification && o.Task != model.TokenClassification {
		return o, nil
	}
	if n = max(n, len(ids)); n < 1 || n > 1<<20 {
		return o, fmt.Errorf("%s: %s: a head of %d labels: %w", a.Path, headConfigName, n, peft.ErrConfig)
	}
	o.Labels = make([]string, n)
	for i := range o.Labels {
		o.Labels[i] = fmt.Sprintf("LABEL_%d", i)
	}
	for label, id := range ids {
		if id < 0 || id >= n {
			return o, fmt.Errorf("%s: %s: label %q has number %d of %d: %w", a.Path, headConfigName, label, id, n, peft.ErrConfig)
		}
		o.Labels[id] = label
	}
	return o, nil
}

// flexible lists, for a family's classification head, the layers of the library's
// flexible head that compute the same: the number of layers, activation and
// pooler, and our module for each position in its list of layers.
var flexible = map[string]struct {
	layers     int
	activation string
	pooler     bool
	modules    map[string]string
}{
	"bert":        {1, "", true, map[string]string{"1": "classifier"}},
	"roberta":     {2, "tanh", false, map[string]string{"1": "classifier.dense", "4": "classifier.out_proj"}},
	"xlm-roberta": {2, "tanh", false, map[string]string{"1": "classifier.dense", "4": "classifier.out_proj"}},
	"distilbert":  {2, "relu", false, map[string]string{"1": "pre_classifier", "4": "classifier"}},
}

var errHead = errors.New("the head computes otherwise")

// headNames maps the names of a flexible head to ours.
func (a *Adapter) headNames(h *headFile) (func(string) string, error) {
	same := func(s string) string { return s }
	if h == nil || h.Config == nil {
		return same, nil
	}
	prefix := "heads." + h.Name + "."
	modules := map[string]string{"1": "classifier"}
	if a.model.Options.Task == model.SequenceClassification {
		f, ok := flexible[a.model.Type()]
		if !ok || f.layers != h.Config.Layers || f.pooler != h.Config.Pooler || f.layers > 1 && f.activation != h.Config.Activation {
			return nil, fmt.Errorf("%s: a flexible head of %d layers, activation %q, pooler %v: %w than %s's; load the adapter without head_config.json to train a new one: %w",
				headConfigName, h.Config.Layers, h.Config.Activation, h.Config.Pooler, errHead, a.class(), peft.ErrConfig)
		}
		modules = f.modules
	} else if a.model.Options.Task == model.TokenClassification && h.Config.Layers != 1 {
		return nil, fmt.Errorf("%s: a flexible head of %d layers: %w than %s's: %w", headConfigName, h.Config.Layers, errHead, a.class(), peft.ErrConfig)
	}
	return func(name string) string {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			return name
		}
		at, leaf, _ := strings.Cut(rest, ".")
		if to := modules[at]; to != "" {
			return to + "." + leaf
		}
		return name
	}, nil
}

// fill reads the parameters from a file.
func (a *Adapter) fill(file *formats.Adapter) error {
	h, err := readHead(file)
	if err != nil {
		return err
	}
	rename, err := a.headNames(h)
	if err != nil {
		return formats.At(file.Path, err)
	}
	want := map[string]bool{}
	for _, p := range a.saved {
		want[p.Name] = true
	}
	for _, w := range a.twins {
		want[w.name] = true
	}
	own := *file
	own.Tensors = nil
	for _, t := range file.Tensors {
		c := *t
		c.Name = a.modern(rename(t.Name), want)
		own.Tensors = append(own.Tensors, &c)
	}
	if own.Tensors, err = a.baseHead(own.Tensors, file.Path); err != nil {
		return err
	}
	for _, p := range a.head {
		for _, t := range own.Tensors {
			if t.Name == headName(p) {
				t.Name = p.Name
			}
		}
	}
	set, err := peft.ExactTensorSet(&own)
	if err != nil {
		return err
	}
	missing := ""
	for _, w := range a.twins {
		t := set.Take(w.name)
		if t == nil {
			if !w.alias {
				missing = w.name
			}
			continue
		}
		first := set.Peek(w.p.Name)
		if first == nil || !slices.Equal(first.Shape, t.Shape) || string(first.Data) != string(t.Data) {
			return fmt.Errorf("%s: %s and %s are one tensor to the library, but differ: %w", file.Path, w.name, w.p.Name, peft.ErrTensors)
		}
	}
	params := slices.Clone(a.saved)
	// A file without a head leaves the base model its own.
	if len(a.model.Fresh) > 0 || slices.ContainsFunc(a.head, func(p *nn.Param) bool { return set.Has(p.Name) }) {
		params = append(params, a.head...)
	}
	if err := set.Fill(params...); err != nil {
		return err
	}
	if missing != "" {
		return fmt.Errorf("%s: %s is missing: %w", file.Path, missing, peft.ErrTensors)
	}
	return nil
}

// legacy are names of older versions of the library.
var legacy = strings.NewReplacer(
	"attention_text_task_adapters", "adapters", "attention_text_lang_adapters", "adapters",
	"layer_text_task_adapters", "adapters", "layer_text_lang_adapters", "adapters",
)

// modern returns the name under which a tensor is wanted: files of a bare base
// model lack its prefix, those of other classes may have another one.
func (a *Adapter) modern(name string, want map[string]bool) string {
	name = legacy.Replace(name)
	if want[name] {
		return name
	}
	_, rest, _ := strings.Cut(name, ".")
	for _, c := range []string{a.base() + name, rest, a.base() + rest} {
		if want[c] {
			return c
		}
	}
	return name
}

// baseHead deals with tensors of a head that the base model has too: the library
// saves lm_head with every adapter of a language model. Equal ones are the base's
// and are taken off the list; others replace it.
func (a *Adapter) baseHead(tensors []*tensor.Tensor, path string) ([]*tensor.Tensor, error) {
	var out []*tensor.Tensor
	for _, t := range tensors {
		same, err := a.ofBase(t)
		if err != nil {
			return nil, formats.At(path, err)
		}
		if !same {
			out = append(out, t)
		}
	}
	return out, nil
}

// ofBase reports whether a tensor says what the base model has. A weight of the
// base that differs is trained and saved with the adapter from now on.
func (a *Adapter) ofBase(t *tensor.Tensor) (bool, error) {
	if t.Name == "final_logits_bias" { // BART's, added to the logits
		v, err := t.AllFloats()
		return err == nil && !slices.ContainsFunc(v, func(x float32) bool { return x != 0 }), err
	}
	path, ok := strings.CutSuffix(t.Name, ".weight")
	mod := a.model.Module(path)
	if !ok || mod == nil || a.ofHead(path) {
		return false, nil
	}
	w := mod.Weight()
	if len(t.Shape) != 2 || t.Shape[0] != w.Out || t.Shape[1] != w.In {
		return false, fmt.Errorf("%s has shape %v, the model has [%d %d]: %w", t.Name, t.Shape, w.Out, w.In, peft.ErrTensors)
	}
	got, have := make([]float32, w.In), make([]float32, w.In)
	for r := range w.Out {
		if err := t.Floats(got, r, r+1); err != nil {
			return false, err
		}
		if w.Row(have, r); !slices.Equal(got, have) {
			a.wholeModule(mod)
			return false, nil
		}
	}
	return true, nil
}
