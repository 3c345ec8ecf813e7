package kernels

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTranspose(t *testing.T) {
	forEachTier(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 5))
		for _, sh := range [][2]int{{0, 3}, {1, 1}, {1, 40}, {40, 1}, {2, 3}, {7, 9}, {8, 8}, {31, 33}, {64, 64}, {100, 37}, {37, 100}} {
			src, dst := randomMat(r, sh[0], sh[1]), randomMat(r, sh[1], sh[0])
			Transpose(dst, src)
			for i := range src.Rows {
				for j, v := range src.Row(i) {
					require.Equal(t, v, dst.Row(j)[i])
				}
			}
			for i, v := range dst.Data {
				if dst.Stride > 0 && i%dst.Stride >= dst.Cols {
					require.True(t, v != v, "the gap behind a row was written")
				}
			}
		}
	})
	require.Panics(t, func() { Transpose(NewMat(2, 3), NewMat(2, 3)) })
}
