package nn

import (
	"github.com/peftkit/peftkit/kernels"
)

// Var is a float32 matrix of activations or parameters, row after row.
//
// A Var made by [Tape.New] lies in the arena of its tape until [Tape.Reset]. A
// Var made as a literal &Var{Rows: r, Cols: c, Data: d} belongs to the caller:
// a constant, a key-value cache, or with Needs a leaf whose gradient is wanted.
type Var struct {
	Rows, Cols int
	// Data holds the elements. It is nil while the tape has dropped them: read
	// through Mat, which brings them back.
	Data []float32
	// Grad is the gradient of the loss, nil until something was added to it.
	// Operations obtain it with Tape.Grad and must not write to it otherwise.
	Grad []float32
	// Needs says that a gradient is wanted.
	Needs bool
	// Reached says of a parameter that a backward pass has come to it since its
	// gradient was cleared; the gradient may be zero all the same.
	Reached bool

	tape      *Tape
	seq       int       // order of creation on the tape, 0 for others
	mem       block     // where Data lies in the arena
	grads     *gradient // who shares Grad, nil for a parameter
	saves     int       // readers that backward or a recomputation still has
	discarded bool      // the forward pass is done with it
	recompute func(dst kernels.Mat)
	holds     []*Var // what recompute reads
	gone      string // why Data is nil for good
}

// Mat returns the elements as a matrix and computes them again if they were
// discarded. It panics when they are gone for good.
func (v *Var) Mat() kernels.Mat {
	if v.Data == nil {
		v.revive()
	}
	return kernels.MatOf(v.Data, v.Rows, v.Cols)
}

func (v *Var) revive() {
	if v.Rows == 0 || v.Cols == 0 {
		v.Data = []float32{}
		return
	}
	if v.recompute == nil || v.tape == nil {
		why := v.gone
		if why == "" {
			why = "it was never filled"
		}
		panic("nn: the data of this variable is gone: " + why)
	}
	v.tape.fill(v)
	v.recompute(kernels.MatOf(v.Data, v.Rows, v.Cols))
}

// gradMat views the gradient, which must exist.
func (v *Var) gradMat() kernels.Mat { return kernels.MatOf(v.Grad, v.Rows, v.Cols) }

// Param is a trainable parameter.
type Param struct {
	// Name and Shape are as saved (Hugging Face names, PyTorch shapes).
	Name  string
	Shape []int
	// V is the 2-D view: the last dimension is the columns, all others together
	// are the rows; a 1-D shape is one row. Its gradient is added to by every
	// backward pass: the optimizer clears it.
	V *Var
}

// NewParam returns a parameter of zeros, with a gradient of zeros.
func NewParam(name string, shape ...int) *Param {
	rows, cols := 1, 1
	for i, d := range shape {
		if i == len(shape)-1 {
			cols = d
		} else {
			rows *= d
		}
	}
	n := rows * cols
	return &Param{Name: name, Shape: append([]int(nil), shape...), V: &Var{
		Rows: rows, Cols: cols, Needs: true,
		Data: make([]float32, n), Grad: make([]float32, n),
	}}
}

// ZeroGrad clears the gradient.
func (p *Param) ZeroGrad() {
	clear(p.V.Grad)
	p.V.Reached = false
}
