package fourierft

import (
	"math"
	"sync"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// planes computes sums of plane waves over a matrix [out, in],
//
//	D[p,q] = Σ c[k] cos(2π(p·u[k]/out + q·v[k]/in)),
//
// and their gradient. Along a row it adds up the few waves that there are; along a
// column it is a discrete Fourier transform in two steps (Cooley and Tukey 1965),
// out = n1·n2, each step a matrix product with a small matrix of cosines and sines.
type planes struct {
	out, in        int
	n1, n2         int
	cos1, sin1     kernels.Mat // [n1, n1]
	cos2, sin2     kernels.Mat // [n2, n2]
	turnRe, turnIm []float32   // [n1*n2], between the steps
	rowRe, rowIm   []float32   // cos and sin of 2πj/in

	mu   sync.Mutex // over the scratch of one transform
	held []kernels.Mat
}

// scratch returns four matrices [out, in], the first two of zeros.
func (p *planes) scratch() (re, im, xr, xi kernels.Mat) {
	for len(p.held) < 4 {
		p.held = append(p.held, kernels.NewMat(p.out, p.in))
	}
	clear(p.held[0].Data)
	clear(p.held[1].Data)
	return p.held[0], p.held[1], p.held[2], p.held[3]
}

func newPlanes(out, in int) *planes {
	p := &planes{out: out, in: in, n1: 1, n2: out}
	for d := 2; d*d <= out; d++ {
		if out%d == 0 {
			p.n1, p.n2 = d, out/d
		}
	}
	p.cos1, p.sin1 = waves(p.n1)
	p.cos2, p.sin2 = waves(p.n2)
	for a := range p.n1 {
		for b := range p.n2 {
			c, s := wave(a*b, out)
			p.turnRe, p.turnIm = append(p.turnRe, c), append(p.turnIm, s)
		}
	}
	for j := range in {
		c, s := wave(j, in)
		p.rowRe, p.rowIm = append(p.rowRe, c), append(p.rowIm, s)
	}
	return p
}

func wave(k, n int) (cos, sin float32) {
	s, c := math.Sincos(2 * math.Pi * float64(k%n) / float64(n))
	return float32(c), float32(s)
}

func waves(n int) (cos, sin kernels.Mat) {
	cos, sin = kernels.NewMat(n, n), kernels.NewMat(n, n)
	for i := range n {
		for j := range n {
			cos.Row(i)[j], sin.Row(i)[j] = wave(i*j, n)
		}
	}
	return cos, sin
}

// wide views a matrix [out, in] as [n1, n2*in]: row n2*a + b is part b of row a.
func (p *planes) wide(m kernels.Mat) kernels.Mat { return kernels.MatOf(m.Data, p.n1, p.n2*p.in) }

// every views the rows of a matrix [out, in] whose number is a plus a multiple of n1.
func (p *planes) every(m kernels.Mat, a int) kernels.Mat {
	return kernels.Mat{Data: m.Data[a*p.in:], Rows: p.n2, Cols: p.in, Stride: p.n1 * p.in}
}

// part views the n2 rows from a*n2 on.
func (p *planes) part(m kernels.Mat, a int) kernels.Mat { return m.RowsOf(a*p.n2, (a+1)*p.n2) }

// turn multiplies the rows between the steps by their waves.
func (p *planes) turn(re, im kernels.Mat) {
	kernels.Parallel(p.out, 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			c, s, x, y := p.turnRe[i], p.turnIm[i], re.Row(i), im.Row(i)
			for j := range x {
				x[j], y[j] = c*x[j]-s*y[j], c*y[j]+s*x[j]
			}
		}
	})
}

// minus is a term with its sign turned.
func minus(a, b kernels.Mat) kernels.Term { return kernels.Term{A: a, B: b, Scale: -1} }

func plus(a, b kernels.Mat) kernels.Term { return kernels.Term{A: a, B: b} }

// forward computes D for coefficients c at the given places.
func (p *planes) forward(d kernels.Mat, c []float32, rows, cols []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	re, im, xr, xi := p.scratch()
	for _, list := range byRow(rows) { // one goroutine may not share a row with another
		kernels.Parallel(len(list), 8, func(lo, hi int) {
			for _, k := range list[lo:hi] {
				p.addRow(re.Row(rows[k]), im.Row(rows[k]), c[k], cols[k])
			}
		})
	}
	kernels.Gemm(p.wide(xr), false, plus(p.cos1, p.wide(re)), minus(p.sin1, p.wide(im)))
	kernels.Gemm(p.wide(xi), false, plus(p.cos1, p.wide(im)), plus(p.sin1, p.wide(re)))
	p.turn(xr, xi)
	for a := range p.n1 {
		kernels.Gemm(p.every(d, a), false, plus(p.cos2, p.part(xr, a)), minus(p.sin2, p.part(xi, a)))
	}
}

// byRow splits the places into lists in none of which a row comes twice.
func byRow(rows []int) [][]int {
	seen := map[int]int{}
	var lists [][]int
	for k, r := range rows {
		n := seen[r]
		seen[r]++
		if n == len(lists) {
			lists = append(lists, nil)
		}
		lists[n] = append(lists[n], k)
	}
	return lists
}

// addRow adds c times the wave v to a row.
func (p *planes) addRow(re, im []float32, c float32, v int) {
	at := 0
	for q := range re {
		re[q] += c * p.rowRe[at]
		im[q] += c * p.rowIm[at]
		if at += v; at >= p.in {
			at -= p.in
		}
	}
}

// backward adds the gradient of the coefficients for a gradient dD.
func (p *planes) backward(g []float32, dd kernels.Mat, rows, cols []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	re, im, xr, xi := p.scratch()
	kernels.Gemm(p.wide(xr), false, plus(p.cos1, p.wide(dd)))
	kernels.Gemm(p.wide(xi), false, plus(p.sin1, p.wide(dd)))
	p.turn(xr, xi)
	for a := range p.n1 {
		kernels.Gemm(p.every(re, a), false, plus(p.cos2, p.part(xr, a)), minus(p.sin2, p.part(xi, a)))
		kernels.Gemm(p.every(im, a), false, plus(p.cos2, p.part(xi, a)), plus(p.sin2, p.part(xr, a)))
	}
	kernels.Parallel(len(rows), 8, func(lo, hi int) {
		for k := lo; k < hi; k++ {
			x, y, at, v := re.Row(rows[k]), im.Row(rows[k]), 0, cols[k]
			var sum float32
			for q := range x {
				sum += x[q]*p.rowRe[at] - y[q]*p.rowIm[at]
				if at += v; at >= p.in {
					at -= p.in
				}
			}
			g[k] += sum
		}
	})
}

// transform is the operation: [out, in] from the coefficients.
func transform(t *nn.Tape, c *nn.Var, p *planes, rows, cols []int) *nn.Var {
	d := t.New(p.out, p.in)
	d.Needs = c.Needs
	p.forward(d.Mat(), c.Data, rows, cols)
	t.Record(d, func() {
		m, add := t.Grad(c)
		if !add {
			clear(m.Data)
		}
		p.backward(m.Data, kernels.MatOf(d.Grad, p.out, p.in), rows, cols)
	})
	return d
}
