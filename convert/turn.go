package convert

import (
	"fmt"
	"io"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/mmap"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

// turned writes a matrix whose source or output is transposed (Conv1D). It is
// held in float32 as a whole: changes apply to Hugging Face's rows, the output
// has the other ones.
func (j *job) turned(w io.Writer, it *item) error {
	defer mmap.Drop(it.src.Data)
	x, err := whole(it.src)
	if err != nil {
		return err
	}
	rows, cols := it.src.Shape[0], it.src.Shape[1]
	var old []float32
	if len(it.changes) > 0 {
		old = append(old, x...)
		if err := applyAll(it.changes, x, 0, rows); err != nil {
			return err
		}
		if i := firstNotFinite(x); i >= 0 {
			return notFinite(fmt.Sprintf("row %d, column %d", i/cols, i%cols), old[i], x[i])
		}
	}
	if it.turn {
		x = transpose(x, rows, cols)
		if old != nil {
			old = transpose(old, rows, cols)
		}
		rows, cols = cols, rows
	}
	size, ok := it.typ.Size(int64(cols))
	if !ok {
		return fmt.Errorf("rows of %d values are no whole blocks of %s: %w", cols, it.typ, ErrOption)
	}
	t := &tile{it: it, cols: cols, rowBytes: int(size), now: x, before: old}
	t.out = grow(&j.buf.out, rows*t.rowBytes)
	if old != nil {
		t.stats = make([]rowStats, rows)
		if it.typ != tensor.F32 {
			t.back = grow(&j.buf.back, rows*cols)
		}
	}
	kernels.Parallel(rows, 8, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			carried, err := encodeChecked(it, t.outRow(r), x[r*cols:(r+1)*cols], r)
			if err != nil {
				t.fail(r, err)
				return
			}
			if carried {
				t.mu.Lock()
				t.carried = true
				t.mu.Unlock()
			}
		}
		if old != nil {
			t.measure(lo, hi)
		}
	})
	if t.err != nil {
		return t.err
	}
	for _, s := range t.stats {
		j.delta.add(s)
	}
	if t.carried {
		j.noteCarried(it)
	}
	for len(t.out) > 0 {
		n := min(copyBytes, len(t.out))
		if err := j.emit(w, it, t.out[:n]); err != nil {
			return err
		}
		t.out = t.out[n:]
	}
	return nil
}

// whole decodes a matrix in Hugging Face's orientation.
func whole(t *tensor.Tensor) ([]float32, error) {
	s := t.Stored()
	rows, cols := s.Shape[0], s.Shape[1]
	if s.Type.Decode == nil {
		return nil, fmt.Errorf("type %s: %w", s.Type, formats.ErrUnsupported)
	}
	x := make([]float32, rows*cols)
	kernels.Parallel(rows, 8, func(lo, hi int) {
		_ = s.Floats(x[lo*cols:hi*cols], lo, hi) // fails without a decoder only
	})
	if t.Transposed {
		x = transpose(x, rows, cols)
	}
	return x, nil
}

// transpose returns the transpose of a rows x cols matrix.
func transpose(x []float32, rows, cols int) []float32 {
	const block = 32
	out := make([]float32, len(x))
	kernels.Parallel((cols+block-1)/block, 1, func(lo, hi int) {
		for c0 := lo * block; c0 < min(hi*block, cols); c0 += block {
			for r0 := 0; r0 < rows; r0 += block {
				for c := c0; c < min(c0+block, cols); c++ {
					for r := r0; r < min(r0+block, rows); r++ {
						out[c*rows+r] = x[r*cols+c]
					}
				}
			}
		}
	})
	return out
}
