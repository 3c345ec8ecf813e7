package peft

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

// ErrNotFinite: a tensor of an adapter file holds NaN or infinity.
var ErrNotFinite = errors.New("an adapter must hold finite numbers only")

// Read opens an adapter of any registered format as it is in the file: the one door
// through which all adapters come in. What can be said about it without its base model
// is said by [Check] and [Ignored].
func Read(path string) (*formats.Adapter, error) { return formats.OpenAdapter(path) }

// ConfigChecker is implemented by methods that can tell from an adapter's configuration
// or metadata alone that they do not compute it. The error is that of Load.
type ConfigChecker interface {
	CheckConfig(a *formats.Adapter) error
}

// FileChecker is implemented by methods that can tell from the names and shapes of an
// adapter's tensors, without its base model, that some are missing.
type FileChecker interface {
	CheckFile(a *formats.Adapter) error
}

// Unbounded is implemented by methods whose files may hold minus infinity in some
// tensors (scores that are never to win).
type Unbounded interface {
	Unbounded(tensor string) bool
}

// Check returns what keeps an adapter from being used whatever the base model is: a
// configuration that its method does not compute, halves of pairs that are missing,
// numbers that are none. Every command that uses an adapter calls it, so that all say
// the same.
func Check(a *formats.Adapter) error {
	m, err := methodOf(a)
	if err != nil {
		return err
	}
	if c, ok := m.(ConfigChecker); ok {
		if err := c.CheckConfig(a); err != nil {
			return err
		}
	}
	if c, ok := m.(FileChecker); ok {
		if err := c.CheckFile(a); err != nil {
			return err
		}
	}
	return checkFinite(a, m)
}

// methodOf is MethodOf for adapters of either naming.
func methodOf(a *formats.Adapter) (Method, error) {
	if a.Naming != formats.GGUF {
		return MethodOf(a)
	}
	m, err := ByName(a.Meta.Str("adapter.type"))
	if err != nil {
		return nil, fmt.Errorf("%s: adapter.type: %w", a.Path, err)
	}
	return m, nil
}

func checkFinite(a *formats.Adapter, m Method) error {
	u, _ := m.(Unbounded)
	for _, t := range a.Tensors {
		low := u != nil && u.Unbounded(t.Name)
		at, v, err := notFinite(t, low)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Path, err)
		}
		if at != nil {
			return fmt.Errorf("%s: tensor %s%s is %v: the fault is the adapter's, not the base model's (a training that diverged, or a damaged file); use an earlier checkpoint or train it again: %w",
				a.Path, t.Name, indexText(at), v, ErrNotFinite)
		}
	}
	return nil
}

// indexText writes an index as Python does: [3, 14].
func indexText(at []int) string {
	return strings.ReplaceAll(fmt.Sprint(at), " ", ", ")
}

// notFinite returns the index of the first number of a tensor that is none, nil where
// all are; with low minus infinity is one.
func notFinite(t *tensor.Tensor, low bool) (at []int, value float32, err error) {
	if t.Type.Decode == nil || t.Elements() == 0 {
		return nil, 0, nil // whole numbers
	}
	cols, rows := t.Cols(), t.Rows()
	step := max(1, 1<<14/max(1, cols))
	pieces := (rows + step - 1) / step
	var mu sync.Mutex
	first := -1
	kernels.Parallel(pieces, 4, func(lo, hi int) {
		buf := make([]float32, step*cols)
		for p := lo; p < hi; p++ {
			r0, r1 := p*step, min(rows, (p+1)*step)
			v := buf[:(r1-r0)*cols]
			e := t.Floats(v, r0, r1)
			i := slices.IndexFunc(v, func(x float32) bool { return !(x-x == 0) && !(low && math.IsInf(float64(x), -1)) })
			if e == nil && i < 0 {
				continue
			}
			mu.Lock()
			if e != nil {
				err = e
			} else if n := r0*cols + i; first < 0 || n < first {
				first, value = n, v[i]
			}
			mu.Unlock()
			return
		}
	})
	if err != nil || first < 0 {
		return nil, 0, err
	}
	at = make([]int, len(t.Shape))
	for d, n := len(t.Shape)-1, first; d >= 0; d-- {
		at[d], n = n%t.Shape[d], n/t.Shape[d]
	}
	return at, value, nil
}
