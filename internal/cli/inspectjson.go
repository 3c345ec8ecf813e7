package cli

import (
	"encoding/json"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// inspection is what inspect found out about a path without touching the data
// of its tensors.
type inspection struct {
	Path          string            `json:"path"`
	Kind          string            `json:"kind"` // model, adapter, combination or tensors
	Format        string            `json:"format"`
	Files         int               `json:"files"`
	Bytes         int64             `json:"bytes"`
	Family        string            `json:"family,omitempty"`
	Problem       string            `json:"problem,omitempty"` // why this build cannot compute it
	Notes         []string          `json:"notes,omitempty"`   // what of the file is not used
	Method        string            `json:"method,omitempty"`
	Ignored       []peft.IgnoredKey `json:"ignored_keys,omitempty"` // of an adapter: nothing reads them
	Parts         []partEntry       `json:"parts,omitempty"`        // of a combination
	Parameters    int64             `json:"parameters"`
	BitsPerWeight float64           `json:"bits_per_weight"`
	Facts         map[string]any    `json:"facts,omitempty"`
	Types         []typeCount       `json:"types"`
	Metadata      []metaEntry       `json:"metadata,omitempty"`
	Config        json.RawMessage   `json:"config,omitempty"`
	Tensors       []tensorEntry     `json:"tensors"`
	Modules       []moduleEntry     `json:"modules,omitempty"`
	Places        *places           `json:"places,omitempty"`
	facts         [][2]string       // the same for people
	meta          formats.Meta      // unshortened
	raw           []*tensor.Tensor  // in file order
}

// partEntry is one adapter of a combination.
type partEntry struct {
	Path       string `json:"path"`
	Method     string `json:"method"`
	Format     string `json:"format"`
	Parameters int64  `json:"parameters"`
	Tensors    int    `json:"tensors"`
	Bytes      int64  `json:"bytes"`
}

type typeCount struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

type metaEntry struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value any    `json:"value"`
	// Length is that of an array whose value is left out.
	Length int `json:"length,omitempty"`
}

type tensorEntry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Shape  []int  `json:"shape"`
	Bytes  int64  `json:"bytes"`
	Offset int64  `json:"offset"`
	File   string `json:"file,omitempty"`
}

type moduleEntry struct {
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Shape []int  `json:"shape"`
	Type  string `json:"type"`
	// Head marks the head of a task, which every method trains in full.
	Head bool `json:"head,omitempty"`
}

// places are where methods without a module of their own attach.
type places struct {
	Task       model.Task       `json:"task,omitempty"`
	Labels     []string         `json:"labels,omitempty"`
	Head       []string         `json:"head,omitempty"`  // modules of a task's head
	Fresh      []string         `json:"fresh,omitempty"` // tensors of it that the file does not have
	Inputs     []inputEntry     `json:"inputs"`
	Attentions []attentionEntry `json:"attentions"`
	Sublayers  []sublayerEntry  `json:"sublayers"`
}

type inputEntry struct {
	Stack     model.Stack `json:"stack"`
	Embedding string      `json:"embedding"`
}

type attentionEntry struct {
	Path    string      `json:"path"`
	Stack   model.Stack `json:"stack"`
	Layer   int         `json:"layer"`
	Cross   bool        `json:"cross"`
	Heads   int         `json:"heads"`
	KVHeads int         `json:"kv_heads"`
	HeadDim int         `json:"head_dim"`
}

type sublayerEntry struct {
	Path  string             `json:"path"`
	Kind  model.SublayerKind `json:"kind"`
	Stack model.Stack        `json:"stack"`
	Layer int                `json:"layer"`
}

func placesOf(m *model.Model) *places {
	p := &places{Task: m.Options.Task, Labels: m.Options.Labels, Head: m.HeadModules, Fresh: m.Fresh,
		Inputs: []inputEntry{}, Attentions: []attentionEntry{}, Sublayers: []sublayerEntry{}}
	for _, in := range m.Inputs {
		p.Inputs = append(p.Inputs, inputEntry{in.Stack, in.Embedding.Path})
	}
	for _, a := range m.Attentions {
		p.Attentions = append(p.Attentions, attentionEntry{a.Path, a.Stack, a.Layer, a.Cross, a.Heads, a.KVHeads, a.HeadDim})
	}
	for _, s := range m.Sublayers {
		p.Sublayers = append(p.Sublayers, sublayerEntry{s.Path, s.Kind, s.Stack, s.Layer})
	}
	return p
}
