package nn

import (
	"math"

	"github.com/peftkit/peftkit/kernels"
)

var quietNaN = float32(math.NaN())

// Tape records one forward pass and runs it backward. The zero value is not
// usable: call [NewTape].
type Tape struct {
	// Train says that gradients are wanted: operations are recorded and dropout
	// is active. Without it, discarded data is freed at once and for good.
	Train bool
	// Seed decides the dropout masks, together with the order of the operations
	// since Reset and the index of the element, and nothing else.
	Seed uint64
	// BaseDropout says that networks apply the dropout of their configuration while
	// the tape trains: operations named so, and [AttnSpec].Dropout.
	BaseDropout bool
	// Trial says that the pass is only to see what it takes: a method that keeps a
	// state from pass to pass, as a generator of random numbers, leaves it as it is.
	Trial bool

	mem    arena
	nodes  []node
	seq    int
	pinned int    // variables up to this seq may be read by records that do not say what they read
	draws  uint64 // dropout operations since Reset
	gen    int    // steps begun
	once   map[onceKey]*Var
}

// node is one recorded operation.
type node struct {
	out     *Var
	back    func()
	saved   []*Var
	inPlace bool // out is also the output of an earlier node; back runs in any case
}

// gradient counts the variables that share the memory of one gradient.
type gradient struct {
	mem  block
	refs int
	gen  int
}

// NewTape returns a tape without memory of its own; it grows with the first step.
func NewTape() *Tape { return &Tape{gen: 1} }

// Reset forgets the step and keeps the memory. Variables of the step must not be
// used any more.
func (t *Tape) Reset() {
	clear(t.nodes)
	t.nodes = t.nodes[:0]
	t.mem.reset()
	t.seq, t.pinned, t.draws = 0, 0, 0
	t.gen++
	clear(t.once)
}

// Close resets the tape and gives its memory back to the system. Slices of
// variables made by this tape must not be touched afterwards.
func (t *Tape) Close() {
	t.Reset()
	t.mem.close()
}

// MemoryStats says what the arena of a tape holds, in bytes.
type MemoryStats struct {
	Mapped int64 // taken from the system; untouched pages cost no memory
	InUse  int64 // handed out now
	Peak   int64 // largest InUse since the tape was made, or since ResetPeak
}

// Memory returns the state of the arena.
func (t *Tape) Memory() MemoryStats {
	return MemoryStats{4 * int64(t.mem.mapped()), 4 * int64(t.mem.inUse), 4 * int64(t.mem.peak)}
}

// ResetPeak lets the Peak of [Tape.Memory] begin anew, from what is in use now.
func (t *Tape) ResetPeak() { t.mem.peak = t.mem.inUse }

// New returns a variable in the arena. Its contents are undefined.
func (t *Tape) New(rows, cols int) *Var {
	t.seq++
	v := &Var{Rows: rows, Cols: cols, tape: t, seq: t.seq}
	t.fill(v)
	return v
}

func (t *Tape) fill(v *Var) { v.Data, v.mem = t.mem.alloc(v.Rows * v.Cols) }

// takeOver returns a variable with the memory of x, which must not be used any
// more, or nil when something else may still read that. why says so should x be
// used after all.
func (t *Tape) takeOver(x *Var, why string) *Var {
	if x.tape != t || x.mem.n == 0 || x.saves > 0 || t.isPinned(x) {
		return nil
	}
	t.seq++
	out := &Var{Rows: x.Rows, Cols: x.Cols, tape: t, seq: t.seq, Data: x.Data, mem: x.mem}
	x.mem = block{}
	t.retire(x, why)
	return out
}

// scratch returns memory for the inside of one operation, to be given back with
// t.mem.release.
func (t *Tape) scratch(rows, cols int) (kernels.Mat, block) {
	data, b := t.mem.alloc(rows * cols)
	return kernels.MatOf(data, rows, cols), b
}

// Record says how the gradient of out flows on. It does nothing unless t.Train
// and out.Needs. When back runs, out.Grad is complete; back reads it and adds to
// the gradients of the operation's inputs through [Tape.Grad]. saved lists the
// variables whose Mat back reads (out itself included if it does). Without a
// list the tape must keep everything that exists now until its producer's
// backward is done, so name them.
func (t *Tape) Record(out *Var, back func(), saved ...*Var) {
	if len(saved) == 0 && t.Train && out.Needs {
		t.pinned = t.seq
	}
	t.record(out, back, saved...)
}

// record is Record for operations that list all they read, perhaps nothing.
func (t *Tape) record(out *Var, back func(), saved ...*Var) {
	if !t.Train || !out.Needs {
		return
	}
	for _, v := range saved {
		v.saves++
	}
	t.nodes = append(t.nodes, node{out: out, back: back, saved: saved})
}

// Recomputable says how the data of v can be computed again from deps, which
// stay as long as that may happen: between its uses v costs no memory.
func (t *Tape) Recomputable(v *Var, f func(dst kernels.Mat), deps ...*Var) {
	if !t.Train {
		return
	}
	v.recompute, v.holds = f, deps
	for _, d := range deps {
		d.saves++
	}
}

// Grad returns the gradient buffer of v, which must have Needs. With accumulate
// the caller adds to it; without, the caller is the first, the contents are
// undefined and must all be overwritten.
func (t *Tape) Grad(v *Var) (m kernels.Mat, accumulate bool) {
	if !v.Needs {
		panic("nn: Grad of a variable that needs none")
	}
	t.dropStaleGrad(v)
	if v.Grad == nil {
		t.newGrad(v)
		return v.gradMat(), false
	}
	v.Reached = true
	if v.grads != nil && v.grads.refs > 1 {
		shared := v.Grad
		v.grads.refs--
		t.newGrad(v)
		copyParallel(v.Grad, shared)
	}
	return v.gradMat(), true
}

func (t *Tape) newGrad(v *Var) {
	g, b := t.mem.alloc(v.Rows * v.Cols)
	v.Grad, v.grads = g, &gradient{mem: b, refs: 1, gen: t.gen}
}

// dropStaleGrad forgets a gradient that a leaf still has from an earlier step.
func (t *Tape) dropStaleGrad(v *Var) {
	if v.grads != nil && v.grads.gen != t.gen {
		v.Grad, v.grads = nil, nil
	}
}

// passGrad adds the gradient of from to that of to; the first to come shares the
// memory instead of copying it.
func (t *Tape) passGrad(to, from *Var) {
	if !to.Needs {
		return
	}
	t.dropStaleGrad(to)
	if to.Grad == nil && from.grads != nil {
		to.Grad, to.grads = from.Grad, from.grads
		to.grads.refs++
		return
	}
	m, acc := t.Grad(to)
	if acc {
		addParallel(m.Data, m.Data, from.Grad)
	} else {
		copyParallel(m.Data, from.Grad)
	}
}

// freeGrad lets go of the gradient of v.
func (t *Tape) freeGrad(v *Var) {
	if g := v.grads; g != nil {
		g.refs--
		if g.refs == 0 && g.gen == t.gen {
			t.mem.release(g.mem)
		}
		v.Grad, v.grads = nil, nil
	}
}

// Discard says that the forward pass will not read vars again; nil is passed over.
// Unless a backward needs it, the data of each is freed now; if one does and it can
// be recomputed (norms, SwiGLU, dropout), it is freed too and recomputed on demand.
func (t *Tape) Discard(vars ...*Var) {
	for _, v := range vars {
		if v == nil || v.tape != t {
			continue
		}
		v.discarded = true
		t.settle(v)
	}
}

// settle frees what it can of a discarded variable.
func (t *Tape) settle(v *Var) {
	if v.saves == 0 && !t.isPinned(v) {
		t.retire(v, "it was discarded and nothing was recorded to read it")
		return
	}
	t.drop(v)
}

func (t *Tape) isPinned(v *Var) bool { return t.Train && v.seq <= t.pinned }

// drop frees the data of a variable that can be recomputed.
func (t *Tape) drop(v *Var) {
	if v.tape == t && v.recompute != nil {
		t.freeData(v)
	}
}

// retire frees v for good, and what was held to recompute it.
func (t *Tape) retire(v *Var, why string) {
	if v.tape != t {
		return
	}
	t.freeData(v)
	v.gone = why
	v.recompute = nil
	holds := v.holds
	v.holds = nil
	for _, h := range holds {
		h.saves--
		if h.saves == 0 && h.discarded {
			t.settle(h)
		}
	}
}

func (t *Tape) freeData(v *Var) {
	t.mem.release(v.mem)
	v.mem = block{}
	v.Data = nil
}

// Backward runs the records in reverse. An operation whose output got no
// gradient is skipped. Activations and gradients are freed as soon as nothing
// that is left to run reads them; gradients of parameters and of leaves stay.
func (t *Tape) Backward() {
	const why = "its backward is done"
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		if n.out.Grad != nil || n.inPlace {
			n.back()
		}
		if !n.inPlace {
			t.freeGrad(n.out)
		}
		for _, v := range n.saved {
			v.saves--
			if v.saves == 0 && !t.isPinned(v) {
				t.retire(v, why)
			}
		}
		if !n.inPlace && n.out.saves == 0 {
			t.retire(n.out, why)
		}
		*n = node{}
	}
	t.nodes = t.nodes[:0]
	clear(t.once)
}
