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
// The update of x, seen as a matrix [outer1, inner1] per row, is w1·x·w2ᵀ: never a
// product with [out, in]. Where w2 = a·b, w1 stands between the two, where the
// matrices are smallest.
func (s *site) Attach(scale float32) error {
	scale *= s.scale
	s.layer.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		y := next(t, x)
		if s.skip(t) {
			return y
		}
		z := nn.View(t, x, x.Rows*s.outer[1], s.inner[1])
		if s.w2 != nil {
			z = s.mix(t, nn.MatMulT(t, z, s.w2.V), x.Rows, scale)
		} else {
			z = nn.MatMulT(t, s.mix(t, nn.MatMulT(t, z, s.w2b.V), x.Rows, scale), s.w2a.V)
		}
		z = nn.View(t, z, x.Rows, y.Cols)
		if rows := s.drop(t); rows != nil {
			z = nn.MulRow(t, z, rows)
		}
		return nn.Add(t, y, z)
	})
	return nil
}

// mixSize is the size up to which w1 is blown up to a matrix for a whole row.
const mixSize = 512

// mix multiplies each of n matrices [outer1, c] of z by scale * w1 from the left.
func (s *site) mix(t *nn.Tape, z *nn.Var, n int, scale float32) *nn.Var {
	w, c := nn.Scale(t, s.first(t), scale), z.Cols
	if max(s.outer[0], s.outer[1])*c <= mixSize {
		one := tuner.Constant(make([]float32, c*c), c, c)
		for i := range c {
			one.Data[i*c+i] = 1
		}
		z = nn.MatMulT(t, nn.View(t, z, n, s.outer[1]*c), nn.Kron(t, w, one))
		return nn.View(t, z, n*s.outer[0], c)
	}
	return nn.TransposeEach(t, nn.MatMulT(t, nn.TransposeEach(t, z, n), w), n)
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
