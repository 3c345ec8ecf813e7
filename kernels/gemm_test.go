package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
)

// forEachTier runs f as a subtest on every tier of this machine and on the models of all.
func forEachTier(t *testing.T, f func(t *testing.T)) {
	for _, tier := range append(Tiers(), Models()...) {
		t.Run(tier, func(t *testing.T) {
			restore, err := Force(tier)
			require.NoError(t, err)
			defer restore()
			f(t)
		})
	}
}

func randomSlice(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// randomMat has a stride larger than its width, so that a kernel which runs past
// a row is seen: the gaps hold NaN.
func randomMat(r *rand.Rand, rows, cols int) Mat {
	stride := cols + r.IntN(3)
	m := Mat{Data: randomSlice(r, max((rows-1)*stride+cols, 0)), Rows: rows, Cols: cols, Stride: stride}
	for i := range m.Data {
		if i%stride >= cols {
			m.Data[i] = float32(math.NaN())
		}
	}
	return m
}

// storage describes how a test weight is stored.
type storage struct {
	name              string
	block, bytes      int
	encode            func([]byte, []float32)
	decode            func([]float32, []byte)
	float32, permuted bool
}

var storages = []storage{
	{name: "F32", block: 1, bytes: 4, encode: EncodeF32, decode: DecodeF32, float32: true},
	{name: "F32perm", block: 1, bytes: 4, encode: EncodeF32, decode: DecodeF32, float32: true, permuted: true},
	{name: "F16", block: 1, bytes: 2, encode: EncodeF16, decode: DecodeF16},
	{name: "BF16", block: 1, bytes: 2, encode: EncodeBF16, decode: DecodeBF16},
	{name: "Q8_0", block: 32, bytes: 34, encode: EncodeQ8_0, decode: DecodeQ8_0},
	{name: "Q4_0perm", block: 32, bytes: 18, encode: EncodeQ4_0, decode: DecodeQ4_0, permuted: true},
	{name: "Q4_1", block: 32, bytes: 20, encode: EncodeQ4_1, decode: DecodeQ4_1},
	// A block as long as that of the K-quants, in the simplest content.
	{name: "Block256", block: 256, bytes: 512, encode: EncodeBF16, decode: DecodeBF16},
}

// randomWeight returns a stored weight and the matrix it stands for.
func (s storage) randomWeight(r *rand.Rand, rows, cols int) (*Weight, Mat) {
	w := &Weight{
		Rows: rows, Cols: cols, RowBytes: cols / s.block * s.bytes, Block: s.block, BlockBytes: s.bytes,
		Decode: s.decode, Float32: s.float32,
	}
	w.Data = make([]byte, rows*w.RowBytes)
	s.encode(w.Data, randomSlice(r, rows*cols))
	if s.permuted {
		w.Perm = make([]int32, rows)
		for i, p := range r.Perm(rows) {
			w.Perm[i] = int32(p)
		}
	}
	m := NewMat(rows, cols)
	for i := range rows {
		w.decode(m.Row(i), i, 0)
	}
	return w, m
}

// reference computes rows of the product in float64; mag sums the magnitudes of
// the products, which bounds the rounding error.
func reference(c Mat, add bool, terms []Term, dense []Mat, rows []int) (want, mag [][]float64) {
	for range rows {
		want, mag = append(want, make([]float64, c.Cols)), append(mag, make([]float64, c.Cols))
	}
	if add {
		for x, i := range rows {
			for j, v := range c.Row(i) {
				want[x][j], mag[x][j] = f64(v), math.Abs(f64(v))
			}
		}
	}
	for y, t := range terms {
		s := f64(t.Scale)
		if s == 0 {
			s = 1
		}
		k, ai, ap := t.A.Cols, t.A.Stride, 1
		if t.TransA {
			k, ai, ap = t.A.Rows, 1, t.A.Stride
		}
		b, bp, bj := dense[y].Data, dense[y].Stride, 1
		if t.TransB {
			bp, bj = bj, bp
		}
		for x, i := range rows {
			for p := range k {
				a := s * f64(t.A.Data[i*ai+p*ap])
				for j := range c.Cols {
					v := a * f64(b[p*bp+j*bj])
					want[x][j] += v
					mag[x][j] += math.Abs(v)
				}
			}
		}
	}
	return want, mag
}

// chain is the largest number of roundings behind an element of a product: one for each
// of the products, if they are one chain, and those of scales and joined operands.
func chain(terms []Term) int {
	k := 0
	for _, t := range terms {
		kt, _ := t.right()
		k += kt
	}
	return k + 2*len(terms)
}

// checkProduct compares Gemm with the reference: all rows of a small product, a
// few of a large one.
func checkProduct(t *testing.T, r *rand.Rand, m, n int, add bool, terms []Term, dense []Mat) {
	t.Helper()
	c := randomMat(r, m, n)
	rows := seq(0, m-1)
	limit := 1 << 20
	if raceEnabled {
		limit = 1 << 15 // this loop is what takes the time then
	}
	if k := max(terms[0].A.Rows, terms[0].A.Cols); m > 8 && m*n*k > limit {
		rows = []int{0, 1, r.IntN(m), r.IntN(m), r.IntN(m), r.IntN(m), m - 2, m - 1}
	}
	want, mag := reference(c, add, terms, dense, rows)
	gaps := slices.Clone(c.Data)
	Gemm(c, add, terms...)
	for x, i := range rows {
		for j, v := range c.Row(i) {
			if d := math.Abs(f64(v) - want[x][j]); !(d <= bound.Spread(chain(terms))*mag[x][j]) {
				t.Fatalf("C[%d,%d] = %v, want %v (error %g, magnitude %g)", i, j, v, want[x][j], d, mag[x][j])
			}
		}
	}
	for i, v := range c.Data {
		if i%c.Stride >= n && math.Float32bits(v) != math.Float32bits(gaps[i]) {
			t.Fatalf("the gap behind row %d was written", i/c.Stride)
		}
	}
}

func operand(r *rand.Rand, rows, cols int, trans bool) Mat {
	if trans {
		return randomMat(r, cols, rows)
	}
	return randomMat(r, rows, cols)
}

func TestGemmShapes(t *testing.T) {
	sizes := []int{1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 31, 32, 33, 47, 64, 65, 100}
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			m, n, k := sizes[r.IntN(len(sizes))], sizes[r.IntN(len(sizes))], sizes[r.IntN(len(sizes))]
			term := Term{TransA: r.IntN(2) == 0, TransB: r.IntN(2) == 0}
			term.A, term.B = operand(r, m, k, term.TransA), operand(r, k, n, term.TransB)
			checkProduct(t, r, m, n, r.IntN(2) == 0, []Term{term}, []Mat{term.B})
		}
	})
}

func TestGemmTerms(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		for _, sh := range [][3]int{{37, 130, 700}, {64, 33, 640}, {100, 200, 641}, {13, 500, 1300}, {3, 130, 700}, {300, 16, 1500}, {16, 300, 1500}} {
			for _, add := range []bool{false, true} {
				m, n, k := sh[0], sh[1], sh[2]
				var terms []Term
				var dense []Mat
				for i, kt := range []int{k, 16, 0, 7} {
					tr := Term{TransA: i&1 == 1, TransB: i != 2, Scale: []float32{0, 0.5, 1, -2}[i]}
					tr.A, tr.B = operand(r, m, kt, tr.TransA), operand(r, kt, n, tr.TransB)
					terms, dense = append(terms, tr), append(dense, tr.B)
				}
				checkProduct(t, r, m, n, add, terms, dense)
			}
		}
	})
}

func TestGemmWeights(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for _, st := range storages {
			for _, trans := range []bool{true, false} {
				for _, m := range []int{2, 24, 61} {
					for _, lora := range []bool{false, true} {
						rows, cols := 84+r.IntN(30), 768
						w, d := st.randomWeight(r, rows, cols)
						n, k := cols, rows
						if trans {
							n, k = rows, cols
						}
						terms := []Term{{A: randomMat(r, m, k), W: w, TransB: trans}}
						dense := []Mat{d}
						if lora { // first, so that the weight begins inside a block of K
							x := Term{A: randomMat(r, m, 9), B: operand(r, 9, n, true), TransB: true, Scale: 2}
							terms, dense = append([]Term{x}, terms...), append([]Mat{x.B}, dense...)
						}
						t.Run(fmt.Sprintf("%s/trans=%v/m=%d/lora=%v", st.name, trans, m, lora), func(t *testing.T) {
							checkProduct(t, r, m, n, m == 24, terms, dense)
						})
					}
				}
			}
		}
	})
}

// More of op(A) than one round packs.
func TestGemmRounds(t *testing.T) {
	if testing.Short() {
		t.Skip("large")
	}
	r := rand.New(rand.NewPCG(9, 9))
	for _, sh := range [][3]int{{120, 66, 40000}, {30000, 66, 150}} {
		for _, trans := range []bool{true, false} { // false: a deep product
			term := Term{A: randomMat(r, sh[0], sh[2]), B: operand(r, sh[2], sh[1], trans), TransB: trans}
			checkProduct(t, r, sh[0], sh[1], true, []Term{term}, []Mat{term.B})
		}
	}
}

func TestGemmEmpty(t *testing.T) {
	c := MatOf([]float32{1, 2, 3, 4}, 2, 2)
	Gemm(c, true)
	require.Equal(t, []float32{1, 2, 3, 4}, c.Data)
	Gemm(c, true, Term{A: NewMat(2, 0), B: NewMat(0, 2)})
	require.Equal(t, []float32{1, 2, 3, 4}, c.Data)
	Gemm(c, false, Term{A: NewMat(2, 0), B: NewMat(0, 2)})
	require.Equal(t, make([]float32, 4), c.Data)
	Gemm(NewMat(0, 2), false, Term{A: NewMat(0, 3), B: NewMat(3, 2)})
}

func TestGemmRejectsShapes(t *testing.T) {
	require.PanicsWithValue(t, "kernels: Gemm term 0: op(A) is [2,3], op(B) is [4,2], C is [2,2]", func() {
		Gemm(NewMat(2, 2), false, Term{A: NewMat(2, 3), B: NewMat(4, 2)})
	})
	require.Panics(t, func() {
		Gemm(NewMat(2, 2), false, Term{A: Mat{Data: make([]float32, 5), Rows: 2, Cols: 3, Stride: 3}, B: NewMat(3, 2)})
	})
}

// The bits of a product must not depend on the number of threads, nor on which
// rows are computed together (as long as the path is the same).
func TestGemmThreads(t *testing.T) {
	defer SetThreads(0)
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for _, sh := range [][3]int{{130, 200, 700}, {300, 16, 576}, {16, 300, 1024}, {1, 1000, 300}, {70, 70, 70}, {40, 100, 4200}} {
			m, n, k := sh[0], sh[1], sh[2]
			a, b := randomMat(r, m, k), randomMat(r, n, k)
			x, y := randomMat(r, m, 16), randomMat(r, n, 16)
			var first, second []float32
			deep := randomMat(r, k, n)
			for _, threads := range []int{1, 2, 3, 8} {
				SetThreads(threads)
				require.Equal(t, threads, Threads())
				c := NewMat(m, n)
				Gemm(c, false, Term{A: a, B: b, TransB: true}, Term{A: x, B: y, TransB: true, Scale: 0.25})
				if first == nil {
					first = slices.Clone(c.Data)
				}
				require.True(t, slices.Equal(first, c.Data), "%v with %d threads", sh, threads)
				if n > 100 {
					continue
				}
				Gemm(c, true, Term{A: a, B: deep})
				if second == nil {
					second = slices.Clone(c.Data)
				}
				require.True(t, slices.Equal(second, c.Data), "%v with %d threads, accumulated", sh, threads)
			}
		}
	})
}

// Right operands that are added while they are packed.
func TestGemmJoined(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(10, 11))
		for _, sh := range [][3]int{{37, 130, 700}, {13, 500, 1300}, {3, 130, 700}, {300, 16, 1500}, {16, 300, 768}, {12, 65, 4200}} {
			for way := range 8 {
				if testing.Short() && way%3 != 1 { // the reference is slow under the race detector
					continue
				}
				m, n, k := sh[0], sh[1], sh[2]
				first := Term{TransA: way&1 == 1, TransB: way&2 == 0, Scale: 0.5}
				first.A, first.B = operand(r, m, k, first.TransA), operand(r, k, n, first.TransB)
				second := Term{TransB: way&4 == 0, Scale: -3, Joined: true}
				second.B = operand(r, k, n, second.TransB)
				st := storages[way%len(storages)]
				third := Term{TransB: k%256 == 0, Joined: true}
				dense := Mat{}
				if cols := n; third.TransB || cols%st.block == 0 {
					rows := k
					if third.TransB {
						rows, cols = n, k
					}
					third.W, dense = st.randomWeight(r, rows, cols)
				} else {
					third.B = operand(r, k, n, false)
					dense = third.B
				}
				low := Term{A: randomMat(r, m, 7), B: randomMat(r, 7, n), Scale: 2}
				terms := []Term{low, first, second, third, low}
				// The same as terms of their own.
				plain := slices.Clone(terms)
				for _, i := range []int{2, 3} {
					plain[i].A, plain[i].TransA, plain[i].Joined = first.A, first.TransA, false
					plain[i].Scale = 0.5
				}
				plain[2].Scale *= -3
				c := randomMat(r, m, n)
				want, mag := reference(c, true, plain, []Mat{low.B, first.B, second.B, dense, low.B}, seq(0, m-1))
				Gemm(c, true, terms...)
				for i := range m {
					for j, v := range c.Row(i) {
						require.InDelta(t, want[i][j], v, bound.Spread(chain(terms))*mag[i][j], "%v way %d at %d, %d", sh, way, i, j)
					}
				}
			}
		}
	})
	require.Panics(t, func() { Gemm(NewMat(2, 2), false, Term{B: NewMat(3, 2), Joined: true}) })
	require.Panics(t, func() {
		Gemm(NewMat(2, 2), false, Term{A: NewMat(2, 3), B: NewMat(3, 2)}, Term{B: NewMat(2, 2), Joined: true})
	})
}
