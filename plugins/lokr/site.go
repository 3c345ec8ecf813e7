package lokr

import (
	"math"
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// site adds scale * (w1 ⊗ w2), of [out, in] = [outer0*inner0, outer1*inner1].
type site struct {
	cfg          *config
	layer        *nn.LinearLayer
	scale        float32
	outer, inner [2]int // rows and columns of w1 and of w2
	// w1, or its factors; w2, or its factors.
	w1, w1a, w1b, w2, w2a, w2b *nn.Param

	merged sync.Once
	m1, m2 kernels.Mat
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	zero := map[*nn.Param]bool{}
	switch {
	case s.cfg.init == "lycoris":
		zero[s.w2], zero[s.w2b] = true, true
	case s.cfg.init == "true":
		zero[s.w1], zero[s.w1a] = true, true
	}
	for _, p := range []*nn.Param{s.w1, s.w1a, s.w1b, s.w2, s.w2a, s.w2b} {
		if p != nil && !zero[p] {
			tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64)
		}
	}
	return nil
}

// Attach implements tuner.Site.
//
// For many rows the matrix is formed and is part of the layer's own product. Else
// the update of x, seen as a matrix [outer1, inner1] per row, is w1·x·w2ᵀ: never a
// product with [out, in]. Where w2 = a·b, w1 stands between the two, where the
// matrices are smallest.
func (s *site) Attach(scale float32) error {
	scale *= s.scale
	if scale == 0 {
		return nil
	}
	var formed *nn.Var
	s.layer.AddLowRank(func(*nn.Tape, *nn.Var) nn.LowRank { return nn.LowRank{B: formed, Scale: scale} })
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		if s.skip(t) {
			return next(t, x)
		}
		w1 := s.first(t)
		if s.forms(t, x) {
			d := s.form(t, w1)
			formed = d
			y := next(t, x)
			formed = nil
			t.Discard(d)
			t.Watch(y, func(dy kernels.Mat) { s.gradients(t, w1, x, dy, scale) }, x, w1)
			return y
		}
		y := next(t, x)
		z := s.factors(t, x, nn.Scale(t, w1, scale), y.Cols)
		if rows := s.drop(t); rows != nil {
			z = nn.MulRow(t, z, rows)
		}
		out := nn.Add(t, y, z)
		t.Discard(y)
		t.Discard(z)
		return out
	})
	return nil
}

// factors computes the update from the factors of the matrix.
func (s *site) factors(t *nn.Tape, x, w1 *nn.Var, out int) *nn.Var {
	n := x.Rows
	if s.w2 != nil {
		z := times(t, x, s.w2.V, n*s.outer[1], s.inner[0])
		y := mix(t, z, w1, n, n, out)
		t.Discard(z)
		return y
	}
	z := times(t, x, s.w2b.V, n*s.outer[1], s.w2b.V.Rows)
	m := mix(t, z, w1, n, n*s.outer[0], z.Cols)
	t.Discard(z)
	y := times(t, m, s.w2a.V, n, out)
	t.Discard(m)
	return y
}

func (s *site) first(t *nn.Tape) *nn.Var {
	if s.w1 != nil {
		return s.w1.V
	}
	return nn.MatMul(t, s.w1a.V, s.w1b.V)
}

// skip reports whether this step leaves the module out.
func (s *site) skip(t *nn.Tape) bool {
	m := tuner.DropMask(t, 1, s.cfg.ModuleDropout, false)
	return m != nil && m.Data[0] == 0
}

func (s *site) drop(t *nn.Tape) *nn.Var {
	return tuner.DropMask(t, s.outer[0]*s.inner[0], s.cfg.RankDropout, s.cfg.DropoutScale)
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.merged.Do(func() {
		s.m1, s.m2 = product(s.w1, s.w1a, s.w1b), product(s.w2, s.w2a, s.w2b)
	})
	for r := r0; r < r1; r++ {
		row, one, two := w.Row(r-r0), s.m1.Row(r/s.inner[0]), s.m2.Row(r%s.inner[0])
		for i, a := range one {
			to := row[i*s.inner[1] : (i+1)*s.inner[1]]
			for j, b := range two {
				to[j] += a * b * s.scale * scale
			}
		}
	}
}

func product(whole, a, b *nn.Param) kernels.Mat {
	if whole != nil {
		return whole.V.Mat()
	}
	m := kernels.NewMat(a.V.Rows, b.V.Cols)
	kernels.Gemm(m, false, kernels.Term{A: a.V.Mat(), B: b.V.Mat()})
	return m
}
