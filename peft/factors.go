package peft

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/model"
)

// Factors is a change B A of one module's weight, [Out, In].
type Factors struct {
	Path    string
	Out, In int
	Rank    int
	A, B    []float32 // [Rank, In] and [Out, Rank]
	// Embedding says that the rows of the weight are tokens.
	Embedding bool
	// Norm is the Frobenius norm of the exact change, Residual that of what B A
	// leaves out.
	Norm, Residual float64
}

// FactorWriter is implemented by the method whose adapters are pairs of factors.
type FactorWriter interface {
	// FromFactors makes an adapter file of the changes.
	FromFactors(path string, list []Factors) (*formats.Adapter, error)
}

// Factorise turns the effect of any mergeable adapter on matrices into products
// of at most rank, by the singular value decomposition of each change (Eckart and
// Young): the nearest adapter of that rank. Whatever else the adapter changes is
// an error that wraps ErrNotMergeable.
func Factorise(a *formats.Adapter, c *model.Checkpoint, rank int) ([]Factors, error) {
	if rank < 1 {
		return nil, fmt.Errorf("rank %d, expected at least 1: %w", rank, ErrConfig)
	}
	set, err := Changes(a, c, 1)
	if err != nil {
		return nil, err
	}
	mod, err := BuildFor(a, c)
	if err != nil {
		return nil, err
	}
	modules := map[string]*model.Module{}
	for _, m := range mod.Modules {
		modules[m.Path+".weight"] = m
	}
	byTensor := map[string][]Change{}
	var order []string
	for _, ch := range set.Changes {
		if byTensor[ch.Tensor] == nil {
			order = append(order, ch.Tensor)
		}
		byTensor[ch.Tensor] = append(byTensor[ch.Tensor], ch)
	}
	var out []Factors
	for _, name := range order {
		m := modules[name]
		t := c.Tensor(name)
		if m == nil || m.Norm != nil || t == nil || len(t.Shape) != 2 {
			return nil, fmt.Errorf("%s: it changes %s, which no product of factors can: merge it with peftkit merge-lora: %w", a.Path, name, ErrNotMergeable)
		}
		w, err := t.AllFloats()
		if err != nil {
			return nil, err
		}
		rows, cols := t.Rows(), t.Cols()
		d := append([]float32(nil), w...)
		for _, ch := range byTensor[name] {
			if ch.Replace != nil {
				if err := ch.Replace(d, 0, rows); err != nil {
					return nil, err
				}
			}
			if ch.Apply != nil {
				ch.Apply(d, 0, rows)
			}
		}
		for i := range d {
			d[i] -= w[i]
		}
		if m.Weight().Conv1D {
			d, rows, cols = turn(d, rows, cols), cols, rows
		}
		f, err := factorise(d, rows, cols, rank)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", a.Path, name, err)
		}
		f.Path, f.Embedding = m.Path, m.Embedding != nil
		out = append(out, *f)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: it changes no weight: %w", a.Path, ErrNoMatch)
	}
	return out, nil
}

func factorise(d []float32, rows, cols, rank int) (*Factors, error) {
	f := &Factors{Out: rows, In: cols, Rank: min(rank, rows, cols)}
	u, s, vt, err := linalg.TruncatedSVD(d, rows, cols, f.Rank)
	if err != nil {
		return nil, err
	}
	for _, x := range d {
		f.Norm += float64(x) * float64(x)
	}
	kept := 0.0
	f.A, f.B = vt, make([]float32, rows*f.Rank)
	for k, v := range s[:f.Rank] {
		kept += float64(v) * float64(v)
		for r := range rows {
			f.B[r*f.Rank+k] = u[r*f.Rank+k] * v
		}
	}
	f.Residual, f.Norm = math.Sqrt(math.Max(0, f.Norm-kept)), math.Sqrt(f.Norm)
	return f, nil
}

func turn(v []float32, rows, cols int) []float32 {
	out := make([]float32, len(v))
	for r := range rows {
		for c := range cols {
			out[c*rows+r] = v[r*cols+c]
		}
	}
	return out
}
