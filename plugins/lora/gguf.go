package lora

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// ToGGUF implements peft.GGUFConverter. llama.cpp computes the scale of a tensor
// pair as adapter.lora.alpha divided by the pair's rank; where rsLoRA or patterns
// want another scale, the ratio is folded into B and noted.
func (method) ToGGUF(a *formats.Adapter, n *model.Names) (*formats.OutAdapter, []string, error) {
	common, err := peft.ParseConfig(a.Config)
	if err != nil {
		return nil, nil, formats.At(a.Path, err)
	}
	cfg, err := parse(common)
	if err != nil {
		return nil, nil, formats.At(a.Path, err)
	}
	why := ""
	switch {
	case cfg.UseDoRA:
		why = "DoRA scales whole rows of weights"
	case cfg.changesBase(), cfg.requantises():
		why = fmt.Sprintf("init_lora_weights %s changed the base model too", cfg.initKind)
	case cfg.LoraBias:
		why = "lora_bias adds to outputs"
	}
	if why != "" {
		return nil, nil, fmt.Errorf("%s: %s, which the factors of a GGUF adapter do not hold; merge it with peftkit merge-lora, or take the nearest factors with peftkit convert --base MODEL --svd-rank N: %w", a.Path, why, peft.ErrConfig)
	}
	set, err := peft.NewTensorSet(a)
	if err != nil {
		return nil, nil, err
	}
	pairs, err := readPairs(set, a.Path)
	if err != nil {
		return nil, nil, err
	}
	if rest := set.Rest(); len(rest) > 0 {
		return nil, nil, fmt.Errorf("%s: a GGUF adapter holds factor pairs only, this one also has %s (%d tensors); merge it with peftkit merge-lora instead: %w", a.Path, rest[0], len(rest), peft.ErrConfig)
	}
	if err := promised(common, pairs, n, a.Path); err != nil {
		return nil, nil, err
	}
	scales := make([]float64, len(pairs))
	for i, p := range pairs {
		r, alpha, err := cfg.single.At(p.path, cfg.R, cfg.Alpha)
		if err != nil {
			return nil, nil, err
		}
		if r != p.a.Shape[0] {
			return nil, nil, fmt.Errorf("%s: %s has rank %d, the configuration says %d: %w", a.Path, p.path, p.a.Shape[0], r, peft.ErrTensors)
		}
		scales[i] = scaleOf(alpha, r, cfg.UseRSLoRA)
	}
	alpha := commonAlpha(pairs, scales)
	if alpha == 0 {
		return nil, nil, fmt.Errorf("%s: the scale is 0, so the adapter has no effect; llama.cpp would read alpha 0 as scale 1: %w", a.Path, peft.ErrConfig)
	}
	out := &formats.OutAdapter{Meta: formats.Meta{
		{Key: "general.architecture", Value: n.Arch},
		{Key: "general.type", Value: "adapter"},
		{Key: "adapter.type", Value: "lora"},
		{Key: "adapter.lora.alpha", Value: float32(alpha)},
		{Key: "general.quantization_version", Value: uint32(2)},
	}}
	var notes []string
	folded := 0
	for i, p := range pairs {
		name, ok := n.ToGGUF[p.path]
		if !ok {
			return nil, nil, fmt.Errorf("%s: the base model has no module %s: %w", a.Path, p.path, peft.ErrNoMatch)
		}
		fold := float32(scales[i] * float64(p.a.Shape[0]) / float64(float32(alpha)))
		if math.Abs(float64(fold)-1) < 1e-7 {
			fold = 1
		} else {
			folded++
		}
		at, bt, err := factors(p, fold, n.StoredRow[p.path])
		if err != nil {
			return nil, nil, formats.At(a.Path, err)
		}
		at.Name, bt.Name = name+".weight.lora_a", name+".weight.lora_b"
		out.Tensors = append(out.Tensors, *at, *bt)
	}
	if cfg.UseRSLoRA && folded == 0 {
		notes = append(notes, fmt.Sprintf("rsLoRA: alpha %g written as %g, so that alpha/rank is the adapter's scale", cfg.Alpha, alpha))
	}
	if folded > 0 {
		notes = append(notes, fmt.Sprintf("%d modules have a scale of their own: its ratio to alpha/rank is folded into their B", folded))
	}
	return out, notes, nil
}

// promised refuses a file without the factors of a module that target_modules names.
func promised(c *peft.Config, pairs []pair, n *model.Names, file string) error {
	if c.TargetModules.Empty() || c.TargetModules.IsAllLinear() {
		return nil // which modules these are depends on the model's layers
	}
	have := map[string]bool{}
	for _, p := range pairs {
		have[p.path] = true
	}
	var missing []string
	for path := range n.ToGGUF {
		hit, err := c.TargetModules.Match(path)
		if err == nil && hit && !c.ExcludeModules.Empty() {
			var out bool
			out, err = c.ExcludeModules.Match(path)
			hit = !out
		}
		if err == nil && hit {
			hit, err = peft.InLayers(path, c.TargetModules, c.Layers, c.LayersPattern)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if hit && !have[path] && !c.Saves(path) {
			missing = append(missing, path)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("%s: the factors of %d of the %d modules that its configuration wants in this model are missing, the first is %s: %w", file, len(missing), len(missing)+len(pairs), missing[0], peft.ErrTensors)
}

// pair is the two factors of one module, by its path.
type pair struct {
	path      string
	a, b      *tensor.Tensor
	embedding bool
}

// readPairs collects the factor pairs of a file and takes them from the set.
func readPairs(set *peft.TensorSet, file string) ([]pair, error) {
	var out []pair
	for _, name := range set.Rest() {
		path, partner, embedding, ok := pairName(name)
		if !ok {
			continue
		}
		p := pair{path: path, a: set.Take(name), b: set.Take(partner), embedding: embedding}
		if p.b == nil {
			return nil, fmt.Errorf("%s: %s has no partner %s: %w", file, name, partner, peft.ErrTensors)
		}
		if len(p.a.Shape) != 2 || len(p.b.Shape) != 2 || p.a.Shape[0] != p.b.Shape[1] {
			return nil, fmt.Errorf("%s: %s: A %v and B %v are no pair of factors (r,in) and (out,r): %w", file, p.path, p.a.Shape, p.b.Shape, peft.ErrTensors)
		}
		out = append(out, p)
	}
	return out, nil
}

// commonAlpha returns the value of scale times rank that most pairs share.
func commonAlpha(pairs []pair, scales []float64) float64 {
	count := map[float64]int{}
	best := 0.0
	for i, p := range pairs {
		v := scales[i] * float64(p.a.Shape[0])
		count[v]++
		if count[v] > count[best] || best == 0 {
			best = v
		}
	}
	return best
}

// factors returns the pair as float32 tensors in llama.cpp's orientation: rows of
// B in stored order; an embedding's A transposed to (vocab, r).
func factors(p pair, fold float32, stored []int32) (a, b *formats.OutTensor, err error) {
	av, err := p.a.AllFloats()
	if err != nil {
		return nil, nil, err
	}
	bv, err := p.b.AllFloats()
	if err != nil {
		return nil, nil, err
	}
	out, r := p.b.Shape[0], p.b.Shape[1]
	if stored != nil {
		if len(stored) != out {
			return nil, nil, fmt.Errorf("%s: B has %d rows, the base's weight has %d: %w", p.path, out, len(stored), peft.ErrTensors)
		}
		moved := make([]float32, len(bv))
		for logical, s := range stored {
			copy(moved[int(s)*r:(int(s)+1)*r], bv[logical*r:(logical+1)*r])
		}
		bv = moved
	}
	if fold != 1 {
		for i := range bv {
			bv[i] *= fold
		}
	}
	aShape := p.a.Shape
	if p.embedding {
		av, aShape = transpose(av, p.a.Shape[0], p.a.Shape[1]), []int{p.a.Shape[1], p.a.Shape[0]}
	}
	return outFloats(av, aShape), outFloats(bv, p.b.Shape), nil
}

func outFloats(v []float32, shape []int) *formats.OutTensor {
	return &formats.OutTensor{Type: tensor.F32, Shape: shape, WriteTo: func(w io.Writer) error {
		return peft.WriteFloats(w, tensor.F32, v)
	}}
}

func transpose(v []float32, rows, cols int) []float32 {
	out := make([]float32, len(v))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = v[i*cols+j]
		}
	}
	return out
}

// FromGGUF implements peft.GGUFConverter.
func (method) FromGGUF(a *formats.Adapter, n *model.Names) (*formats.Adapter, []string, error) {
	alpha, ok := a.Meta.Float("adapter.lora.alpha")
	var notes []string
	byName := map[string]*tensor.Tensor{}
	for _, t := range a.Tensors {
		byName[t.Name] = t
	}
	out := &formats.Adapter{Path: a.Path, Format: a.Format, Naming: formats.HF}
	ranks := map[int]int{}
	type found struct {
		path string
		r    int
	}
	var sites []found
	for _, t := range a.Tensors {
		base, isA := strings.CutSuffix(t.Name, ".weight.lora_a")
		if !isA {
			if b, isB := strings.CutSuffix(t.Name, ".weight.lora_b"); !isB || byName[b+".weight.lora_a"] == nil {
				return nil, nil, fmt.Errorf("%s: tensor %s is no half of a pair .weight.lora_a and .weight.lora_b: %w", a.Path, t.Name, peft.ErrTensors)
			}
			continue
		}
		b := byName[base+".weight.lora_b"]
		path, known := n.ToHF[base]
		switch {
		case b == nil:
			return nil, nil, fmt.Errorf("%s: tensor %s has no partner .lora_b: %w", a.Path, t.Name, peft.ErrTensors)
		case !known:
			return nil, nil, fmt.Errorf("%s: the base model has no tensor %s.weight: %w", a.Path, base, peft.ErrNoMatch)
		case len(t.Shape) != 2 || len(b.Shape) != 2:
			return nil, nil, fmt.Errorf("%s: %s: shapes %v and %v are no matrices: %w", a.Path, base, t.Shape, b.Shape, peft.ErrTensors)
		}
		at, bt := *t, *b
		r := b.Shape[1]
		if base == "token_embd" {
			v, err := t.AllFloats()
			if err != nil {
				return nil, nil, err
			}
			at = *tensor.FromFloats("", []int{t.Shape[1], t.Shape[0]}, transpose(v, t.Shape[0], t.Shape[1]))
			at.Name, bt.Name = peft.Prefix+path+".lora_embedding_A", peft.Prefix+path+".lora_embedding_B"
		} else {
			at.Name, bt.Name = peft.Prefix+path+".lora_A.weight", peft.Prefix+path+".lora_B.weight"
			if stored := n.StoredRow[path]; stored != nil {
				if len(stored) != b.Shape[0] {
					return nil, nil, fmt.Errorf("%s: %s has %d rows, the base's weight has %d: %w", a.Path, b.Name, b.Shape[0], len(stored), peft.ErrTensors)
				}
				bt.Perm = stored
			}
		}
		if at.Shape[0] != r {
			return nil, nil, fmt.Errorf("%s: %s: A %v and B %v are no pair of factors: %w", a.Path, base, at.Shape, b.Shape, peft.ErrTensors)
		}
		ranks[r]++
		sites = append(sites, found{path, r})
		out.Tensors = append(out.Tensors, &at, &bt)
	}
	if len(sites) == 0 {
		return nil, nil, fmt.Errorf("%s: the adapter has no tensors: %w", a.Path, peft.ErrNoMatch)
	}
	rank := sites[0].r
	for r, c := range ranks {
		if c > ranks[rank] || c == ranks[rank] && r < rank {
			rank = r
		}
	}
	rankPattern, alphaPattern := map[string]int{}, map[string]float64{}
	var paths []string
	for _, s := range sites {
		paths = append(paths, s.path)
		if s.r != rank {
			rankPattern[s.path] = s.r
		}
	}
	if !ok || alpha == 0 {
		alpha = float64(rank)
		notes = append(notes, "no adapter.lora.alpha: llama.cpp takes scale 1, so alpha is set to the rank")
		for p, r := range rankPattern {
			alphaPattern[p] = float64(r)
		}
	}
	slices.Sort(paths)
	targets := paths
	if short := peft.ShortNames(paths); coversExactly(short, paths, n) {
		targets = short
	}
	cfg, err := json.MarshalIndent(map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": true, "base_model_name_or_path": nil,
		"r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "bias": "none", "use_rslora": false, "use_dora": false,
		"fan_in_fan_out": false, "init_lora_weights": true, "target_modules": targets, "modules_to_save": nil,
		"rank_pattern": rankPattern, "alpha_pattern": alphaPattern,
	}, "", "  ")
	out.Config = append(cfg, '\n')
	return out, notes, err
}

// coversExactly reports whether the suffixes select the paths and no other
// module of the model.
func coversExactly(suffixes, paths []string, n *model.Names) bool {
	for hf := range n.ToGGUF {
		hit := slices.ContainsFunc(suffixes, func(s string) bool { return peft.Suffix(hf, s) })
		if hit && !slices.Contains(paths, hf) {
			return false
		}
	}
	return true
}
