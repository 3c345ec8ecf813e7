package linalg

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTorchSVD(t *testing.T) {
	for _, c := range goldenSVD {
		a := make([]float32, c.rows*c.cols)
		for i := range a {
			a[i] = float32(math.Sin(float64(i+1) * float64(i+1) * 0.7))
		}
		k := len(c.largest)
		u, s, vt, err := TorchSVD(a, c.rows, c.cols, k)
		require.NoError(t, err)
		for j, at := range c.largest {
			require.Positive(t, float64(at)*float64(u[(max(at, -at)-1)*k+j]), "[%d,%d]: sign of vector %d", c.rows, c.cols, j)
			// The right vector goes with the left one: u·a is s·v.
			for col := range c.cols {
				sum := 0.0
				for row := range c.rows {
					sum += float64(u[row*k+j]) * float64(a[row*c.cols+col])
				}
				require.InDelta(t, sum, float64(s[j]*vt[j*c.cols+col]), rounded(3, float64(s[0]))) // u, s, v and their product
			}
		}
	}
	_, _, _, err := TorchSVD([]float32{1, float32(math.NaN()), 2, 3}, 2, 2, 1)
	require.Error(t, err)
	for _, shape := range shapes {
		_, _, _, err := TorchSVD(randoms(1, shape[0]*shape[1]), shape[0], shape[1], 1)
		require.NoError(t, err)
	}
	for _, a := range [][]float32{make([]float32, 60*40), append(make([]float32, 60*40-1), 1)} { // nothing to choose by
		for rank := 1; rank <= 40; rank += 13 {
			_, _, _, err := TorchSVD(a, 60, 40, rank)
			require.NoError(t, err)
		}
	}
}
