package adamss

import (
	"fmt"
	"slices"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/peft"
)

// lowRank returns q left singular vectors of w, [rows, q], and q right ones, [q,
// columns], as torch.svd_lowrank finds them with two iterations after
// manual_seed(seed): the randomised algorithms 4.4 and 5.1 of Halko et al. 2009
// (arXiv 0909.4061). With few vectors the result depends on the random numbers.
func lowRank(w kernels.Mat, q int, seed uint32) (left, right kernels.Mat, err error) {
	wide := w.Rows < w.Cols
	tall, width := w.Rows, w.Cols
	if wide {
		tall, width = width, tall
	}
	times := func(x kernels.Mat, trans bool) kernels.Mat { // A x or Aᵀ x of the tall A
		rows := tall
		if trans {
			rows = width
		}
		out := kernels.NewMat(rows, x.Cols)
		kernels.Gemm(out, false, kernels.Term{A: w, TransA: trans != wide, B: x})
		return out
	}
	basis := func(x kernels.Mat) kernels.Mat {
		v, _ := linalg.QR(x.Data, x.Rows, x.Cols)
		return kernels.MatOf(v, x.Rows, x.Cols)
	}
	x := kernels.NewMat(width, q)
	torchrng.New(uint64(seed)).Normal(x.Data, 0, 1)
	v := basis(times(x, false))
	for range 2 {
		v = basis(times(v, true))
		v = basis(times(v, false))
	}
	b := kernels.NewMat(q, width)
	kernels.Gemm(b, false, kernels.Term{A: v, TransA: true, B: w, TransB: wide})
	u, _, vt, err := linalg.SVD(b.Data, q, width)
	if err != nil {
		return left, right, err
	}
	if wide {
		left = kernels.NewMat(width, q)
		for i := range q {
			for r := range width {
				left.Row(r)[i] = vt[i*width+r]
			}
		}
		right = kernels.NewMat(q, tall)
		kernels.Gemm(right, false, kernels.Term{A: kernels.MatOf(u, q, q), TransA: true, B: v, TransB: true})
		return left, right, nil
	}
	left = kernels.NewMat(tall, q)
	kernels.Gemm(left, false, kernels.Term{A: v, B: kernels.MatOf(u, q, q)})
	return left, kernels.MatOf(vt, q, width), nil
}

const (
	clusterSeed  = 123456789 // PEFT's
	clusterSteps = 10
	tolerance    = 1e-4 // scikit-learn's, of the mean variance of a column
)

// cluster puts the rows of x into k clusters and returns the rows of each, as
// scikit-learn's KMeans(k, init="random", n_init=1) does (Lloyd's algorithm; its
// float32 sums are of float64 here).
func cluster(x kernels.Mat, k int) ([][]int32, error) {
	points, limit := centred(x)
	centres := make([][]float64, k)
	for i, p := range choose(x.Rows, k) {
		centres[i] = slices.Clone(points[p])
	}
	labels, before := make([]int, x.Rows), []int(nil)
	for range clusterSteps {
		assign(labels, points, centres)
		next := means(labels, points, centres)
		shift := 0.0
		for i := range centres {
			shift += distance(centres[i], next[i])
		}
		centres = next
		if slices.Equal(labels, before) {
			break
		}
		before = slices.Clone(labels)
		if shift <= limit {
			break
		}
	}
	assign(labels, points, centres)
	out := make([][]int32, k)
	for r, l := range labels {
		out[l] = append(out[l], int32(r))
	}
	for i, rows := range out {
		if len(rows) == 0 {
			return nil, fmt.Errorf("cluster %d of the rows of its weight is empty: choose a smaller num_subspaces than %d: %w", i, k, peft.ErrConfig)
		}
	}
	return out, nil
}

// centred returns the rows of x less their mean, and the movement of all centres
// below which the search ends.
func centred(x kernels.Mat) (points [][]float64, limit float64) {
	mean := make([]float64, x.Cols)
	for r := range x.Rows {
		for c, v := range x.Row(r) {
			mean[c] += float64(v)
		}
	}
	for c := range mean {
		mean[c] /= float64(x.Rows)
	}
	points = make([][]float64, x.Rows)
	for r := range points {
		points[r] = make([]float64, x.Cols)
		for c, v := range x.Row(r) {
			d := float64(v) - mean[c]
			points[r][c] = d
			limit += d * d
		}
	}
	return points, limit / float64(x.Rows) / float64(x.Cols) * tolerance
}

// choose returns k of n places, all equally likely: numpy's
// RandomState(seed).choice(n, k, replace=False, p) with equal p.
func choose(n, k int) []int {
	rng := torchrng.New(clusterSeed)
	p := make([]float64, n)
	for i := range p {
		p[i] = float64(1 / float32(n))
	}
	var out []int
	for len(out) < k {
		draws := make([]float64, k-len(out))
		for i := range draws {
			hi, lo := rng.Uint32()>>5, rng.Uint32()>>6
			draws[i] = (float64(hi)*(1<<26) + float64(lo)) / (1 << 53)
		}
		for _, i := range out {
			p[i] = 0
		}
		sums := make([]float64, n)
		sum := 0.0
		for i, v := range p {
			sum += v
			sums[i] = sum
		}
		for i := range sums {
			sums[i] /= sum
		}
		for _, d := range draws {
			at, _ := slices.BinarySearchFunc(sums, d, func(s, d float64) int { // the first above d
				if s <= d {
					return -1
				}
				return 1
			})
			if !slices.Contains(out, at) {
				out = append(out, at)
			}
		}
	}
	return out
}

func distance(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += (v - b[i]) * (v - b[i])
	}
	return sum
}

// assign gives each point the label of the nearest centre, the first of equal ones.
func assign(labels []int, points, centres [][]float64) {
	kernels.Parallel(len(points), 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			best := distance(points[i], centres[0])
			labels[i] = 0
			for j := 1; j < len(centres); j++ {
				if d := distance(points[i], centres[j]); d < best {
					labels[i], best = j, d
				}
			}
		}
	})
}

// means returns the centres of the labelled points. A centre without points moves to
// the point that is farthest from its own, which it takes.
func means(labels []int, points, centres [][]float64) [][]float64 {
	sums, counts := make([][]float64, len(centres)), make([]float64, len(centres))
	for i := range sums {
		sums[i] = make([]float64, len(points[0]))
	}
	add := func(to, point int, weight float64) {
		counts[to] += weight
		for c, v := range points[point] {
			sums[to][c] += weight * v
		}
	}
	for i, l := range labels {
		add(l, i, 1)
	}
	var far []int
	for i := range counts {
		if counts[i] != 0 {
			continue
		}
		if far == nil {
			far = farthest(labels, points, centres)
		}
		if len(far) > 0 {
			add(labels[far[0]], far[0], -1)
			add(i, far[0], 1)
			far = far[1:]
		}
	}
	for i, n := range counts {
		if n > 0 {
			for c := range sums[i] {
				sums[i][c] /= n
			}
		}
	}
	return sums
}

// farthest returns the points in the order of their distance from their centres, the
// farthest first; none where all points lie on them.
func farthest(labels []int, points, centres [][]float64) []int {
	order, far := make([]int, len(points)), make([]float64, len(points))
	for i := range points {
		order[i], far[i] = i, distance(points[i], centres[labels[i]])
	}
	if slices.Max(far) == 0 {
		return nil
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if far[a] > far[b] {
			return -1
		} else if far[a] < far[b] {
			return 1
		}
		return 0
	})
	return order
}
