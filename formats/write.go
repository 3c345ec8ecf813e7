package formats

import (
	"context"
	"fmt"
	"io"

	"github.com/peftkit/peftkit/internal/mmap"
	"github.com/peftkit/peftkit/tensor"
)

// WriteTensor lets t write itself to w and checks that it writes exactly as many
// bytes as its type and shape imply. file is used in errors.
func WriteTensor(w io.Writer, file string, t *OutTensor) error {
	want := t.Size()
	c := &countingWriter{w: w, left: want}
	if err := t.WriteTo(c); err != nil {
		if c.err != nil {
			return &FileError{File: file, Tensor: t.Name, Err: c.err}
		}
		return fmt.Errorf("%s: %q: %w", file, t.Name, err)
	}
	if c.left != 0 {
		return &FileError{File: file, Tensor: t.Name, Found: fmt.Sprintf("%d bytes were produced", want-c.left),
			Want: fmt.Sprintf("%d for %s %v", want, t.Type, t.Shape), Err: ErrOutput}
	}
	return nil
}

// countingWriter passes on at most left bytes.
type countingWriter struct {
	w    io.Writer
	left int64
	err  error // an error of w itself
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.left -= int64(len(p))
	if c.left < 0 {
		return 0, fmt.Errorf("%w: more bytes than its type and shape imply", ErrOutput)
	}
	n, err := c.w.Write(p)
	if err != nil {
		c.err = err
	}
	return n, err
}

// WithContext returns a writer that fails with the error of ctx once it is
// cancelled.
func WithContext(ctx context.Context, w io.Writer) io.Writer { return ctxWriter{ctx, w} }

type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// copyBytes is what Copy writes at once: little enough to be cancelled soon and
// to keep the resident part of a mapped file small.
const copyBytes = 4 << 20

// Copy describes stored tensors for writing as they are, byte for byte. A
// tensor with permuted rows is written in its logical order.
func Copy(tensors []*tensor.Tensor) []OutTensor {
	out := make([]OutTensor, len(tensors))
	for i, t := range tensors {
		out[i] = OutTensor{Name: t.Name, Type: t.Type, Shape: t.Shape, WriteTo: func(w io.Writer) error {
			if t.Perm == nil {
				for b := t.Data; len(b) > 0; {
					n := min(copyBytes, len(b))
					if _, err := w.Write(b[:n]); err != nil {
						return err
					}
					mmap.Drop(b[:n])
					b = b[n:]
				}
				return nil
			}
			for r := range t.Rows() {
				if _, err := w.Write(t.Row(r)); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	return out
}
