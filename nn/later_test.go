package nn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
)

// What two operations share is computed once, in the backward pass, and freed after
// the last of them.
func TestLaterOnce(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	tape.mem.poison = true
	tape.Train = true
	for range 2 {
		x := &Var{Rows: 1, Cols: 2, Data: []float32{3, 4}, Needs: true}
		h := relay(tape, x)
		count := 0
		var seen []float32
		var twice []*Var
		var sum *Var
		for range 2 {
			z := tape.Once(h, "twice", func() *Var {
				return tape.Later(1, 2, func(dst kernels.Mat) {
					count++
					for i, v := range h.Mat().Data {
						dst.Data[i] = 2 * v
					}
				}, h)
			})
			twice = append(twice, z)
			y := Scale(tape, h, 1)
			tape.Watch(y, func(kernels.Mat) { seen = append(seen, z.Mat().Data...) }, z)
			if sum == nil {
				sum = y
			} else {
				sum = Add(tape, sum, y)
			}
		}
		tape.Discard(h)
		require.Same(t, twice[0], twice[1])
		require.Zero(t, count)
		require.Nil(t, h.Data)
		g, _ := tape.Grad(sum)
		copy(g.Data, []float32{1, 1})
		tape.Backward()
		require.Equal(t, 1, count)
		require.Equal(t, []float32{6, 8, 6, 8}, seen)
		require.Equal(t, []float32{2, 2}, x.Grad)
		require.Nil(t, twice[0].Data)
		require.Nil(t, h.Data)
		tape.Reset()
	}

	tape.Train = false
	z := tape.Later(1, 1, func(dst kernels.Mat) { dst.Data[0] = 5 })
	require.Equal(t, []float32{5}, z.Data)
}
