package frod

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/internal/torchrng"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// category is what the modules with one role share.
type category struct {
	name   string
	in     int
	blocks map[int]*tuner.Place // whose weights make the basis, by block

	v          *nn.Param // [in, in]
	turned     *nn.Var   // Vᵀ
	count      int       // elements of S that are trained
	rows, cols []int32   // which
	start      []int32   // where the elements of each row begin in number
	number     []int32   // elements by rows
}

// category returns the one of a module, and notes the module's weight.
func (c *config) category(p *tuner.Place) (*category, error) {
	name := role(p.Path)
	at := slices.IndexFunc(c.categories, func(k *category) bool { return k.name == name })
	if at < 0 {
		n := p.In * p.In
		count := min(int(float64(n)*c.Rate), n-p.In)
		if c.Rate > 0 && n > p.In {
			count = max(count, 1)
		}
		at = len(c.categories)
		c.categories = append(c.categories, &category{name: name, in: p.In, count: count, blocks: map[int]*tuner.Place{},
			v: p.Shared("frod_V."+name, false, p.In, p.In)})
	}
	k := c.categories[at]
	if k.in != p.In {
		return nil, fmt.Errorf("it has %d inputs and another module of its role (%s) has %d, so that they cannot share a basis: choose other target_modules: %w", p.In, name, k.in, peft.ErrNoFit)
	}
	k.blocks[block(p.Path, c.numberless)] = p // where two modules say the same block, PEFT takes the last
	c.numberless++
	return k, nil
}

// role is PEFT's name for what a module does in its block: the last two parts of its
// path.
func role(path string) string {
	parts := strings.Split(path, ".")
	n := len(parts)
	if n == 1 || digits(parts[n-2]) {
		return parts[n-1]
	}
	if n > 2 && parts[n-3] == "attention" && parts[n-2] == "output" && parts[n-1] == "dense" {
		return "attention_output"
	}
	return parts[n-2] + "_" + parts[n-1]
}

// block is the number of a module's block as PEFT finds it.
func block(path string, otherwise int) int {
	parts := strings.Split(path, ".")
	if i := slices.Index(parts, "layers"); i >= 0 && i+1 < len(parts) {
		if n, err := strconv.Atoi(parts[i+1]); err == nil {
			return n
		}
	}
	for _, p := range parts {
		if digits(p) {
			n, _ := strconv.Atoi(p)
			return n
		}
	}
	return otherwise
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// findBases computes V of all categories.
func (c *config) findBases() error {
	for _, k := range c.categories {
		if err := k.findBasis(c.Alpha); err != nil {
			return fmt.Errorf("the basis of %s: %w", k.name, err)
		}
	}
	return nil
}

// findBasis sets V. With the weights one below the other as Q R, and Qi the rows of Q
// of one of them, V is Rᵀ E, E the eigenvectors of the mean of (QiᵀQi + alpha)⁻¹: the
// higher-order generalised singular vectors. Fewer rows than columns have
// their right singular vectors instead.
func (k *category) findBasis(alpha float64) error {
	n, rows := k.in, 0
	var places []*tuner.Place
	for _, b := range slices.Sorted(maps.Keys(k.blocks)) {
		places = append(places, k.blocks[b])
		rows += k.blocks[b].Out
	}
	all := kernels.NewMat(rows, n)
	at := 0
	for _, p := range places {
		w := p.Weight()
		for r := range w.Rows {
			copy(all.Row(at+r), w.Row(r))
		}
		at += w.Rows
	}
	v := k.v.V.Mat()
	if rows < n {
		gram := kernels.NewMat(n, n)
		kernels.Gemm(gram, false, kernels.Term{A: all, TransA: true, B: all})
		u, _, _, err := linalg.SVD(gram.Data, n, n)
		copy(v.Data, u)
		return err
	}
	q, r := linalg.QR(all.Data, rows, n)
	mean, err := meanInverse(q, places, n, alpha)
	if err != nil {
		return err
	}
	e, _, _, err := linalg.SVD(mean.Data, n, n) // of a positive matrix: eigenvectors, the largest first
	if err != nil {
		return err
	}
	for i := range n {
		slices.Reverse(e[i*n : (i+1)*n])
	}
	kernels.Gemm(v, false, kernels.Term{A: kernels.MatOf(r, n, n), TransA: true, B: kernels.MatOf(e, n, n)})
	return nil
}

func meanInverse(q []float32, places []*tuner.Place, n int, alpha float64) (kernels.Mat, error) {
	sum, g, one := kernels.NewMat(n, n), kernels.NewMat(n, n), make([]float32, n*n)
	for i := range n {
		one[i*n+i] = 1
	}
	for _, p := range places {
		part := kernels.MatOf(q[:p.Out*n], p.Out, n)
		q = q[p.Out*n:]
		kernels.Gemm(g, false, kernels.Term{A: part, TransA: true, B: part})
		for i := range n {
			g.Row(i)[i] += float32(alpha)
		}
		inverse, err := linalg.Solve(g.Data, n, one, n)
		if err != nil {
			return sum, fmt.Errorf("regularization_alpha %g leaves a matrix without inverse: %w: %w", alpha, err, peft.ErrConfig)
		}
		kernels.Axpy(1/float32(len(places)), inverse, sum.Data)
	}
	return sum, nil
}

// draw chooses the trained elements of all categories as PEFT does: the first ones of a
// random permutation of those beside the diagonal.
func (c *config) draw() {
	rng := torchrng.New(c.Key)
	sorted := slices.SortedFunc(slices.Values(c.categories), func(a, b *category) int { return strings.Compare(a.name, b.name) })
	for _, k := range sorted {
		k.rows, k.cols = make([]int32, k.count), make([]int32, k.count)
		if k.count == 0 {
			continue
		}
		n := int64(k.in)
		for i, at := range rng.Randperm(n * (n - 1))[:k.count] {
			row, col := at/(n-1), at%(n-1)
			if col >= row {
				col++
			}
			k.rows[i], k.cols[i] = int32(row), int32(col)
		}
	}
}

// order sorts the elements by rows.
func (k *category) order() {
	k.start, k.number = make([]int32, k.in+1), make([]int32, k.count)
	for _, r := range k.rows {
		k.start[r+1]++
	}
	for i := range k.in {
		k.start[i+1] += k.start[i]
	}
	next := slices.Clone(k.start)
	for i, r := range k.rows {
		k.number[next[r]] = int32(i)
		next[r]++
	}
}

// fit computes U and l0 of all modules from V.
func (c *config) fit() error {
	for _, k := range c.categories {
		k.order()
		k.turned = tuner.Constant(make([]float32, k.in*k.in), k.in, k.in)
		kernels.Transpose(k.turned.Mat(), k.v.V.Mat())
		v := linalg.NewSolver(k.v.V.Data, k.in)
		for _, s := range c.sites {
			if s.cat != k {
				continue
			}
			if err := s.fit(v); err != nil {
				return fmt.Errorf("%s: %w", s.at.Path, err)
			}
		}
	}
	return nil
}
