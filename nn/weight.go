package nn

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/peftkit/peftkit/kernels"
)

// Weight is the matrix [Out, In] of a linear layer or an embedding, or a vector
// as one row: either frozen in the type it is stored in, or trainable float32.
// Layers that share a matrix (tied embedding and head) share the pointer.
type Weight struct {
	Name    string
	Out, In int
	// Transposed says that the stored rows are input features (GPT-2's Conv1D):
	// the stored matrix, and the parameter after Unfreeze, is [In, Out].
	Transposed bool
	// Conv1D says that the parameter after Unfreeze is [In, Out] although the stored
	// matrix is not: GPT-2 read from a GGUF file.
	Conv1D bool
	// Frozen is the stored matrix; nil once P is set.
	Frozen *kernels.Weight
	// P is the trainable matrix, nil while frozen.
	P *Param

	vector  bool
	decoded sync.Once
	values  []float32 // of a frozen vector
}

// VectorWeight returns a frozen float32 vector, 1 x len(data): a norm's weight
// or a bias. data is not copied.
func VectorWeight(name string, data []float32) *Weight {
	w := &Weight{Name: name, Out: 1, In: len(data), vector: true, values: data}
	w.decoded.Do(func() {})
	b := make([]byte, 4*len(data))
	for i, v := range data {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	w.Frozen = &kernels.Weight{
		Data: b, Rows: 1, Cols: len(data), RowBytes: len(b), Block: 1, BlockBytes: 4,
		Decode: decodeF32, Float32: true,
	}
	return w
}

func decodeF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// stored returns the size of the matrix as stored.
func (w *Weight) stored() (rows, cols int) {
	if w.Transposed {
		return w.In, w.Out
	}
	return w.Out, w.In
}

// Unfreeze decodes the matrix into a trainable float32 parameter of the same
// name and returns it; later calls return the same one. It must not run while an
// operation reads the weight.
func (w *Weight) Unfreeze() *Param {
	if w.P != nil {
		return w.P
	}
	rows, cols := w.stored()
	shape := []int{rows, cols}
	if w.vector {
		shape = []int{cols}
	}
	p := NewParam(w.Name, shape...)
	m := p.V.Mat()
	eachRow(rows, cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			decodeRow(m.Row(r), w.Frozen, r)
		}
	})
	if w.Conv1D && !w.Transposed {
		turned := NewParam(w.Name, cols, rows)
		for r := range rows {
			for c, v := range m.Row(r) {
				turned.V.Data[c*rows+r] = v
			}
		}
		p, w.Transposed = turned, true
	}
	w.P, w.Frozen = p, nil
	return p
}

// Row decodes stored row i into dst: output feature i, or input feature i of a
// transposed weight.
func (w *Weight) Row(dst []float32, i int) {
	rows, cols := w.stored()
	if i < 0 || i >= rows {
		panic(fmt.Sprintf("nn: row %d of weight %s, which has %d rows", i, w.Name, rows))
	}
	if w.P != nil {
		copy(dst[:cols], w.P.V.Data[i*cols:])
		return
	}
	decodeRow(dst[:cols], w.Frozen, i)
}

func decodeRow(dst []float32, f *kernels.Weight, i int) {
	if f.Perm != nil {
		i = int(f.Perm[i])
	}
	f.Decode(dst, f.Data[i*f.RowBytes:(i+1)*f.RowBytes])
}

// floats returns the elements of a vector.
func (w *Weight) floats() []float32 {
	if w.P != nil {
		return w.P.V.Data
	}
	w.decoded.Do(func() {
		w.values = make([]float32, w.Out*w.In)
		rows, cols := w.stored()
		for r := range rows {
			decodeRow(w.values[r*cols:(r+1)*cols], w.Frozen, r)
		}
	})
	return w.values
}

// trainable returns the variable that wants a gradient, or nil.
func (w *Weight) trainable() *Var {
	if w == nil || w.P == nil || !w.P.V.Needs {
		return nil
	}
	return w.P.V
}

// times is the term x·Wᵀ.
func (w *Weight) times(x kernels.Mat) kernels.Term {
	term := kernels.Term{A: x, W: w.Frozen, TransB: !w.Transposed}
	if w.P != nil {
		term.B, term.W = w.P.V.Mat(), nil
	}
	return term
}

// timesBack is the term dy·W.
func (w *Weight) timesBack(dy kernels.Mat) kernels.Term {
	term := w.times(dy)
	term.TransB = w.Transposed
	return term
}
