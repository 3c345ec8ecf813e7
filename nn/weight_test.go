package nn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/tensor"
)

func TestWeightRows(t *testing.T) {
	data := sin32(4*32, 0.9)
	for _, d := range []*tensor.DType{tensor.F32, tensor.Q8_0} {
		w, want := frozen(d, 4, 32, data)
		w.Frozen.Perm = []int32{2, 0, 3, 1}
		row := make([]float32, 32)
		for i := range 4 {
			w.Row(row, i)
			for j, v := range row {
				require.Equal(t, float32(want.at(int(w.Frozen.Perm[i]), j)), v)
			}
		}
		require.Panics(t, func() { w.Row(row, 4) })
		require.Panics(t, func() { w.Row(row, -1) })

		frozenW := *w.Frozen
		p := w.Unfreeze()
		require.Same(t, p, w.Unfreeze())
		require.Nil(t, w.Frozen)
		require.Equal(t, []int{4, 32}, p.Shape)
		require.Equal(t, "w", p.Name)
		require.Len(t, p.V.Grad, 4*32)
		again := &Weight{Name: "w", Out: 4, In: 32, Frozen: &frozenW}
		for i := range 4 {
			again.Row(row, i)
			require.Equal(t, row, p.V.Data[i*32:(i+1)*32])
			w.Row(row, i)
			require.Equal(t, row, p.V.Data[i*32:(i+1)*32])
		}
	}
}

func TestVectorWeight(t *testing.T) {
	data := []float32{1, -2, 3.5}
	w := VectorWeight("model.norm.weight", data)
	require.Equal(t, data, w.floats())
	row := make([]float32, 3)
	w.Row(row, 0)
	require.Equal(t, data, row)
	p := w.Unfreeze()
	require.Equal(t, []int{3}, p.Shape)
	require.Equal(t, data, p.V.Data)
	p.V.Data[0] = 7
	require.Equal(t, []float32{7, -2, 3.5}, w.floats())
	require.Equal(t, float32(1), data[0], "the caller's vector stays")
}

func TestNewParam(t *testing.T) {
	p := NewParam("a", 2, 3, 4)
	require.Equal(t, 6, p.V.Rows)
	require.Equal(t, 4, p.V.Cols)
	require.Equal(t, []int{2, 3, 4}, p.Shape)
	v := NewParam("b", 5)
	require.Equal(t, 1, v.V.Rows)
	require.Equal(t, 5, v.V.Cols)
	v.V.Grad[1] = 2
	v.ZeroGrad()
	require.Zero(t, v.V.Grad[1])
}

func TestHooks(t *testing.T) {
	tape := NewTape()
	defer tape.Close()
	w, _ := frozen(tensor.F32, 2, 2, []float32{1, 0, 0, 1})
	l := &LinearLayer{Path: "l", W: w}
	require.False(t, l.Hooked())
	x := &Var{Rows: 1, Cols: 2, Data: []float32{1, 2}}
	constant := func(v ...float32) *Var { return &Var{Rows: 1, Cols: 2, Data: v} }
	// The last wrap is the outermost: (x + 1) * 10, not x*10 + 1.
	l.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var { return Add(t, next(t, x), constant(1, 1)) })
	l.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var { return Scale(t, next(t, x), 10) })
	l.AddLowRank(func(t *Tape, x *Var) LowRank { return LowRank{} })
	require.True(t, l.Hooked())
	require.Equal(t, []float32{20, 30}, l.Forward(tape, x).Data)
	six := func(t *Tape, x *Var) LowRank { // adds 2 * (1 + 2) to the first output
		return LowRank{A: constant(1, 1), B: &Var{Rows: 2, Cols: 1, Data: []float32{1, 0}}, Scale: 2}
	}
	l.AddLowRank(six)
	require.Equal(t, []float32{26, 30}, l.Forward(tape, x).Data, "what was wrapped before does not reach an addition")
	inner := &LinearLayer{Path: "l", W: w}
	inner.AddLowRank(six)
	inner.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var { return Scale(t, next(t, x), 10) })
	require.Equal(t, []float32{70, 20}, inner.Forward(tape, x).Data, "what is wrapped after does")
	l.Detach()
	require.False(t, l.Hooked())
	require.Equal(t, []float32{1, 2}, l.Forward(tape, x).Data)

	e := &EmbeddingLayer{W: w}
	e.Wrap(func(t *Tape, ids []int32, next func(*Tape, []int32) *Var) *Var { return Scale(t, next(t, ids), 3) })
	require.True(t, e.Hooked())
	require.Equal(t, []float32{0, 3, 3, 0}, e.Forward(tape, []int32{1, 0}).Data)
	e.Detach()
	require.Equal(t, []float32{0, 1}, e.Forward(tape, []int32{1}).Data)

	n := &NormLayer{W: VectorWeight("n", []float32{1, 1})}
	plain := append([]float32(nil), n.Forward(tape, x).Data...)
	n.Wrap(func(t *Tape, x *Var, next func(*Tape, *Var) *Var) *Var { return Scale(t, next(t, x), 2) })
	require.True(t, n.Hooked())
	require.Equal(t, []float32{2 * plain[0], 2 * plain[1]}, n.Forward(tape, x).Data)
	n.Detach()
	require.False(t, n.Hooked())
}

// The padding's row is looked up like any other and learns nothing.
func TestEmbeddingPadding(t *testing.T) {
	for _, tt := range []struct {
		name    string
		padding *int32
		want    []float32
	}{
		{"none", nil, []float32{1, 2, 0}},
		{"a row", new(int32(1)), []float32{1, 0, 0}},
		{"the first row", new(int32(0)), []float32{0, 2, 0}},
		{"from the end", new(int32(-2)), []float32{1, 0, 0}},
		{"not looked up", new(int32(2)), []float32{1, 2, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tape := NewTape()
			defer tape.Close()
			tape.Train = true
			p := NewParam("w", 3, 1)
			copy(p.V.Data, []float32{5, 6, 7})
			e := &EmbeddingLayer{W: &Weight{Name: "w", Out: 3, In: 1, P: p}, Padding: tt.padding}
			y := e.Forward(tape, []int32{1, 0, 1})
			require.Equal(t, []float32{6, 5, 6}, y.Data)
			a := NewParam("a", 1, 3)
			z := GatherCols(tape, a.V, []int32{1, 0, 1}, e.PaddingRow())
			g, _ := tape.Grad(Sum(tape, y, z))
			for i := range g.Data {
				g.Data[i] = 1
			}
			tape.Backward()
			require.Equal(t, tt.want, p.V.Grad)
			require.Equal(t, tt.want, a.V.Grad)
		})
	}
}
