package linalg

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
)

func randoms(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	a := make([]float32, n)
	for i := range a {
		a[i] = float32(r.NormFloat64())
	}
	return a
}

// mul is a·b of [m,k] and [k,n].
func mul(a, b []float32, m, k, n int) []float32 {
	out := make([]float32, m*n)
	for i := range m {
		for j := range n {
			s := 0.0
			for l := range k {
				s += float64(a[i*k+l]) * float64(b[l*n+j])
			}
			out[i*n+j] = float32(s)
		}
	}
	return out
}

func worst(a, b []float32) float64 {
	w := 0.0
	for i := range a {
		w = math.Max(w, math.Abs(float64(a[i]-b[i])))
	}
	return w
}

// scaled multiplies the columns of u by s.
func scaled(u, s []float32) []float32 {
	out := make([]float32, len(u))
	for i := range u {
		out[i] = u[i] * s[i%len(s)]
	}
	return out
}

func eye(n int) []float32 {
	a := make([]float32, n*n)
	for i := range n {
		a[i*n+i] = 1
	}
	return a
}

// The routines compute in float64 and round what they return to float32. What is put
// together again from k rounded factors is off by at most k*U of the sum of the products'
// magnitudes, which for columns of length one is at most the largest singular value or
// the length of a column (Cauchy and Schwarz), and mul rounds once more.
func rounded(factors int, size float64) float64 { return float64(factors+1) * bound.U * size }

// unitary is rounded for the products of columns of length one.
var unitary = rounded(2, 1)

// sizes is the magnitudes of a.
func sizes(a []float32) []float32 {
	out := make([]float32, len(a))
	for i, v := range a {
		out[i] = max(v, -v)
	}
	return out
}

// length is that of the longest column.
func length(a []float32, rows, cols int) float64 {
	longest := 0.0
	for j := range cols {
		sum := 0.0
		for i := range rows {
			sum += float64(a[i*cols+j]) * float64(a[i*cols+j])
		}
		longest = math.Max(longest, math.Sqrt(sum))
	}
	return longest
}

var shapes = [][2]int{{1, 1}, {1, 5}, {5, 1}, {4, 4}, {7, 3}, {3, 7}, {40, 61}}

func TestSVD(t *testing.T) {
	for _, s := range shapes {
		rows, cols := s[0], s[1]
		k := min(rows, cols)
		a := randoms(1, rows*cols)
		u, sv, vt, err := SVD(a, rows, cols)
		require.NoError(t, err)
		require.LessOrEqual(t, worst(a, mul(scaled(u, sv), vt, rows, k, cols)), rounded(4, float64(sv[0])), s) // scaled rounds too
		require.LessOrEqual(t, worst(eye(k), mul(transposed(u, rows, k), u, k, rows, k)), unitary)
		require.LessOrEqual(t, worst(eye(k), mul(vt, transposed(vt, k, cols), k, cols, k)), unitary)
		for i := 1; i < k; i++ {
			require.GreaterOrEqual(t, sv[i-1], sv[i])
		}
	}
	_, _, _, err := SVD([]float32{1, float32(math.NaN()), 2, 3}, 2, 2)
	require.Error(t, err)
}

// The numbers are torch.linalg.qr's of sin((i+1)²*0.7) in float64.
func TestQROfTorch(t *testing.T) {
	for _, c := range goldenQR {
		a := make([]float32, c.rows*c.cols)
		for i := range a {
			a[i] = float32(math.Sin(float64((i+1)*(i+1)) * 0.7))
		}
		q, r := QR(a, c.rows, c.cols)
		// a is rounded to float32, and Q and R answer with its condition number (6.7 at most).
		const condition = 7
		require.LessOrEqual(t, worst(c.q, q), rounded(condition, 1))
		require.LessOrEqual(t, worst(c.r, r), rounded(condition, length(a, c.rows, c.cols)))
	}
}

func TestQR(t *testing.T) {
	for _, s := range shapes {
		rows, cols := s[0], s[1]
		k := min(rows, cols)
		a := randoms(2, rows*cols)
		q, r := QR(a, rows, cols)
		require.LessOrEqual(t, worst(a, mul(q, r, rows, k, cols)), rounded(2, length(a, rows, cols)), s)
		require.LessOrEqual(t, worst(eye(k), mul(transposed(q, rows, k), q, k, rows, k)), unitary)
		for i := range k {
			for j := range i {
				require.Zero(t, r[i*cols+j])
			}
		}
		few := (k + 1) / 2
		q2, r2 := LeadingQR(a, rows, cols, few)
		for i := range rows {
			require.InDeltaSlice(t, q[i*k:i*k+few], q2[i*few:(i+1)*few], rounded(1, 1))
		}
		require.LessOrEqual(t, worst(r[:few*cols], r2), rounded(1, length(a, rows, cols)))
	}
}

func TestSolve(t *testing.T) {
	const n, cols = 9, 4
	a, b := randoms(3, n*n), randoms(4, n*cols)
	x, err := Solve(a, n, b, cols)
	require.NoError(t, err)
	size := worst(make([]float32, n*cols), mul(sizes(a), sizes(x), n, n, cols))
	require.LessOrEqual(t, worst(b, mul(a, x, n, n, cols)), rounded(1, size))
	_, err = Solve(make([]float32, 4), 2, []float32{1, 2}, 1)
	require.Error(t, err)
}

func TestTruncatedSVD(t *testing.T) {
	const rank = 6
	decay := func(rows, cols int, f func(i int) float64) []float32 {
		k := min(rows, cols)
		q, _ := QR(randoms(5, rows*k), rows, k)
		p, _ := QR(randoms(6, cols*k), cols, k)
		s := make([]float32, k)
		for i := range s {
			s[i] = float32(f(i))
		}
		return mul(scaled(q, s), transposed(p, cols, k), rows, k, cols)
	}
	for _, c := range []struct {
		name       string
		rows, cols int
		a          []float32
	}{
		{"small", 9, 12, randoms(7, 108)},
		{"random", 200, 150, randoms(8, 200*150)},
		{"wide random", 150, 230, randoms(9, 150*230)},
		{"slow decay", 180, 200, decay(180, 200, func(i int) float64 { return 1 / float64(i+1) })},
		{"fast decay", 200, 180, decay(200, 180, func(i int) float64 { return math.Pow(0.3, float64(i)) })},
		{"pairs", 200, 180, decay(200, 180, func(i int) float64 { return math.Pow(0.5, float64(i/2)) })},
		{"low rank", 160, 200, decay(160, 200, func(i int) float64 {
			if i < 6 {
				return float64(10 - i)
			}
			return 0
		})},
		{"zero", 160, 200, make([]float32, 160*200)},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, s, vt, err := TruncatedSVD(c.a, c.rows, c.cols, rank)
			require.NoError(t, err)
			require.Len(t, u, c.rows*rank)
			require.Len(t, vt, rank*c.cols)
			fu, fs, fvt, err := SVD(c.a, c.rows, c.cols)
			require.NoError(t, err)
			k := min(c.rows, c.cols)
			require.LessOrEqual(t, worst(fs[:rank], s), rounded(1, float64(fs[0])))
			// The product, which no sign of a vector touches.
			var want []float32
			for i := range c.rows {
				want = append(want, fu[i*k:i*k+rank]...)
			}
			require.LessOrEqual(t, worst(mul(scaled(want, fs[:rank]), fvt[:rank*c.cols], c.rows, rank, c.cols),
				mul(scaled(u, s), vt, c.rows, rank, c.cols)), 2*rounded(4, float64(fs[0])))
			require.LessOrEqual(t, worst(eye(rank), mul(transposed(u, c.rows, rank), u, rank, c.rows, rank)), unitary)

			old := runtime.GOMAXPROCS(1)
			u1, s1, vt1, err := TruncatedSVD(c.a, c.rows, c.cols, rank)
			runtime.GOMAXPROCS(old)
			require.NoError(t, err)
			require.Equal(t, [][]float32{u, s, vt}, [][]float32{u1, s1, vt1}, "threads")
		})
	}
	_, _, _, err := TruncatedSVD([]float32{1, float32(math.Inf(1)), 2, 3}, 2, 2, 1)
	require.Error(t, err)
}

func BenchmarkSVD(b *testing.B) {
	a := randoms(10, 576*1536)
	for i := range a {
		a[i] /= 1 + float32(i%1536)/100
	}
	b.Run("thin", func(b *testing.B) {
		for b.Loop() {
			SVD(a, 576, 1536)
		}
	})
	for _, rank := range []int{8, 16, 64} {
		b.Run(fmt.Sprintf("rank %d", rank), func(b *testing.B) {
			for b.Loop() {
				TruncatedSVD(a, 576, 1536, rank)
			}
		})
	}
}
