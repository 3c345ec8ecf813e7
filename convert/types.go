package convert

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// policy decides the storage type of each output tensor.
type policy struct {
	naming formats.Naming // of the output
	source formats.Naming
	// want is the type asked for, nil for keep and auto.
	want *tensor.DType
	// narrow lets float32 vectors of a GGUF source return to the 16-bit type of
	// its matrices in a Hugging Face folder when no bit is lost: that undoes the
	// widening which GGUF asks for.
	narrow *tensor.DType
	notes  *notebook
}

// newPolicy reads the type option.
func newPolicy(typ string, source, naming formats.Naming, notes *notebook) (*policy, error) {
	p := &policy{naming: naming, source: source, notes: notes}
	switch strings.ToLower(typ) {
	case "", "auto", "keep":
		return p, nil
	}
	d, err := tensor.ByName(typ)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrOption)
	}
	switch {
	case d.Encode == nil:
		return nil, fmt.Errorf("type %s can be read but not written as weights: %w", d, ErrOption)
	case naming == formats.HF && d.Quantised():
		return nil, fmt.Errorf("type %s: safetensors has no block-quantised types that transformers reads; take f32, f16 or bf16, or write a .gguf file: %w", d, ErrOption)
	case naming == formats.HF && d.SafeTensors == "", naming == formats.GGUF && (d.GGUF < 0 || d.FileType < 0):
		return nil, fmt.Errorf("type %s is no type of weights in this output format: %w", d, ErrOption)
	}
	p.want = d
	return p, nil
}

// isVector reports whether GGUF keeps the tensor in float32 whatever the file's
// type is: one-dimensional ones and norms (convert_hf_to_gguf.py, prepare_tensors).
func isVector(gguf string, shape []int) bool {
	return len(shape) < 2 || strings.HasSuffix(gguf, "_norm.weight") || !strings.HasSuffix(gguf, ".weight")
}

// bits is the average size of a weight.
func bits(d *tensor.DType) float64 { return 8 * float64(d.Bytes) / float64(d.Block) }

// pick returns the type in which t is written. gguf is its GGUF name, name what
// it is called in notes.
func (p *policy) pick(name, gguf string, t *tensor.Tensor) (*tensor.DType, error) {
	if p.naming == formats.GGUF {
		return p.pickGGUF(name, gguf, t)
	}
	return p.pickHF(name, gguf, t)
}

func (p *policy) pickGGUF(name, gguf string, t *tensor.Tensor) (*tensor.DType, error) {
	old := t.Type
	switch {
	case old.Decode == nil:
		if old.Quantised() && p.want != nil && old != p.want {
			return nil, describe(name, undecodable(old))
		}
		if old.GGUF < 0 {
			return nil, describe(name, fmt.Errorf("type %s has no counterpart in GGUF: %w", old, ErrOption))
		}
		return old, nil
	case isVector(gguf, t.Shape):
		if p.want == nil && p.source == formats.GGUF {
			return old, nil
		}
		return p.lossless(name, old)
	case p.want == nil:
		if old == tensor.F64 && p.source != formats.GGUF {
			return p.lossless(name, old)
		}
		if old.GGUF < 0 {
			return nil, describe(name, fmt.Errorf("type %s has no counterpart in GGUF: choose one with -q: %w", old, ErrOption))
		}
		return old, nil
	case old == p.want:
		return old, nil
	}
	want := p.want
	if want.Quantised() && bits(want) < 8 && (gguf == "token_embd.weight" || gguf == "output.weight") {
		p.notes.about(fmt.Sprintf("kept in Q8_0 in a %s file: embeddings lose most by 4 bits (llama-quantize takes Q6_K, which is not written here)", want), name)
		want = tensor.Q8_0
		if old == want {
			return old, nil
		}
	}
	if cols := t.Cols(); cols%want.Block != 0 {
		p.notes.about(fmt.Sprintf("F16 instead of %s, whose blocks of %d do not divide the rows", want, want.Block), name)
		want = tensor.F16
	}
	if old.Quantised() && want.Quantised() {
		p.notes.about(fmt.Sprintf("quantised again, from %s to %s: the losses of both add up; better quantise from the original weights", old, want), name)
	}
	return want, nil
}

func (p *policy) pickHF(name, gguf string, t *tensor.Tensor) (*tensor.DType, error) {
	old := t.Type
	switch {
	case old.Decode == nil && old.Quantised():
		return nil, describe(name, undecodable(old))
	case old.Decode == nil:
		if old.SafeTensors == "" {
			return nil, describe(name, fmt.Errorf("type %s has no counterpart in safetensors: %w", old, ErrOption))
		}
		return old, nil
	case p.want != nil:
		return p.want, nil
	case p.narrow != nil && old == tensor.F32 && isVector(gguf, t.Shape) && fits(t, p.narrow):
		return p.narrow, nil
	case old.SafeTensors != "":
		return old, nil
	}
	p.notes.about(fmt.Sprintf("%s written as F32: safetensors has no block-quantised types", old), name)
	return tensor.F32, nil
}

// undecodable says that a type is only carried as bytes.
func undecodable(d *tensor.DType) error {
	var names []string
	for _, x := range tensor.All() {
		if x.Decode != nil && x.Quantised() {
			names = append(names, x.Name)
		}
	}
	return fmt.Errorf("type %s %w here, only copied from GGUF to GGUF; take a file in F32, F16, BF16, %s: %w",
		d, tensor.ErrNoDecoder, strings.Join(names, ", "), formats.ErrUnsupported)
}

// lossless returns F32 for a type whose values float32 holds, and says so when
// it does not.
func (p *policy) lossless(name string, old *tensor.DType) (*tensor.DType, error) {
	if old == tensor.F64 {
		p.notes.about("F64 rounded to F32", name)
	}
	return tensor.F32, nil
}

// fits reports whether every value of t is a value of type d.
func fits(t *tensor.Tensor, d *tensor.DType) bool {
	const most = 1 << 20 // only vectors come here
	n := t.Elements()
	if n > most || d.Block != 1 {
		return false
	}
	v, err := t.AllFloats()
	if err != nil {
		return false
	}
	b := make([]byte, n*int64(d.Bytes))
	back := make([]float32, n)
	d.Encode(b, v)
	d.Decode(back, b)
	for i := range v {
		if v[i] != back[i] {
			return false
		}
	}
	return true
}
