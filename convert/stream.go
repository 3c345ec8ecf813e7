package convert

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/mmap"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// Sizes of the pieces in which tensors pass through memory.
const (
	tileFloats = 1 << 20 // decoded at once, shared by the workers
	stepFloats = 1 << 14 // decoded and encoded in one go by a worker: stays in its cache
	copyBytes  = 4 << 20 // copied between two looks at the context
)

// scratch is the memory that all tensors share; they are written one by one.
type scratch struct {
	now, before, back []float32
	out               []byte
}

func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	return (*s)[:n]
}

// writer returns the function that produces the bytes of it. What is wrong with
// the content is kept in j.broken: the format's error would name the output.
func (j *job) writer(it *item) func(io.Writer) error {
	return func(w io.Writer) error {
		err := j.write(w, it)
		if err != nil && j.broken == nil && (errors.Is(err, ErrRange) || errors.Is(err, ErrNotFinite)) {
			j.broken = formats.At(j.ck.Source.Path, describe(it.name, err))
		}
		return err
	}
}

func (j *job) write(w io.Writer, it *item) error {
	switch {
	case it.copies() && len(it.shape) > 1:
		return j.copy(w, it)
	case it.copies() && it.place == nil:
		return j.emit(w, it, it.src.Data)
	case len(it.shape) < 2:
		return j.vector(w, it)
	case it.turn || it.src.Transposed:
		return j.turned(w, it)
	}
	return j.encode(w, it)
}

// notFinite says what an adapter made of a number, and whose fault it is.
func notFinite(where string, before, after float32) error {
	if before-before == 0 {
		return fmt.Errorf("%s: %v becomes %v by the change of the adapter, which is too large: %w", where, before, after, ErrNotFinite)
	}
	return fmt.Errorf("%s: the base model has %v, which becomes %v: %w", where, before, after, ErrNotFinite)
}

// emit writes finished bytes of it.
func (j *job) emit(w io.Writer, it *item, b []byte) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	j.done += int64(len(b))
	if j.opt.Progress != nil {
		j.opt.Progress(j.done, j.total, it.name)
	}
	return nil
}

// copy writes the stored bytes, in the output's row order. As everywhere, pages
// of the source that are done with go back to the system.
func (j *job) copy(w io.Writer, it *item) error {
	defer mmap.Drop(it.src.Data)
	t := it.src
	if it.place != nil || t.Perm != nil {
		v, err := j.outputOrder(it)
		if err != nil {
			return err
		}
		t = v
	}
	if t.Perm == nil {
		for b := t.Data; len(b) > 0; {
			n := min(copyBytes, len(b))
			if err := j.emit(w, it, b[:n]); err != nil {
				return err
			}
			mmap.Drop(b[:n])
			b = b[n:]
		}
		return nil
	}
	rb, rows := t.RowBytes(), t.Rows()
	per := max(1, copyBytes/max(1, rb))
	for r := 0; r < rows; r += per {
		n := min(per, rows-r)
		out := grow(&j.buf.out, n*rb)
		for i := range n {
			copy(out[i*rb:(i+1)*rb], t.Row(r+i))
		}
		if err := j.emit(w, it, out); err != nil {
			return err
		}
	}
	return nil
}

// outputOrder returns the source as a tensor whose logical order is the output's.
func (j *job) outputOrder(it *item) (*tensor.Tensor, error) {
	v := *it.src
	if it.place == nil {
		return &v, nil
	}
	if len(it.place) != v.Rows() {
		return nil, fmt.Errorf("%d rows, the family orders %d: %w", v.Rows(), len(it.place), peft.ErrTensors)
	}
	perm := make([]int32, len(it.place))
	same := true
	for logical, out := range it.place {
		stored := int32(logical)
		if it.src.Perm != nil {
			stored = it.src.Perm[logical]
		}
		perm[out] = stored
		same = same && out == stored
	}
	v.Perm = perm
	if same {
		v.Perm = nil
	}
	return &v, nil
}

// vector writes a one-dimensional tensor in one go.
func (j *job) vector(w io.Writer, it *item) error {
	n := int(it.src.Elements())
	size, ok := it.typ.Size(int64(n))
	if !ok {
		return fmt.Errorf("%d values are no whole blocks of %s: %w", n, it.typ, ErrOption)
	}
	x := grow(&j.buf.now, n)
	if err := it.src.Floats(x, 0, 1); err != nil {
		return err
	}
	var st rowStats
	if len(it.changes) > 0 {
		old := grow(&j.buf.before, n)
		copy(old, x)
		if err := applyAll(it.changes, x, 0, 1); err != nil {
			return err
		}
		if i := firstNotFinite(x); i >= 0 {
			return notFinite(fmt.Sprintf("element %d", i), old[i], x[i])
		}
		st.observe(old, x)
	}
	if it.shift != 0 {
		for i := range x {
			x[i] += it.shift
		}
	}
	if it.place != nil {
		moved := make([]float32, n)
		for logical, out := range it.place {
			moved[out] = x[logical]
		}
		copy(x, moved)
	}
	b := grow(&j.buf.out, int(size))
	carried, err := encodeChecked(it, b, x, 0)
	if err != nil {
		return err
	}
	if carried {
		j.noteCarried(it)
	}
	if len(it.changes) > 0 {
		st.dot = st.square // vectors are kept in float32 or are too small to matter
		j.delta.add(st)
	}
	return j.emit(w, it, b)
}

func (j *job) noteCarried(it *item) {
	j.notes.about("holds NaN or infinity, which are carried as they are", it.name)
}

// encode decodes the source in logical order, applies the changes, and writes
// the rows in the output's order and type. The rows of a tile are shared by the
// workers; no result depends on how.
func (j *job) encode(w io.Writer, it *item) error {
	rows, cols := it.rows(), it.cols()
	if it.place != nil && len(it.place) != rows {
		return fmt.Errorf("%d rows, the family orders %d: %w", rows, len(it.place), peft.ErrTensors)
	}
	rowBytes64, ok := it.typ.Size(int64(cols))
	if !ok {
		return fmt.Errorf("rows of %d values are no whole blocks of %s: %w", cols, it.typ, ErrOption)
	}
	rowBytes := int(rowBytes64)
	defer mmap.Drop(it.src.Data)
	for lo := 0; lo < rows; {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		hi := tileEnd(it.place, lo, rows, max(1, tileFloats/max(1, cols)))
		whole := slices.ContainsFunc(it.changes, func(c peft.Change) bool { return c.Whole })
		if whole {
			hi = rows
		}
		t := &tile{it: it, lo: lo, cols: cols, rowBytes: rowBytes}
		n := hi - lo
		t.now, t.out = grow(&j.buf.now, n*cols), grow(&j.buf.out, n*rowBytes)
		if len(it.changes) > 0 {
			t.before = grow(&j.buf.before, n*cols)
			t.stats = make([]rowStats, n)
			if it.typ != tensor.F32 {
				t.back = grow(&j.buf.back, n*cols)
			}
		}
		if whole {
			t.work(0, n) // the method shares out the work itself
		} else {
			kernels.Parallel(n, 8, t.work)
		}
		if t.err != nil {
			return t.err
		}
		for _, s := range t.stats {
			j.delta.add(s)
		}
		if t.carried {
			j.noteCarried(it)
		}
		if err := j.emit(w, it, t.out); err != nil {
			return err
		}
		if it.src.Perm == nil && hi <= it.src.Rows() {
			rb := it.src.RowBytes()
			mmap.Drop(it.src.Data[lo*rb : hi*rb])
		}
		lo = hi
	}
	return nil
}

// tileEnd returns where the tile that begins at row lo ends: after about want
// rows, at a point where the rows of the tile stay among themselves in the
// output.
func tileEnd(place []int32, lo, rows, want int) int {
	if place == nil {
		return min(rows, lo+want)
	}
	high := int32(lo)
	for i := lo; i < rows; i++ {
		high = max(high, place[i])
		if int(high) == i && i+1-lo >= want {
			return i + 1
		}
	}
	return rows
}

// tile is a range of rows on its way through memory.
type tile struct {
	it       *item
	lo       int // first logical row
	cols     int
	rowBytes int
	now      []float32
	before   []float32 // values before the changes, when there are any
	back     []float32 // values after rounding, when it rounds
	out      []byte
	stats    []rowStats
	mu       sync.Mutex
	err      error
	errRow   int
	carried  bool
}

func (t *tile) fail(row int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil || row < t.errRow {
		t.err, t.errRow = err, row
	}
}

// work does rows r0 to r1 of the tile: with changes in one go, because products
// with an adapter's factors want many rows, otherwise in pieces.
func (t *tile) work(r0, r1 int) {
	step := r1 - r0
	if len(t.it.changes) == 0 {
		step = max(1, stepFloats/max(1, t.cols))
	}
	for r := r0; r < r1; r += step {
		if err := t.rows(r, min(r1, r+step)); err != nil {
			t.fail(r, err)
			return
		}
	}
}

func (t *tile) rows(r0, r1 int) error {
	it, c := t.it, t.cols
	x := t.now[r0*c : r1*c]
	from, to := t.lo+r0, t.lo+r1
	stored := min(to, max(from, it.src.Rows()))
	if err := it.src.Floats(x[:(stored-from)*c], from, stored); err != nil {
		return err
	}
	clear(x[(stored-from)*c:])
	if len(it.changes) > 0 {
		old := t.before[r0*c : r1*c]
		copy(old, x)
		if err := applyAll(it.changes, x, from, to); err != nil {
			return err
		}
		if i := firstNotFinite(x); i >= 0 {
			return notFinite(fmt.Sprintf("row %d, column %d", from+i/c, i%c), old[i], x[i])
		}
	}
	carried := false
	encode := func(out []byte, v []float32, row int) error {
		more, err := encodeChecked(it, out, v, row)
		carried = carried || more
		return err
	}
	if it.place == nil {
		if err := encode(t.out[r0*t.rowBytes:r1*t.rowBytes], x, from); err != nil {
			return err
		}
	} else {
		for r := from; r < to; r++ {
			if err := encode(t.outRow(r), x[(r-from)*c:(r-from+1)*c], r); err != nil {
				return err
			}
		}
	}
	if carried {
		t.mu.Lock()
		t.carried = true
		t.mu.Unlock()
	}
	if len(it.changes) > 0 {
		t.measure(r0, r1)
	}
	return nil
}

// outRow returns where a logical row goes.
func (t *tile) outRow(r int) []byte {
	if t.it.place != nil {
		r = int(t.it.place[r])
	}
	r -= t.lo
	return t.out[r*t.rowBytes : (r+1)*t.rowBytes]
}

// measure compares rows before and after.
func (t *tile) measure(r0, r1 int) {
	c := t.cols
	for r := r0; r < r1; r++ {
		old, x := t.before[r*c:(r+1)*c], t.now[r*c:(r+1)*c]
		s := &t.stats[r]
		s.observe(old, x)
		if t.back == nil {
			s.dot = s.square
			continue
		}
		b := t.back[r*c : (r+1)*c]
		t.it.typ.Decode(b, t.outRow(t.lo+r))
		for i := range x {
			s.dot += float64(x[i]-old[i]) * float64(b[i]-old[i])
		}
	}
}

// applyAll applies the changes to rows r0 to r1, in order.
func applyAll(changes []peft.Change, w []float32, r0, r1 int) error {
	for _, c := range changes {
		if c.Replace != nil {
			if err := c.Replace(w, r0, r1); err != nil {
				return err
			}
		}
		if c.Apply != nil {
			c.Apply(w, r0, r1)
		}
	}
	return nil
}

// rowStats tells what merging did to a row.
type rowStats struct {
	max         float64
	square, dot float64 // |change|², change · rounded change
}

func (s *rowStats) observe(old, now []float32) {
	for i := range now {
		d := math.Abs(float64(now[i]) - float64(old[i]))
		s.max = math.Max(s.max, d)
		s.square += d * d
	}
}

// deltaStats sums up in row order, so that the figures do not depend on threads.
type deltaStats rowStats

func (d *deltaStats) add(s rowStats) {
	d.max = math.Max(d.max, s.max)
	d.square += s.square
	d.dot += s.dot
}

func (d *deltaStats) survived() float64 {
	if d.square == 0 {
		return 0
	}
	return d.dot / d.square
}

const (
	infBits = 0x7f800000
	// From these magnitudes on rounding to the type gives infinity.
	overF16  = 0x477ff000 // 65520
	overBF16 = 0x7f7f8000
	// Block scales are float16: blocks below 65504 always have finite ones.
	overBlock = 0x477fe000
)

// largest returns the largest magnitude as bits; NaN counts as more than infinity.
func largest(v []float32) uint32 {
	var m uint32
	for _, x := range v {
		m = max(m, math.Float32bits(x)&^(1<<31))
	}
	return m
}

func firstNotFinite(v []float32) int {
	if largest(v) < infBits {
		return -1
	}
	for i, x := range v {
		if math.Float32bits(x)&infBits == infBits {
			return i
		}
	}
	return -1
}

// encodeChecked encodes whole rows beginning at row r0 and refuses finite values
// that would become infinite. carried reports NaN or infinities of the source,
// which plain types keep and quantised types cannot hold.
func encodeChecked(it *item, dst []byte, v []float32, r0 int) (carried bool, err error) {
	typ := it.typ
	if typ == tensor.F32 && it.src.Type != tensor.F64 {
		typ.Encode(dst, v)
		return false, nil
	}
	limit := uint32(infBits)
	switch {
	case typ == tensor.F16:
		limit = overF16
	case typ == tensor.BF16:
		limit = overBF16
	case typ.Quantised():
		limit = overBlock
	}
	m := largest(v)
	if m < limit {
		typ.Encode(dst, v)
		return false, nil
	}
	c := max(1, it.cols())
	for i, x := range v {
		b := math.Float32bits(x) &^ (1 << 31)
		switch {
		case b >= infBits && typ.Quantised():
			return false, fmt.Errorf("row %d, column %d is %v, which %s cannot hold: %w", r0+i/c, i%c, x, typ, ErrNotFinite)
		case b >= infBits:
			carried = true
		case b >= limit && !typ.Quantised():
			return false, fmt.Errorf("row %d, column %d is %g, beyond the largest value of %s; take f32 or bf16: %w", r0+i/c, i%c, x, typ, ErrRange)
		}
	}
	typ.Encode(dst, v)
	if typ.Quantised() {
		back := make([]float32, len(v))
		typ.Decode(back, dst)
		if i := firstNotFinite(back); i >= 0 {
			return false, fmt.Errorf("row %d, column %d is %g: the scale of its block does not fit into float16, as %s has it; take f32 or bf16: %w", r0+i/c, i%c, v[i], typ, ErrRange)
		}
	}
	return carried, nil
}

// recode returns t in another type, decoded and encoded while it is written. It
// is for tensors whose bytes somebody else produces (the factors of an adapter).
func recode(t formats.OutTensor, to *tensor.DType) formats.OutTensor {
	if t.Type == to {
		return t
	}
	inner := t.WriteTo
	from := t.Type
	cols := 1
	if len(t.Shape) > 0 {
		cols = t.Shape[len(t.Shape)-1]
	}
	out := t
	out.Type = to
	out.WriteTo = func(w io.Writer) error {
		inBytes, ok1 := from.Size(int64(cols))
		outBytes, ok2 := to.Size(int64(cols))
		if !ok1 || !ok2 {
			return fmt.Errorf("rows of %d values cannot go from %s to %s: %w", cols, from, to, ErrOption)
		}
		r := &recoder{w: w, it: &item{name: t.Name, typ: to, src: &tensor.Tensor{Type: from, Shape: t.Shape}},
			row: make([]byte, 0, inBytes), v: make([]float32, cols), out: make([]byte, outBytes)}
		if err := inner(r); err != nil {
			return err
		}
		if len(r.row) != 0 {
			return fmt.Errorf("%w: the last row is incomplete", formats.ErrOutput)
		}
		return nil
	}
	return out
}

// recoder is an io.Writer that takes rows of one type and passes on another.
type recoder struct {
	w   io.Writer
	it  *item
	row []byte
	v   []float32
	out []byte
	n   int
}

func (r *recoder) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		k := min(len(p), cap(r.row)-len(r.row))
		r.row = append(r.row, p[:k]...)
		p = p[k:]
		if len(r.row) < cap(r.row) {
			break
		}
		r.it.src.Type.Decode(r.v, r.row)
		if _, err := encodeChecked(r.it, r.out, r.v, r.n); err != nil {
			return 0, err
		}
		if _, err := r.w.Write(r.out); err != nil {
			return 0, err
		}
		r.row = r.row[:0]
		r.n++
	}
	return total, nil
}
