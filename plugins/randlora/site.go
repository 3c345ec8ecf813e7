package randlora

import (
	"math/rand/v2"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// The kinds of parts of the shared matrices.
const (
	columnsOfB = iota
	columnsOfBTurned
)

// part returns a constant made of the shared matrices for modules with n bases, whose
// other side is size long. All modules of a shape share it.
func (c *config) part(kind, n, size int) *nn.Var {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.makePart(kind, n, size)
}

func (c *config) makePart(kind, n, size int) *nn.Var {
	key := [3]int{kind, n, size}
	if v := c.parts[key]; v != nil {
		return v
	}
	k := c.R * n
	var v *nn.Var
	switch kind {
	case columnsOfB: // column (b,i)
		all := c.b.Shape[1] * c.R
		v = tuner.Constant(make([]float32, size*k), size, k)
		for i := range size {
			copy(v.Data[i*k:(i+1)*k], c.b.V.Data[i*all:])
		}
	case columnsOfBTurned:
		b := c.makePart(columnsOfB, n, size)
		v = tuner.Constant(make([]float32, size*k), k, size)
		for i := range size {
			for j := range k {
				v.Data[j*size+i] = b.Data[i*k+j]
			}
		}
	}
	c.parts[key] = v
	return v
}

// site adds scale * B·A' to a layer with fewer inputs than outputs, otherwise
// scale * A'ᵀ·Bᵀ: A' is A, once for each basis, with rows weighted by lambda and
// columns by gamma. (PEFT joins row (rank, basis) of A' to column (basis, rank) of B.)
type site struct {
	cfg           *config
	layer         *nn.LinearLayer
	out, in, n    int
	scale         float32
	lambda, gamma *nn.Param // [r, bases], [bases, smaller side]

	once sync.Once
	m    kernels.Mat
}

// Init implements tuner.Site.
func (s *site) Init(rng *rand.Rand) error {
	value := 1 / float32(max(s.gamma.V.Rows, s.gamma.V.Cols))
	if !s.cfg.Init {
		value = 1 / float32(max(s.out, s.in))
		tuner.Normal(s.lambda.V.Data, 1, rng.NormFloat64)
	}
	for i := range s.gamma.V.Data {
		s.gamma.V.Data[i] = value
	}
	return nil
}

// small returns A', [rank*bases, smaller side]: row (i,b) is row i of A, times row b
// of gamma and element (i,b) of lambda.
func (s *site) small(t *nn.Tape) *nn.Var {
	r, n, cols := s.cfg.R, s.n, s.gamma.V.Cols
	lambda, gamma, a := s.lambda.V, s.gamma.V.Mat(), s.cfg.a.V.Mat()
	out := t.New(r*n, cols)
	out.Needs = lambda.Needs || s.gamma.V.Needs
	m := out.Mat()
	kernels.Parallel(r*n, 16, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			kernels.Mul(m.Row(k), a.Row(k / n)[:cols], gamma.Row(k%n))
			kernels.Scale(m.Row(k), lambda.Data[k])
		}
	})
	t.Record(out, func() {
		dy := kernels.MatOf(out.Grad, out.Rows, out.Cols)
		dl, dg := zeroed(t, lambda), zeroed(t, s.gamma.V)
		kernels.Parallel(n, 1, func(lo, hi int) {
			tmp := make([]float32, cols)
			for b := lo; b < hi; b++ {
				for k := b; k < r*n; k += n {
					kernels.Mul(tmp, dy.Row(k), a.Row(k / n)[:cols])
					dl.Data[k] += kernels.Dot(tmp, gamma.Row(b))
					kernels.Axpy(lambda.Data[k], tmp, dg.Row(b))
				}
			}
		})
	}, lambda)
	return out
}

// zeroed returns the gradient of v to be added to.
func zeroed(t *nn.Tape, v *nn.Var) kernels.Mat {
	m, acc := t.Grad(v)
	if !acc {
		clear(m.Data)
	}
	return m
}

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	wide := s.out >= s.in // A' on the input
	rank := s.cfg.R * s.n
	var large *nn.Var
	if wide {
		large = s.cfg.part(columnsOfB, s.n, s.out)
	} else {
		large = s.cfg.part(columnsOfBTurned, s.n, s.in)
	}
	s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
		l := nn.LowRank{X: nn.Dropout(t, x, float32(s.cfg.Dropout)), Scale: scale * s.scale}
		a := s.small(t)
		// The rank is full: for many rows the matrix itself costs less than its factors.
		dense := s.in*s.out*(rank+x.Rows) < x.Rows*rank*(s.in+s.out)
		switch {
		case dense && wide:
			l.B = nn.MatMul(t, large, a)
		case dense:
			l.B = nn.BatchMatMul(t, a, large, 1, true, false)
		case wide:
			l.A, l.B = a, large
		default:
			l.A, l.B = large, nn.Transpose(t, a)
		}
		if l.B != a && l.A != a {
			t.Discard(a)
		}
		return l
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.once.Do(func() {
		t := nn.NewTape()
		defer t.Close()
		a := s.small(t)
		if s.out < s.in {
			a = nn.Transpose(t, a)
		}
		s.m = kernels.MatOf(append([]float32(nil), a.Mat().Data...), a.Rows, a.Cols)
	})
	if s.out >= s.in {
		tuner.AddProduct(w, s.cfg.part(columnsOfB, s.n, s.out).Mat().RowsOf(r0, r1), s.m, scale*s.scale)
		return
	}
	tuner.AddProduct(w, s.m.RowsOf(r0, r1), s.cfg.part(columnsOfBTurned, s.n, s.in).Mat(), scale*s.scale)
}
