package fourierft

import (
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// planes computes sums of plane waves over a matrix [out, in],
//
//	D[p,q] = Σ c[k] cos(2π(p·u[k]/out + q·v[k]/in)),
//
// and their gradient. The cosine of the sum is cos·cos - sin·sin, and each of the
// two is a product C = cosOut·S·cosInᵀ with the coefficients in a matrix S by
// frequency. Symmetry leaves a few small dense products of them (see axis); what
// they give is then unfolded to the whole matrix in one pass.
type planes struct {
	out, in *axis
	at      []int     // where each coefficient stands in S
	sign    []float32 // that of its sines
	inFirst bool      // the order of the two products that is cheaper
	mem     *memory
}

// memory is what a transform works in; transforms that share it wait for each other.
type memory struct {
	sync.Mutex
	s, t, w [2][]float32 // of cosines and of sines
	zero    []float32
}

func newPlanes(out, in int, rows, cols []int, mem *memory) *planes {
	p := &planes{out: newAxis(out, rows), in: newAxis(in, cols), mem: mem}
	for k := range rows {
		u, su := p.out.place(rows[k])
		v, sv := p.in.place(cols[k])
		p.at, p.sign = append(p.at, u*len(p.in.freqs)+v), append(p.sign, su*sv)
	}
	fo, fi, po, pi := len(p.out.freqs), len(p.in.freqs), p.out.points, p.in.points
	p.inFirst = fo*pi*(fi+po*p.in.halves) <= fi*po*(fo+pi*p.out.halves)
	return p
}

// matrices returns the matrices of one kind: the coefficients, what lies between
// the two products, and their result, in which halves lie below and beside each other.
func (p *planes) matrices(kind int) (s, t, w kernels.Mat) {
	fo, fi := len(p.out.freqs), len(p.in.freqs)
	po, pi := p.out.points*p.out.halves, p.in.points*p.in.halves
	view := func(b *[]float32, rows, cols int) kernels.Mat {
		if len(*b) < rows*cols {
			*b = make([]float32, rows*cols)
		}
		return kernels.MatOf(*b, rows, cols)
	}
	s, w = view(&p.mem.s[kind], fo, fi), view(&p.mem.w[kind], po, pi)
	if p.inFirst {
		return s, view(&p.mem.t[kind], fo, pi), w
	}
	return s, view(&p.mem.t[kind], po, fi), w
}

// jobs runs f for both kinds and both halves: at once if that keeps all threads busy.
func jobs(halves int, f func(kind, h int)) {
	if kernels.Threads() <= 2*halves {
		kernels.Parallel(2*halves, 1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				f(i%2, i/2)
			}
		})
		return
	}
	for i := range 2 * halves {
		f(i%2, i/2)
	}
}

// along calls f with the three matrices that the products along one axis go through
// for one half of its frequencies: dst of places, src of frequencies, and its waves.
func (p *planes) along(in bool, f func(kind int, places, freqs, waves kernels.Mat)) {
	a := p.out
	if in {
		a = p.in
	}
	jobs(a.halves, func(kind, h int) {
		s, t, w := p.matrices(kind)
		places, freqs := w, t
		if in == p.inFirst {
			places, freqs = t, s
		}
		from, to := a.half(h)
		if in {
			f(kind, part(places, 0, places.Rows, h*a.points, (h+1)*a.points), part(freqs, 0, freqs.Rows, from, to), a.waves(kind, h))
		} else {
			f(kind, part(places, h*a.points, (h+1)*a.points, 0, places.Cols), part(freqs, from, to, 0, freqs.Cols), a.waves(kind, h))
		}
	})
}

// forward computes D for coefficients c.
func (p *planes) forward(d kernels.Mat, c []float32) {
	p.mem.Lock()
	defer p.mem.Unlock()
	p.grow()
	kernels.Parallel(2, 1, func(lo, hi int) {
		for kind := lo; kind < hi; kind++ {
			s, _, _ := p.matrices(kind)
			clear(s.Data)
			for k, v := range c {
				if kind == 1 {
					v *= p.sign[k]
				}
				s.Data[p.at[k]] += v
			}
		}
	})
	for _, in := range []bool{p.inFirst, !p.inFirst} {
		p.along(in, func(_ int, places, freqs, waves kernels.Mat) {
			if in {
				kernels.Gemm(places, false, kernels.Term{A: freqs, B: waves, TransB: true})
			} else {
				kernels.Gemm(places, false, kernels.Term{A: waves, B: freqs})
			}
		})
	}
	kernels.Parallel(p.out.points, 4, func(lo, hi int) {
		spare := make([]float32, p.in.n)
		for i := lo; i < hi; i++ {
			p.unfold(d, i, spare)
		}
	})
}

// backward adds the gradient of the coefficients for a gradient dD.
func (p *planes) backward(g []float32, dd kernels.Mat) {
	p.mem.Lock()
	defer p.mem.Unlock()
	p.grow()
	kernels.Parallel(p.out.points, 4, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			p.fold(dd, i)
		}
	})
	for _, in := range []bool{!p.inFirst, p.inFirst} {
		p.along(in, func(_ int, places, freqs, waves kernels.Mat) {
			if in {
				kernels.Gemm(freqs, false, kernels.Term{A: places, B: waves})
			} else {
				kernels.Gemm(freqs, false, kernels.Term{A: waves, TransA: true, B: places})
			}
		})
	}
	c, _, _ := p.matrices(0)
	s, _, _ := p.matrices(1)
	for k, at := range p.at {
		g[k] += c.Data[at] + p.sign[k]*s.Data[at]
	}
}

// grow makes the memory large enough, before several goroutines look at it.
func (p *planes) grow() {
	p.matrices(0)
	p.matrices(1)
	if n := p.in.points * 2; len(p.mem.zero) < n {
		p.mem.zero = make([]float32, n)
	}
}

// folded is one row of places of both kinds: [half of out][half of in].
type folded struct{ cos, sin [2][2][]float32 }

// row returns the parts of row i; absent halves are zeros, or nil.
func (p *planes) row(i int, absent []float32) folded {
	var f folded
	_, _, c := p.matrices(0)
	_, _, s := p.matrices(1)
	for h := range 2 {
		for g := range 2 {
			f.cos[h][g], f.sin[h][g] = absent, absent
			if h < p.out.halves && g < p.in.halves {
				from, to := g*p.in.points, (g+1)*p.in.points
				f.cos[h][g], f.sin[h][g] = c.Row(h*p.out.points + i)[from:to], s.Row(h*p.out.points + i)[from:to]
			}
		}
	}
	return f
}

// unfold writes the rows of D that row i of places stands for: up to four.
func (p *planes) unfold(d kernels.Mat, i int, spare []float32) {
	f := p.row(i, p.mem.zero[:p.in.points])
	n, points := p.in.n, p.in.points
	for h, rows := range p.out.images(i) {
		if rows[0] < 0 {
			continue
		}
		// At n/2-p even frequencies turn the sign of their sines, odd ones of their cosines.
		turn := float32(1 - 2*h)
		up, down := d.Row(rows[0]), spare
		if rows[1] >= 0 {
			down = d.Row(rows[1])
		}
		a0, a1, A0, A1 := f.cos[0][0], f.cos[0][1][:points], f.cos[1][0][:points], f.cos[1][1][:points]
		b0, b1, B0, B1 := f.sin[0][0][:points], f.sin[0][1][:points], f.sin[1][0][:points], f.sin[1][1][:points]
		inner := 0
		if p.in.halves == 2 {
			inner = (n + 3) / 4 // places with four images of their own lie between 0 and this
		}
		for q := range a0 {
			c0, c1 := a0[q]+turn*A0[q], a1[q]+turn*A1[q]
			s0, s1 := turn*b0[q]+B0[q], turn*b1[q]+B1[q]
			x, y, x2, y2 := c0+c1, s0+s1, c0-c1, s1-s0
			if q > 0 && q < inner {
				up[q], up[n-q], up[n/2-q], up[n/2+q] = x-y, x+y, x2-y2, x2+y2
				down[q], down[n-q], down[n/2-q], down[n/2+q] = x+y, x-y, x2+y2, x2-y2
				continue
			}
			for g, at := range p.in.images(q) {
				if g == 1 {
					x, y = x2, y2
				}
				if j := at[0]; j >= 0 {
					up[j], down[j] = x-y, x+y
				}
				if j := at[1]; j >= 0 {
					up[j], down[j] = x+y, x-y
				}
			}
		}
	}
}

// fold is the transpose of unfold: it sums the rows of dD that row i stands for.
func (p *planes) fold(dd kernels.Mat, i int) {
	f := p.row(i, nil)
	n, points := p.in.n, p.in.points
	inner := 0
	if p.in.halves == 2 {
		inner = (n + 3) / 4
	}
	for h, rows := range p.out.images(i) {
		if rows[0] < 0 {
			continue
		}
		up := dd.Row(rows[0])
		var down []float32
		if rows[1] >= 0 {
			down = dd.Row(rows[1])
		}
		turn := float32(1 - 2*h)
		for q := range points {
			var x, y, x2, y2 float32
			if q > 0 && q < inner && down != nil {
				u0, u1, u2, u3 := up[q], up[n-q], up[n/2-q], up[n/2+q]
				d0, d1, d2, d3 := down[q], down[n-q], down[n/2-q], down[n/2+q]
				x, y = u0+u1+(d0+d1), u1-u0+(d0-d1)
				x2, y2 = u2+u3+(d2+d3), u3-u2+(d2-d3)
			} else {
				for g, at := range p.in.images(q) {
					var c, s float32
					for m, j := range at {
						if j < 0 {
							continue
						}
						turned := float32(2*m - 1)
						c, s = c+up[j], s+turned*up[j]
						if down != nil {
							c, s = c+down[j], s-turned*down[j]
						}
					}
					if g == 0 {
						x, y = c, s
					} else {
						x2, y2 = c, s
					}
				}
			}
			cos, sin := [2]float32{x + x2, x - x2}, [2]float32{y - y2, y + y2}
			for g := range p.in.halves {
				if h == 0 {
					f.cos[0][g][q], f.sin[0][g][q] = cos[g], sin[g]
					if p.out.halves == 2 {
						f.cos[1][g][q], f.sin[1][g][q] = cos[g], sin[g]
					}
					continue
				}
				f.cos[0][g][q] += cos[g]
				f.cos[1][g][q] -= cos[g]
				f.sin[0][g][q] += turn * sin[g]
				f.sin[1][g][q] += sin[g]
			}
		}
	}
}

// transform is the operation: [out, in] from the coefficients.
func transform(t *nn.Tape, c *nn.Var, p *planes) *nn.Var {
	d := t.New(p.out.n, p.in.n)
	d.Needs = c.Needs
	fill := func(m kernels.Mat) { p.forward(m, c.Data) }
	fill(d.Mat())
	t.Recomputable(d, fill, c)
	t.Record(d, func() {
		m, add := t.Grad(c)
		if !add {
			clear(m.Data)
		}
		p.backward(m.Data, kernels.MatOf(d.Grad, d.Rows, d.Cols))
	}, c)
	return d
}
