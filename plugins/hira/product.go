package hira

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// factor is what the weight is multiplied by, less one.
func (s *site) factor() *tuner.Times { return &tuner.Times{Layer: s.layer, A: s.a.V, B: s.b.V} }

// Attach implements tuner.Site.
func (s *site) Attach(scale float32) error {
	if p := float32(s.cfg.Dropout); p > 0 { // the change is a product of its own
		s.factor().Elements(0, scale).AttachBeside(func(t *nn.Tape, x *nn.Var) *nn.Var { return nn.Dropout(t, x, p) })
	} else {
		s.factor().Elements(1, scale).Attach()
	}
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	s.factor().MergeRows(w, r0, r1, scale)
}

// Attach implements tuner.Site.
func (s *embedding) Attach(scale float32) error {
	s.layer.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		y := next(t, ids)
		factor := nn.MatMulT(t, nn.GatherCols(t, s.a.V, ids, -1), s.b.V) // PEFT's HiRA has no padding here
		return nn.Sum(t, y, nn.Scale(t, nn.Mul(t, y, factor), scale))
	})
	return nil
}

// MergeRows implements tuner.RowMerging.
func (s *embedding) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	a := s.a.V.Mat()
	a = kernels.Mat{Data: a.Data[min(r0, len(a.Data)):], Rows: a.Rows, Cols: r1 - r0, Stride: a.Stride} // columns r0 to r1
	tuner.Multiply(w, a, s.b.V.Mat(), true, scale)
}
