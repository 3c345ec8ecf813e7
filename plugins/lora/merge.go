package lora

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// Changes implements peft.Merger. As in PEFT's merge_and_unload the product B A
// is taken in float32, then scaled, then added to the weight.
func (method) Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*peft.ChangeSet, error) {
	cfg, err := parse(a.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: adapter_config.json: %w", a.Path, err)
	}
	set, err := readTensors(a)
	if err != nil {
		return nil, err
	}
	pairs, err := set.pairs(a.Path)
	if err != nil {
		return nil, err
	}
	base := c.Shape
	out := &peft.ChangeSet{}
	for _, p := range pairs {
		name := p.path + ".weight"
		shape := base(name)
		if shape == nil && strings.HasSuffix(p.path, "lm_head") {
			shape = base("model.embed_tokens.weight") // a tied head
		}
		if shape == nil {
			out.Unmatched = append(out.Unmatched, p.a.Name, p.b.Name)
			continue
		}
		want := [2]int{p.b.Shape[0], p.a.Shape[1]}
		if p.embedding {
			want[0], want[1] = want[1], want[0]
		}
		if len(shape) != 2 || shape[0] != want[0] || shape[1] != want[1] {
			return nil, fmt.Errorf("%s: %s: the factors make a %v change, the base model's weight is %v: %w", a.Path, p.path, want, shape, peft.ErrTensors)
		}
		r, alpha, err := cfg.rankAlpha(p.path)
		if err != nil {
			return nil, err
		}
		if r != p.a.Shape[0] {
			return nil, fmt.Errorf("%s: %s has rank %d, the configuration says %d: %w", a.Path, p.path, p.a.Shape[0], r, peft.ErrTensors)
		}
		apply, err := delta(p, float32(scaleOf(alpha, r, cfg.UseRSLoRA))*scale)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
		out.Changes = append(out.Changes, peft.Change{Tensor: name, Apply: apply})
		out.Matched += 2
	}
	// What is left are whole tensors: biases, modules_to_save, saved embeddings.
	// They replace the base's before any factor is added.
	var whole []peft.Change
	for _, name := range set.rest() {
		target := strings.TrimPrefix(strings.Replace(name, ".base_layer.", ".", 1), prefix)
		if base(target) == nil && !strings.HasSuffix(target, "lm_head.weight") {
			out.Unmatched = append(out.Unmatched, name)
			continue
		}
		if scale != 1 {
			return nil, fmt.Errorf("%s: a scale of %g cannot apply to %s, which replaces the base's tensor: %w", a.Path, scale, name, peft.ErrConfig)
		}
		t := set.take(name)
		whole = append(whole, peft.Change{Tensor: target, Shape: t.Shape, Replace: t.Floats})
		out.Matched++
	}
	out.Changes = append(whole, out.Changes...)
	if out.Matched == 0 {
		return nil, fmt.Errorf("%s: none of its %d tensors has a place in the base model, the first is %s: %w", a.Path, len(a.Tensors), first(a.Tensors), peft.ErrNoMatch)
	}
	return out, nil
}

func first(t []*tensor.Tensor) string {
	if len(t) == 0 {
		return "(the file is empty)"
	}
	return t[0].Name
}

// delta returns the function that adds scale * B A to rows of a weight.
func delta(p pair, scale float32) (func(w []float32, r0, r1 int), error) {
	a, err := p.a.AllFloats()
	if err != nil {
		return nil, err
	}
	b, err := p.b.AllFloats()
	if err != nil {
		return nil, err
	}
	r := p.a.Shape[0]
	A, B := kernels.MatOf(a, r, p.a.Shape[1]), kernels.MatOf(b, p.b.Shape[0], r)
	if p.embedding {
		return func(w []float32, r0, r1 int) { // (B A)ᵀ: rows are tokens
			cols := B.Rows
			d := kernels.NewMat(r1-r0, cols)
			part := kernels.Mat{Data: A.Data[r0:], Rows: r, Cols: r1 - r0, Stride: A.Stride}
			kernels.Gemm(d, false, kernels.Term{A: part, TransA: true, B: B, TransB: true})
			addScaled(w, d.Data, scale)
		}, nil
	}
	return func(w []float32, r0, r1 int) {
		d := kernels.NewMat(r1-r0, A.Cols)
		kernels.Gemm(d, false, kernels.Term{A: B.RowsOf(r0, r1), B: A})
		addScaled(w, d.Data, scale)
	}, nil
}

// addScaled adds scale*d to w, rounding the product before the sum as PyTorch
// does with two separate operations.
func addScaled(w, d []float32, scale float32) {
	for i, x := range d {
		w[i] += float32(scale * x)
	}
}
