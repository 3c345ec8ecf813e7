package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// Rule maps one tensor between Hugging Face and GGUF and says what shape it must
// have.
type Rule struct {
	HF, GGUF string
	Shape    []int // row-major
	// Heads, when not 0, is the number of heads whose rows llama.cpp interleaves
	// (see HeadOrder).
	Heads    int
	Optional bool
	// Transposed says that GGUF stores the transpose of Shape (Conv1D of GPT-2).
	Transposed bool
	// Shift is what GGUF's values are larger by (1 for Gemma's norms).
	Shift float32
}

// HeadOrder returns for each row of Hugging Face's order the row where
// llama.cpp's Llama layout stores it: within a head of size hd, row p*hd/2+i
// (p = 0, 1) lies at 2i+p, because llama.cpp rotates neighbouring pairs where
// transformers rotates halves. rows must be a multiple of 2*heads.
func HeadOrder(rows, heads int) []int32 {
	hd := rows / heads
	perm := make([]int32, rows)
	for h := range heads {
		for p := range 2 {
			for i := range hd / 2 {
				perm[h*hd+p*hd/2+i] = int32(h*hd + 2*i + p)
			}
		}
	}
	return perm
}

// GGUFView returns the tensor with its rows in the order that GGUF stores:
// stored lists for each logical row the row where GGUF keeps it.
func GGUFView(t *tensor.Tensor, name string, stored []int32) (*tensor.Tensor, error) {
	v := *t
	v.Name = name
	if stored == nil {
		return &v, nil
	}
	if len(t.Shape) == 1 { // a bias: its elements move
		x, err := t.AllFloats()
		if err != nil {
			return nil, err
		}
		out := make([]float32, len(x))
		for i, s := range stored {
			out[s] = x[i]
		}
		return tensor.FromFloats(name, t.Shape, out), nil
	}
	perm := make([]int32, len(stored))
	identity := true
	for logical, s := range stored {
		src := int32(logical)
		if t.Perm != nil {
			src = t.Perm[logical]
		}
		perm[s] = src
		identity = identity && src == s
	}
	v.Perm = perm
	if identity {
		v.Perm = nil
	}
	return &v, nil
}

// Bind pairs the tensors of an opened model with the rules, checks every shape,
// and refuses tensors that are missing or that no rule claims. ignore tells
// which leftovers are known to carry nothing.
func Bind(m *formats.Model, rules []Rule, ignore func(name string) bool) ([]Entry, error) {
	byName := make(map[string]Rule, len(rules))
	for _, r := range rules {
		if m.Naming == formats.GGUF {
			byName[r.GGUF] = r
		} else {
			byName[r.HF] = r
		}
	}
	var entries []Entry
	var extra, wrong []string
	for _, t := range m.Tensors {
		r, ok := byName[t.Name]
		if !ok {
			if !ignore(t.Name) {
				extra = append(extra, t.Name)
			}
			continue
		}
		delete(byName, t.Name)
		want := r.Shape
		if r.Transposed && m.Naming == formats.GGUF {
			want = []int{r.Shape[1], r.Shape[0]}
		}
		if !slices.Equal(t.Shape, want) {
			wrong = append(wrong, fmt.Sprintf("%s is %v, the configuration wants %v", t.Name, t.Shape, want))
			continue
		}
		u := *t
		if m.Naming == formats.GGUF {
			u.Shape, u.Transposed, u.Shift = r.Shape, r.Transposed, -r.Shift
		}
		if r.HF != "" {
			u.Name = r.HF
		}
		if r.Heads > 0 && m.Naming == formats.GGUF {
			var err error
			if u, err = fromGGUFOrder(u, r.Heads); err != nil {
				return nil, formats.At(m.Path, err)
			}
		}
		entries = append(entries, Entry{HF: r.HF, GGUF: r.GGUF, T: &u})
	}
	var missing []string
	for name, r := range byName {
		if !r.Optional && name != "" {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	var parts []string
	for _, p := range []struct {
		what string
		list []string
	}{{"missing", missing}, {"not known in this family", extra}, {"wrong shape", wrong}} {
		if len(p.list) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s: %s", len(p.list), p.what, some(p.list)))
		}
	}
	if parts != nil {
		return nil, fmt.Errorf("%s: %w: %s", m.Path, ErrMismatch, strings.Join(parts, "; "))
	}
	return entries, nil
}

// fromGGUFOrder makes t read in Hugging Face's row order. A vector has its
// elements reordered in memory; a matrix only gets a row table.
func fromGGUFOrder(t tensor.Tensor, heads int) (tensor.Tensor, error) {
	if len(t.Shape) > 1 {
		t.Perm = HeadOrder(t.Shape[0], heads)
		return t, nil
	}
	v, err := t.AllFloats()
	if err != nil {
		return t, err
	}
	stored := HeadOrder(len(v), heads)
	out := make([]float32, len(v))
	for i, s := range stored {
		out[i] = v[s]
	}
	return *tensor.FromFloats(t.Name, t.Shape, out), nil
}

// some joins the first few names.
func some(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}
