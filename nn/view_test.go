package nn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A view replaces the weight of the layer's product,
// sees the view before it, and is gone after Detach.
func TestWeightView(t *testing.T) {
	l := &LinearLayer{W: VectorWeight("w", []float32{1, 2})}
	var seen []*Weight
	view := func(w *Weight) WeightView {
		return WeightView{
			Weight: func(of *Weight) *Weight { seen = append(seen, of); return w },
			After:  func(t *Tape, x, y *Var) *Var { return Scale(t, y, 10) },
		}
	}
	own, one, two := l.W, VectorWeight("one", []float32{3, 4}), VectorWeight("two", []float32{5, 6})
	x := &Var{Rows: 1, Cols: 2, Data: []float32{1, 1}}
	tape := NewTape()
	defer tape.Close()
	l.View(view(one))
	l.View(view(two))
	require.True(t, l.Hooked())
	require.Equal(t, []float32{1100}, l.Forward(tape, x).Data)
	require.Equal(t, []*Weight{own, one}, seen)
	l.Detach()
	require.False(t, l.Hooked())
	require.Equal(t, []float32{3}, l.Forward(tape, x).Data)
}
