package nn

import "github.com/peftkit/peftkit/kernels"

// Later returns a variable that f computes when it is first read, from deps, which
// stay until nothing that was recorded reads it any more. It costs neither time nor
// memory before. A tape that does not train computes it at once.
func (t *Tape) Later(rows, cols int, f func(dst kernels.Mat), deps ...*Var) *Var {
	if !t.Train {
		v := t.New(rows, cols)
		f(v.Mat())
		return v
	}
	t.seq++
	v := &Var{Rows: rows, Cols: cols, tape: t, seq: t.seq, discarded: true}
	t.Recomputable(v, f, deps...)
	return v
}

// onceKey is a variable and who asked about it.
type onceKey struct {
	x   *Var
	key any
}

// Once returns what make returned when it was first called for x and key since the
// last Reset or Backward: modules that share an input share what is made of it.
func (t *Tape) Once(x *Var, key any, make func() *Var) *Var {
	k := onceKey{x, key}
	if v := t.once[k]; v != nil {
		return v
	}
	v := make()
	if t.once == nil {
		t.once = map[onceKey]*Var{}
	}
	t.once[k] = v
	return v
}
