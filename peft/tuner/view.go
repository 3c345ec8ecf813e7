package tuner

import (
	"encoding/binary"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
)

// Changed returns a view of a frozen weight whose numbers are changed whenever
// they are decoded: change gets elements col to col+len(v) of a stored row. It may
// be called from several goroutines. The view holds a few bytes per 64 elements.
func Changed(w *nn.Weight, change func(v []float32, row, col int)) *nn.Weight {
	f := w.Frozen
	block := max(64, f.Block)
	for block > 1 && (f.Cols%block != 0 || block%f.Block != 0) {
		block /= 2
	}
	if block%f.Block != 0 {
		block = f.Cols
	}
	per := f.Cols / block
	// The bytes of a block say which one it is.
	data := make([]byte, 0, 8*f.Rows*per)
	for r := range f.Rows {
		for b := range per {
			data = binary.LittleEndian.AppendUint32(data, uint32(r))
			data = binary.LittleEndian.AppendUint32(data, uint32(b*block))
		}
	}
	view := &kernels.Weight{Data: data, Rows: f.Rows, Cols: f.Cols, RowBytes: 8 * per, Block: block, BlockBytes: 8}
	view.Decode = func(dst []float32, src []byte) {
		for len(dst) > 0 {
			row, col := int(binary.LittleEndian.Uint32(src)), int(binary.LittleEndian.Uint32(src[4:]))
			n := min(len(dst), f.Cols-col)
			stored := row
			if f.Perm != nil {
				stored = int(f.Perm[row])
			}
			at := stored*f.RowBytes + col/f.Block*f.BlockBytes
			f.Decode(dst[:n], f.Data[at:at+n/f.Block*f.BlockBytes])
			change(dst[:n], row, col)
			dst, src = dst[n:], src[n/block*8:]
		}
	}
	return &nn.Weight{Name: w.Name, Out: w.Out, In: w.In, Transposed: w.Transposed, Conv1D: w.Conv1D, Frozen: view}
}

// Elements is a change of single elements of a layer's weight.
type Elements struct {
	Layer *nn.LinearLayer
	// Params are what the change depends on.
	Params []*nn.Var
	// Change changes elements col to col+len(v) of a stored row, see [Changed].
	Change func(v []float32, row, col int)
	// Matrix, if not nil, writes what Change adds to w as a matrix, [out, in]. It is used
	// in training on many rows, where that costs less than changing rows as they are
	// decoded.
	Matrix func(dst kernels.Mat, w *nn.Weight)
	// Grad adds to the parameters' gradients what the layer's input x and the
	// gradient dy of its output give; w is the weight that is changed. It may use t
	// for memory.
	Grad func(t *nn.Tape, w *nn.Weight, x, dy kernels.Mat)
	// Dense computes the change as a matrix, [out, in], for a layer whose weight
	// another method trains: there is nothing to decode then.
	Dense func(t *nn.Tape) *nn.Var
}

// Attach hooks the change into the layer's product.
func (e *Elements) Attach() {
	var of, view *nn.Weight
	if of = e.Layer.W; of.Frozen != nil {
		view = Changed(of, e.Change)
	}
	e.Layer.View(nn.WeightView{
		Weight: func(w *nn.Weight) *nn.Weight {
			if w.Frozen == nil {
				return w
			}
			if of != w || view == nil {
				of, view = w, Changed(w, e.Change)
			}
			return view
		},
		Change: e.change,
		After: func(t *nn.Tape, x, y *nn.Var) *nn.Var {
			if e.Layer.W.Frozen == nil {
				return nn.Add(t, y, nn.LinearOp(t, x, nil, nil, nn.LowRank{B: e.Dense(t), Scale: 1}))
			}
			return e.after(t, of, x, y)
		},
	})
}

// manyRows is the number of rows from which on the change is made as a matrix.
const manyRows = 64

// change is the change as a matrix, which is made for the product and again in
// backward; a LowRank without B where that is not wanted.
func (e *Elements) change(t *nn.Tape, x *nn.Var, w *nn.Weight) nn.LowRank {
	if e.Matrix == nil || !t.Train || x.Rows < manyRows || w.Frozen == nil || w.Transposed {
		return nn.LowRank{}
	}
	low := nn.LowRank{Scale: 1, B: t.Later(w.Out, w.In, func(dst kernels.Mat) { e.Matrix(dst, w) })}
	if e.trained() {
		low.Reads = []*nn.Var{x}
		low.Grad = func(dy kernels.Mat, r0, r1 int) { e.Grad(t, w, x.Mat().RowsOf(r0, r1), dy) }
	}
	return low
}

// trained reports whether a parameter wants a gradient.
func (e *Elements) trained() bool {
	for _, p := range e.Params {
		if p.Needs {
			return true
		}
	}
	return false
}

// AttachBeside adds the product of the changed weight with another input, made of
// the layer's own by f, to the layer's: Change leaves out the weight itself then.
func (e *Elements) AttachBeside(f func(t *nn.Tape, x *nn.Var) *nn.Var) {
	var of, view *nn.Weight
	e.Layer.View(nn.WeightView{
		Weight: func(w *nn.Weight) *nn.Weight {
			if w.Frozen != nil && of != w {
				of, view = w, Changed(w, e.Change)
			}
			return w
		},
		After: func(t *nn.Tape, x, y *nn.Var) *nn.Var {
			in := f(t, x)
			if e.Layer.W.Frozen == nil {
				return nn.Add(t, y, nn.LinearOp(t, in, nil, nil, nn.LowRank{B: e.Dense(t), Scale: 1}))
			}
			z := e.after(t, of, in, nn.LinearOp(t, in, view, nil))
			if in != x {
				t.Discard(in)
			}
			return nn.Add(t, y, z)
		},
	})
}

// after watches y for the gradients of the parameters.
func (e *Elements) after(t *nn.Tape, w *nn.Weight, x, y *nn.Var) *nn.Var {
	if !t.Train || !e.trained() {
		return y
	}
	t.Watch(y, func(dy kernels.Mat) { e.Grad(t, w, x.Mat(), dy) }, x)
	return y
}
