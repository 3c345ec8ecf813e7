package waveft

import "github.com/peftkit/peftkit/kernels"

// axis is one side, of n elements, of a weight whose change is one level of an inverse
// wavelet transform. Along it there are 2*half coefficients, those of the low-pass
// filter first: n, padded so that a transform gives n elements, or one more for an odd
// n, which is cut off.
type axis struct {
	n, half int
	pad     int          // coefficients before the first that is drawn
	taps    int          // of a filter: an even number
	f       [2][]float32 // low-pass and high-pass
}

func newAxis(n int, low []float64) *axis {
	a := &axis{n: n, taps: len(low), pad: len(low)/2 - 1, half: (n + len(low) - 1) / 2}
	for i, v := range low {
		high := low[len(low)-1-i]
		if i%2 == 1 {
			high = -high
		}
		a.f[0], a.f[1] = append(a.f[0], float32(v)), append(a.f[1], float32(high))
	}
	return a
}

// place returns which quarter coefficient i of n lies in, and where.
func (a *axis) place(i int) (upper, at int) {
	i += a.pad
	return i / a.half, i % a.half
}

// within returns the range of places whose coefficients reach elements from to from+n.
func (a *axis) within(from, n int) (first, count int) {
	first = from / 2
	return first, (from+n+a.taps-3)/2 - first + 1
}

// analyse computes what coefficients of both filters see of a row of n elements: the
// transpose of the transform. room has 2*(half+pad) elements.
func (a *axis) analyse(dst, src, room []float32) {
	width := a.half + a.pad
	even, odd := room[:width], room[width:2*width]
	clear(room)
	e, o := even[a.pad:], odd[a.pad:]
	for i := range len(src) / 2 {
		e[i], o[i] = src[2*i], src[2*i+1]
	}
	if n := len(src); n%2 == 1 {
		e[n/2] = src[n-1]
	}
	clear(dst)
	for h, f := range a.f {
		out := dst[h*a.half : (h+1)*a.half]
		for m := range a.taps / 2 {
			kernels.Axpy(f[2*m], even[m:m+a.half], out)
			kernels.Axpy(f[2*m+1], odd[m:m+a.half], out)
		}
	}
}

// analyseRows does so with the rows of a matrix.
func (a *axis) analyseRows(dst, src kernels.Mat) {
	kernels.Parallel(src.Rows, 8, func(lo, hi int) {
		room := make([]float32, 2*(a.half+a.pad))
		for r := lo; r < hi; r++ {
			a.analyse(dst.Row(r), src.Row(r), room)
		}
	})
}
