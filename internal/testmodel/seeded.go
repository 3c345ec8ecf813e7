package testmodel

import (
	"encoding/json"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// Seeded is a Hugging Face model whose numbers follow from the names of its
// tensors, so that golden_seq2seq.py makes the same one for transformers.
type Seeded struct {
	// Config is config.json.
	Config map[string]any `json:"config"`
	// Tensors are the shapes by name.
	Tensors map[string][]int `json:"tensors"`
}

// HF implements Source: float32 tensors in the order of their names.
func (s Seeded) HF() *formats.Model {
	m := &formats.Model{Path: "testmodel", Format: "memory", Naming: formats.HF}
	for _, name := range slices.Sorted(maps.Keys(s.Tensors)) {
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, s.Tensors[name], seeded(name, s.Tensors[name])))
	}
	raw, err := json.Marshal(s.Config)
	if err != nil {
		panic("testmodel: " + err.Error())
	}
	m.Config = raw
	return m
}

// seeded returns the elements of a tensor: uniform around the usual mean of its
// kind, from splitmix64 over the FNV-1a hash of the name.
func seeded(name string, shape []int) []float32 {
	n := 1
	for _, d := range shape {
		n *= d
	}
	mean, sigma := 0.0, 0.2
	switch {
	case strings.HasSuffix(name, "bias") && len(shape) == 1 || name == "final_logits_bias":
	case strings.Contains(name, "norm"):
		mean, sigma = 1, 0.1
	case strings.Contains(name, "embed"), strings.Contains(name, "shared"), strings.Contains(name, "relative"):
		sigma = 0.5
	case strings.HasSuffix(name, ".q.weight"): // T5 does not scale the scores
		sigma = 0.07
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	seed := h.Sum64()
	v := make([]float32, n)
	for i := range v {
		z := seed + uint64(i+1)*0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
		u := float64(z>>40)/(1<<23) - 1
		v[i] = float32(mean + sigma*math.Sqrt(3)*u)
	}
	return v
}
