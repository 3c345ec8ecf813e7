package glora

import (
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft/tuner"
)

// MergeRows implements tuner.RowMerging.
func (s *site) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	switch s.a.form {
	case none:
	case lora:
		s.factor().MergeRows(w, r0, r1, scale)
		tuner.AddProduct(w, s.b.x.V.Mat().RowsOf(r0, r1), s.b.y.V.Mat(), scale)
	default:
		for r := range r1 - r0 {
			factor, shift := 1+scale*s.a.at(r0+r), scale*s.b.at(r0+r)
			row := w.Row(r)
			for i, v := range row {
				row[i] = v*factor + shift
			}
		}
	}
}

// at is element i of a vector, or the number.
func (p part) at(i int) float32 {
	switch p.form {
	case none:
		return 0
	case constant:
		i = 0
	}
	return p.x.V.Data[i]
}

// MergeBias implements tuner.BiasMerging. W·C is of the weight as the base has it.
func (s *site) MergeBias(b []float32, scale float32) {
	product := make([]float32, len(b))
	if s.c.form != none {
		t := nn.NewTape()
		defer t.Close()
		copy(product, nn.LinearOp(t, s.column(t), s.layer.W, nil).Mat().Data)
	}
	for i, v := range b {
		b[i] = v + scale*(v*s.d.at(i)+s.e.at(i)+product[i])
	}
}

// NeedsBias implements tuner.BiasMerging.
func (s *site) NeedsBias() bool { return false }
