package nn

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/peftkit/peftkit/kernels"
)

// RoPETable holds the cosines and sines of rotary position embeddings (Su et al.
// 2021). It grows to the largest position asked for and may be used by several
// goroutines at once.
type RoPETable struct {
	invFreq []float32
	scale   float32
	grow    sync.Mutex
	angles  atomic.Pointer[ropeAngles]
}

// ropeAngles holds, for each position, half cosines and half sines.
type ropeAngles struct {
	positions int
	cos, sin  []float32
}

// NewRoPETable returns the table of the angles position*invFreq[i]; attnScale
// multiplies cosines and sines (YaRN; 1 for plain RoPE).
func NewRoPETable(invFreq []float32, attnScale float32) *RoPETable {
	return &RoPETable{invFreq: append([]float32(nil), invFreq...), scale: attnScale}
}

// upTo returns a table of at least n positions.
func (r *RoPETable) upTo(n int) *ropeAngles {
	if a := r.angles.Load(); a != nil && a.positions >= n {
		return a
	}
	r.grow.Lock()
	defer r.grow.Unlock()
	old := r.angles.Load()
	if old == nil {
		old = &ropeAngles{}
	}
	if old.positions >= n {
		return old
	}
	n = max(n, 2*old.positions, 64)
	half := len(r.invFreq)
	a := &ropeAngles{positions: n, cos: make([]float32, n*half), sin: make([]float32, n*half)}
	copy(a.cos, old.cos)
	copy(a.sin, old.sin)
	for p := old.positions; p < n; p++ {
		for i, f := range r.invFreq {
			// transformers multiplies position and frequency in float32.
			s, c := math.Sincos(float64(float32(p) * f))
			a.cos[p*half+i] = float32(c) * r.scale
			a.sin[p*half+i] = float32(s) * r.scale
		}
	}
	r.angles.Store(a)
	return a
}

// RoPE rotates x in place, a row by its position: within each head of headDim
// columns element i turns with element i+half (the order of Hugging Face), where
// half is the number of frequencies; columns past 2*half stay. Backward rotates
// the gradient back.
func RoPE(t *Tape, x *Var, headDim int, pos []int32, table *RoPETable) {
	half := len(table.invFreq)
	if len(pos) != x.Rows || headDim < 2*half || x.Cols%max(headDim, 1) != 0 {
		panic(fmt.Sprintf("nn: RoPE of [%d,%d] with %d positions, heads of %d and %d frequencies",
			x.Rows, x.Cols, len(pos), headDim, half))
	}
	last := int32(0)
	for _, p := range pos {
		if p < 0 {
			panic(fmt.Sprintf("nn: RoPE at position %d", p))
		}
		last = max(last, p)
	}
	angles := table.upTo(int(last) + 1)
	turn := func(m kernels.Mat, sign, gain float32) {
		eachRow(m.Rows, m.Cols, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				p := int(pos[r]) * half
				rotateRow(m.Row(r), headDim, angles.cos[p:p+half], angles.sin[p:p+half], sign, gain)
			}
		})
	}
	turn(x.Mat(), 1, 1)
	inner := x.recompute
	if inner != nil {
		x.recompute = func(dst kernels.Mat) {
			inner(dst)
			turn(dst, 1, 1)
		}
	}
	// An operation before this one may read x in its backward, unrotated.
	restore := x.saves > 0 || t.isPinned(x)
	if !t.Train || !x.Needs && !restore {
		return
	}
	t.nodes = append(t.nodes, node{out: x, inPlace: true, back: func() {
		if x.Grad != nil {
			m, _ := t.Grad(x)
			turn(m, -1, 1)
		}
		switch {
		case !restore:
		case inner != nil:
			x.recompute = inner
			t.drop(x)
		default:
			turn(x.Mat(), -1, 1/(table.scale*table.scale))
		}
	}})
}

// rotateRow turns by the angle times sign (1 or -1) and multiplies by gain.
func rotateRow(row []float32, headDim int, cos, sin []float32, sign, gain float32) {
	half := len(cos)
	sin = sin[:half]
	for h := 0; h < len(row); h += headDim {
		a, b := row[h:h+half], row[h+half:h+2*half]
		for i, c := range cos {
			s := sin[i] * sign
			u, v := a[i], b[i]
			a[i] = (u*c - v*s) * gain
			b[i] = (v*c + u*s) * gain
		}
	}
}
