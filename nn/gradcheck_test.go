package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
)

// Every operation has cases here-about: a float64 twin written as plainly as
// possible. The harness compares the forward pass with the twin, and the
// gradient of every input with central differences of the twin, so float32
// rounding does not blur the differences.

// mat64 is a float64 matrix.
type mat64 struct {
	r, c int
	d    []float64
}

func newMat64(r, c int) mat64           { return mat64{r, c, make([]float64, r*c)} }
func (m mat64) at(i, j int) float64     { return m.d[i*m.c+j] }
func (m mat64) set(i, j int, v float64) { m.d[i*m.c+j] = v }
func (m mat64) add(i, j int, v float64) { m.d[i*m.c+j] += v }
func (m mat64) each(f func(i, j int) float64) mat64 {
	for i := range m.r {
		for j := range m.c {
			m.set(i, j, f(i, j))
		}
	}
	return m
}

// mulT is a·bᵀ.
func mulT(a, b mat64) mat64 {
	out := newMat64(a.r, b.r)
	return out.each(func(i, j int) (s float64) {
		for k := range a.c {
			s += a.at(i, k) * b.at(j, k)
		}
		return s
	})
}

// opCase is one operation on inputs of given sizes.
type opCase struct {
	name   string
	inputs [][2]int // rows, cols
	// constant lists inputs that never want a gradient.
	constant []int
	run      func(t *Tape, in []*Var) *Var
	twin     func(in []mat64) mat64
	// external inputs stay leaves: parameters.
	params []int
	tol    float64 // 0: 2e-5
}

func (c opCase) has(list []int, i int) bool {
	for _, v := range list {
		if v == i {
			return true
		}
	}
	return false
}

// relay copies x, can be recomputed and is discarded after use: it stands for
// normed and dropped-out inputs.
func relay(t *Tape, x *Var) *Var {
	out := t.New(x.Rows, x.Cols)
	out.Needs = x.Needs
	f := func(dst kernels.Mat) { copy(dst.Data, x.Mat().Data) }
	f(out.Mat())
	t.Recomputable(out, f, x)
	t.record(out, func() { t.passGrad(x, out) })
	return out
}

type gradMode struct {
	name  string
	needs int  // input that alone wants a gradient, -1 for all
	relay bool // inputs are discarded and recomputed
	twice bool // the operation runs twice: gradients are added up
}

// runCase returns the output and the gradients for the output weights seed.
func runCase(tape *Tape, c opCase, data [][]float32, weights []float32, mode gradMode) (out []float32, grads [][]float32) {
	tape.Reset()
	tape.Train = true
	leaves := make([]*Var, len(data))
	in := make([]*Var, len(data))
	for i, d := range data {
		v := &Var{Rows: c.inputs[i][0], Cols: c.inputs[i][1], Data: d}
		v.Needs = !c.has(c.constant, i) && (mode.needs < 0 || mode.needs == i)
		if c.has(c.params, i) {
			v.Grad = make([]float32, len(d))
		}
		leaves[i], in[i] = v, v
	}
	times := 1
	if mode.twice {
		times = 2
	}
	var sum *Var
	for range times {
		if mode.relay {
			for i := range in {
				if !c.has(c.params, i) {
					in[i] = relay(tape, leaves[i])
				}
			}
		}
		y := c.run(tape, in)
		for i := range in {
			if in[i] != leaves[i] {
				tape.Discard(in[i])
			}
		}
		if sum == nil {
			sum = y
		} else {
			sum = Add(tape, sum, y)
		}
	}
	out = append(out, sum.Mat().Data...)
	if sum.Needs {
		g, acc := tape.Grad(sum)
		if acc {
			panic("the output has a gradient already")
		}
		copy(g.Data, weights)
	}
	tape.Backward()
	for _, v := range leaves {
		grads = append(grads, append([]float32(nil), v.Grad...))
	}
	return out, grads
}

func randoms(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func checkOp(t *testing.T, c opCase) {
	t.Run(c.name, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, uint64(len(c.name))))
		data := make([][]float32, len(c.inputs))
		for i, s := range c.inputs {
			data[i] = randoms(r, s[0]*s[1])
		}
		in64 := make([]mat64, len(data))
		for i, d := range data {
			in64[i] = newMat64(c.inputs[i][0], c.inputs[i][1])
			for j, v := range d {
				in64[i].d[j] = float64(v)
			}
		}
		want := c.twin(in64)
		weights := randoms(r, want.r*want.c)
		tol := c.tol
		if tol == 0 {
			tol = 2e-5
		}

		wantGrads := make([][]float64, len(data))
		for i := range data {
			if c.has(c.constant, i) {
				continue
			}
			wantGrads[i] = make([]float64, len(data[i]))
			for j := range data[i] {
				wantGrads[i][j] = math.NaN()
			}
			// Large inputs are sampled, with -short (the race detector makes the twin slow) all of them.
			samples := 50
			if testing.Short() {
				samples = 6
			}
			for j := 0; j < len(data[i]); j += 1 + len(data[i])/samples {
				const h = 1e-5
				loss := func(d float64) (s float64) {
					old := in64[i].d[j]
					in64[i].d[j] = old + d
					for k, v := range c.twin(in64).d {
						s += v * float64(weights[k])
					}
					in64[i].d[j] = old
					return s
				}
				wantGrads[i][j] = (loss(h) - loss(-h)) / (2 * h)
			}
		}

		tape := NewTape()
		tape.mem.poison = true
		defer tape.Close()
		modes := []gradMode{
			{name: "all", needs: -1}, {name: "recomputed inputs", needs: -1, relay: true},
			{name: "twice", needs: -1, twice: true}, {name: "twice recomputed", needs: -1, twice: true, relay: true},
		}
		for i := range data {
			if !c.has(c.constant, i) {
				modes = append(modes, gradMode{name: fmt.Sprintf("input %d alone", i), needs: i, relay: i%2 == 1})
			}
		}
		for _, mode := range modes {
			var firstOut []float32
			var firstGrads [][]float32
			for _, threads := range []int{1, 2, 3, 8} {
				kernels.SetThreads(threads)
				out, grads := runCase(tape, c, data, weights, mode)
				if firstOut != nil {
					requireBits(t, firstOut, out, "output of mode %s on %d threads", mode.name, threads)
					for i := range grads {
						requireBits(t, firstGrads[i], grads[i], "gradient %d of mode %s on %d threads", i, mode.name, threads)
					}
					continue
				}
				firstOut, firstGrads = out, grads
				times := 1.0
				if mode.twice {
					times = 2
				}
				requireClose(t, want.d, out, times, tol, "output of mode %s", mode.name)
				for i, g := range grads {
					if c.has(c.constant, i) || mode.needs >= 0 && mode.needs != i {
						for _, v := range g {
							require.Zero(t, v)
						}
						continue
					}
					requireClose(t, wantGrads[i], g, times, tol, "gradient %d of mode %s", i, mode.name)
				}
			}
		}
		kernels.SetThreads(0)
	})
}

// requireClose compares with an error relative to the largest element. Values come from
// sums of up to some hundred float32 terms, forward and back: bound.Spread(300) is 4e-6,
// and the default of 2e-5 leaves room for the exponential (2 units in the last place) and
// for what a norm or softmax cancels. The twins are float64 with a step of 1e-5: their
// differences are off by 1e-10 relative and add nothing.
func requireClose(t *testing.T, want []float64, got []float32, times, tol float64, msg string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want), msg, args)
	scale := 1e-3
	for _, v := range want {
		if v == v {
			scale = max(scale, math.Abs(v*times))
		}
	}
	for i, v := range want {
		d := math.Abs(v*times - float64(got[i]))
		if v == v && !(d <= tol*scale) {
			require.Failf(t, "not close", "%s: element %d is %g, want %g (largest %g)", fmt.Sprintf(msg, args...), i, got[i], v*times, scale)
		}
	}
}

func requireBits(t *testing.T, want, got []float32, msg string, args ...any) {
	t.Helper()
	require.Len(t, got, len(want), msg, args)
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			require.Failf(t, "bits differ", "%s: element %d is %g, was %g", fmt.Sprintf(msg, args...), i, got[i], want[i])
		}
	}
}
