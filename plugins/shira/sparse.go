package shira

import (
	"slices"
	"sort"

	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// defaultSeed is that of a torch.Generator which nobody seeded.
const defaultSeed = 67280421310721

// draw chooses the elements as PEFT's random_mask does: the first ones of a
// random permutation of all, in ascending order.
func (s *site) draw() {
	shape := [2]int{s.place.Out, s.place.In}
	chosen := s.cfg.chosen[shape]
	if chosen == nil {
		seed := uint64(defaultSeed)
		if s.cfg.Seed != nil {
			seed = *s.cfg.Seed
		}
		chosen = firstOf(torchrng.New(seed), shape[0]*shape[1], s.v.V.Cols)
		slices.Sort(chosen)
		s.cfg.chosen[shape] = chosen
	}
	s.rows, s.cols = make([]int32, len(chosen)), make([]int32, len(chosen))
	for k, at := range chosen {
		s.rows[k], s.cols[k] = int32(at/int64(s.place.In)), int32(at%int64(s.place.In))
	}
}

// firstOf returns the first k elements of torch.randperm(n). PyTorch shuffles
// forward while n is small enough for that, so that they are known after k swaps.
func firstOf(g *torchrng.Generator, n, k int) []int64 {
	if n >= (1<<32-1)/20 {
		return g.Randperm(int64(n))[:k]
	}
	moved := map[int64]int64{}
	at := func(i int64) int64 {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	out := make([]int64, k)
	for i := range int64(k) {
		j := i
		if i < int64(n)-1 {
			j += int64(uint64(g.Uint32()) % uint64(int64(n)-i))
		}
		out[i] = at(j)
		moved[j] = at(i)
	}
	return out
}

// order lists elements by rows of the stored matrix.
type order struct {
	start  []int32 // where each stored row begins
	col    []int32 // ascending within a row
	number []int32 // of the element in the file
}

func sorted(rows, cols []int32, transposed bool) order {
	if transposed {
		rows, cols = cols, rows
	}
	o := order{col: make([]int32, len(rows)), number: make([]int32, len(rows))}
	for k := range o.number {
		o.number[k] = int32(k)
	}
	slices.SortStableFunc(o.number, func(a, b int32) int {
		if d := rows[a] - rows[b]; d != 0 {
			return int(d)
		}
		return int(cols[a] - cols[b])
	})
	for i, k := range o.number {
		o.col[i] = cols[k]
		for int32(len(o.start)) <= rows[k] {
			o.start = append(o.start, int32(i))
		}
	}
	return o
}

// add adds scale times the values to elements col to col+len(v) of a stored row.
func (o *order) add(v []float32, row, col int, values []float32, scale float32) {
	if row >= len(o.start) {
		return
	}
	end := len(o.col)
	if row+1 < len(o.start) {
		end = int(o.start[row+1])
	}
	at := o.col[o.start[row]:end]
	first := sort.Search(len(at), func(i int) bool { return int(at[i]) >= col })
	for i := first; i < len(at) && int(at[i]) < col+len(v); i++ {
		v[int(at[i])-col] += scale * values[o.number[int(o.start[row])+i]]
	}
}

// grad computes the gradients of the chosen elements alone: for each the product
// of a column of dy and one of x, which are turned to lie in one piece.
func (s *site) grad(t *nn.Tape, x, dy kernels.Mat, scale float32) {
	const chunk = 256 // rows; their columns stay in the cache
	g, acc := t.Grad(s.v.V)
	d := g.Row(0)
	if !acc {
		clear(d)
	}
	for from := 0; from < x.Rows; from += chunk {
		to := min(from+chunk, x.Rows)
		xt, yt := turned(t, x.RowsOf(from, to)), turned(t, dy.RowsOf(from, to))
		xm, ym := xt.Mat(), yt.Mat()
		kernels.Parallel(len(d), 512, func(lo, hi int) {
			for k := lo; k < hi; k++ {
				d[k] += scale * kernels.Dot(ym.Row(int(s.rows[k])), xm.Row(int(s.cols[k])))
			}
		})
		t.Discard(xt)
		t.Discard(yt)
	}
}

// turned returns the transpose of m.
func turned(t *nn.Tape, m kernels.Mat) *nn.Var {
	out := t.New(m.Cols, m.Rows)
	o := out.Mat()
	kernels.Parallel(m.Cols, 32, func(lo, hi int) {
		part := kernels.Mat{Data: m.Data[lo:], Rows: m.Rows, Cols: hi - lo, Stride: m.Stride}
		kernels.Transpose(o.RowsOf(lo, hi), part)
	})
	return out
}
