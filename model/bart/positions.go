package bart

import (
	"math"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// positionOffset is where BART's table of learned positions begins: its first
// two rows are never read.
const positionOffset = 2

// sinusoids returns Marian's table, [rows, dim]: sines in the first half of a
// row, cosines in the second (Vaswani et al. 2017 interleave them).
func sinusoids(rows, dim int) (*nn.Weight, error) {
	v := make([]float32, rows*dim)
	for p := range rows {
		for j := range dim {
			angle := float64(p) / math.Pow(10000, float64(2*(j/2))/float64(dim))
			if j%2 == 0 {
				v[p*dim+j/2] = float32(math.Sin(angle))
			} else {
				v[p*dim+dim/2+j/2] = float32(math.Cos(angle))
			}
		}
	}
	f, err := tensor.FromFloats("sinusoids", []int{rows, dim}, v).Weight()
	if err != nil {
		return nil, err
	}
	return &nn.Weight{Name: "sinusoids", Out: rows, In: dim, Frozen: f}, nil
}
