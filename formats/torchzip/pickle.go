package torchzip

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// The machine below runs the few instructions of Python's pickle protocols 2 to 5
// that a dictionary of tensors needs. It never looks a name up anywhere: a global
// is a word that must be on a list, and calling it builds one of the values below.

// Values on the stack beside string, int64, bool, float64 and nil.
type (
	mark   struct{}
	global string
	tuple  []any
	list   struct{ items []any }
	// dict keeps the order of its entries.
	dict struct{ keys, values []any }
	// storage is a typed run of elements in a file of the archive.
	storage struct {
		kind  *element
		key   string
		count int64
	}
	// view is a tensor: part of a storage.
	view struct {
		storage       storage
		offset        int64
		shape, stride []int64
	}
)

// Limits that no state dictionary reaches.
const (
	maxPickle = 64 << 20
	maxName   = 1 << 12
	maxRank   = 16
)

// What a dictionary of tensors costs to read is known: a few dozen values for each
// tensor, and a file of the archive for most. memoryBase and memoryFile, in bytes,
// are many times that; what asks for more is refused on the way and not at its end.
const (
	memoryBase = 8 << 20
	memoryFile = 8 << 10

	valueCost = 32 // on the stack, and the value itself
	itemCost  = 16 // in a tuple, list or dictionary
	memoCost  = 64
)

const (
	rebuildTensor    global = "torch._utils._rebuild_tensor_v2"
	rebuildParameter global = "torch._utils._rebuild_parameter"
	orderedDict      global = "collections.OrderedDict"
)

// machine is one run.
type machine struct {
	name string // of the file, for errors
	data []byte
	at   int
	// stack and memo hold values; marks lie on the stack.
	stack []any
	memo  map[int64]any
	// memory is what may still be asked for, by values that were dropped too.
	memory int
}

func (m *machine) fail(kind error, found, want string, args ...any) error {
	return &formats.FileError{File: m.name, Offset: int64(m.at), Err: kind, Found: fmt.Sprintf(found, args...), Want: want}
}

// run executes the program and returns what it leaves.
func (m *machine) run() (v any, err error) {
	m.memo = map[int64]any{}
	for {
		op, err := m.bytes(1)
		if err != nil {
			return nil, err
		}
		if op[0] == '.' {
			return m.pop()
		}
		if err := m.step(op[0]); err != nil {
			return nil, err
		}
	}
}

func (m *machine) bytes(n int) ([]byte, error) {
	if n < 0 || n > len(m.data)-m.at {
		return nil, m.fail(formats.ErrTruncated, "the end of the pickle", fmt.Sprintf("%d more bytes", n))
	}
	b := m.data[m.at : m.at+n]
	m.at += n
	return b, nil
}

func (m *machine) uint(n int) (uint64, error) {
	b, err := m.bytes(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

func (m *machine) push(v any) error {
	m.stack = append(m.stack, v)
	return m.spend(valueCost)
}

func (m *machine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, m.fail(formats.ErrHeader, "an empty stack", "")
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v, nil
}

// popMark takes everything above the last mark.
func (m *machine) popMark() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if _, ok := m.stack[i].(mark); ok {
			items := append([]any(nil), m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, m.spend(itemCost * len(items))
		}
	}
	return nil, m.fail(formats.ErrHeader, "no mark on the stack", "")
}

func (m *machine) popN(n int) (tuple, error) {
	if len(m.stack) < n {
		return nil, m.fail(formats.ErrHeader, "%d values on the stack", fmt.Sprint(n), len(m.stack))
	}
	t := append(tuple(nil), m.stack[len(m.stack)-n:]...)
	m.stack = m.stack[:len(m.stack)-n]
	return t, m.spend(itemCost * n)
}

// spend counts n bytes of memory.
func (m *machine) spend(n int) error {
	if m.memory -= n; m.memory < 0 {
		return m.fail(formats.ErrLimit, "more values than the tensors of the file need", "a dictionary from names to tensors")
	}
	return nil
}

func (m *machine) text(n uint64) error {
	if n > maxName {
		return m.fail(formats.ErrLimit, "a string of %d bytes", fmt.Sprintf("at most %d", maxName), n)
	}
	b, err := m.bytes(int(n))
	if err != nil {
		return err
	}
	if err := m.spend(len(b)); err != nil {
		return err
	}
	return m.push(string(b))
}

// step runs one instruction.
func (m *machine) step(op byte) error {
	sized := func(n int, f func(v uint64) error) error {
		v, err := m.uint(n)
		if err != nil {
			return err
		}
		return f(v)
	}
	switch op {
	case 0x80: // PROTO
		return sized(1, func(v uint64) error {
			if v < 2 || v > 5 {
				return m.fail(formats.ErrUnsupported, "pickle protocol %d", "2 to 5", v)
			}
			return nil
		})
	case 0x95: // FRAME
		return sized(8, func(uint64) error { return nil })
	case '}':
		return m.push(&dict{})
	case ']':
		return m.push(&list{})
	case ')':
		return m.push(tuple{})
	case '(':
		return m.push(mark{})
	case 'N':
		return m.push(nil)
	case 0x88:
		return m.push(true)
	case 0x89:
		return m.push(false)
	case 'K':
		return sized(1, func(v uint64) error { return m.push(int64(v)) })
	case 'M':
		return sized(2, func(v uint64) error { return m.push(int64(v)) })
	case 'J':
		return sized(4, func(v uint64) error { return m.push(int64(int32(v))) })
	case 0x8a:
		return sized(1, m.long)
	case 'G':
		b, err := m.bytes(8)
		if err != nil {
			return err
		}
		return m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case 'X':
		return sized(4, m.text)
	case 0x8c:
		return sized(1, m.text)
	case 0x8d:
		return sized(8, m.text)
	case 'q':
		return sized(1, m.put)
	case 'r':
		return sized(4, m.put)
	case 0x94:
		return m.put(uint64(len(m.memo)))
	case 'h':
		return sized(1, m.get)
	case 'j':
		return sized(4, m.get)
	case 'c':
		return m.global()
	case 0x93:
		return m.stackGlobal()
	case 't':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.push(tuple(items))
	case 0x85, 0x86, 0x87:
		t, err := m.popN(int(op) - 0x84)
		if err != nil {
			return err
		}
		return m.push(t)
	case 'Q':
		return m.persistent()
	case 'R':
		return m.reduce()
	case 'b':
		return m.build()
	case 's':
		t, err := m.popN(2)
		if err != nil {
			return err
		}
		return m.set(t)
	case 'u':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.set(items)
	case 'a':
		t, err := m.popN(1)
		if err != nil {
			return err
		}
		return m.extend(t)
	case 'e':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.extend(items)
	}
	return m.fail(formats.ErrPickle, "instruction 0x%02x", "only what a dictionary of tensors needs", op)
}

// long pushes a little-endian two's complement number of n bytes.
func (m *machine) long(n uint64) error {
	if n > 8 {
		return m.fail(formats.ErrLimit, "an integer of %d bytes", "at most 8", n)
	}
	b, err := m.bytes(int(n))
	if err != nil {
		return err
	}
	var v int64
	for i, x := range b {
		v |= int64(x) << (8 * i)
	}
	if n > 0 && n < 8 && b[n-1]&0x80 != 0 {
		v -= 1 << (8 * n)
	}
	return m.push(v)
}

func (m *machine) put(i uint64) error {
	if len(m.stack) == 0 {
		return m.fail(formats.ErrHeader, "nothing to remember", "")
	}
	m.memo[int64(i)] = m.stack[len(m.stack)-1]
	return m.spend(memoCost)
}

func (m *machine) get(i uint64) error {
	v, ok := m.memo[int64(i)]
	if !ok {
		return m.fail(formats.ErrHeader, "value %d, which was not remembered", "", i)
	}
	return m.push(v)
}

func (m *machine) line() (string, error) {
	i := strings.IndexByte(string(m.data[m.at:min(len(m.data), m.at+512)]), '\n')
	if i < 0 {
		return "", m.fail(formats.ErrHeader, "a name without an end", "")
	}
	b, err := m.bytes(i + 1)
	return string(b[:max(0, i)]), err
}

func (m *machine) global() error {
	module, err := m.line()
	if err != nil {
		return err
	}
	name, err := m.line()
	if err != nil {
		return err
	}
	return m.known(module, name)
}

func (m *machine) stackGlobal() error {
	t, err := m.popN(2)
	if err != nil {
		return err
	}
	module, ok1 := t[0].(string)
	name, ok2 := t[1].(string)
	if !ok1 || !ok2 {
		return m.fail(formats.ErrHeader, "a global that is no name", "")
	}
	return m.known(module, name)
}

// known pushes a global if it is one of those that state dictionaries name.
func (m *machine) known(module, name string) error {
	g := global(module + "." + name)
	switch g {
	case rebuildTensor, rebuildParameter, orderedDict:
		return m.push(g)
	}
	if e := elements[strings.TrimPrefix(string(g), "torch.")]; e != nil && strings.HasPrefix(string(g), "torch.") {
		return m.push(e)
	}
	return &formats.FileError{File: m.name, Offset: int64(m.at), Err: formats.ErrPickle, Found: fmt.Sprintf("the global %q", string(g)),
		Want: "tensors, strings, numbers and dictionaries", Hint: "Such a file can run code when Python loads it; peftkit reads none of it"}
}

// persistent turns the name of a storage into a storage.
func (m *machine) persistent() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	t, ok := v.(tuple)
	if !ok || len(t) != 5 || t[0] != "storage" {
		return m.fail(formats.ErrHeader, "a persistent id of another form", "a storage")
	}
	kind, ok1 := t[1].(*element)
	key, ok2 := t[2].(string)
	count, ok3 := t[4].(int64)
	if !ok1 || !ok2 || !ok3 || count < 0 {
		return m.fail(formats.ErrHeader, "a storage without type, name and size", "")
	}
	return m.push(storage{kind, key, count})
}

// reduce calls a global.
func (m *machine) reduce() error {
	t, err := m.popN(2)
	if err != nil {
		return err
	}
	args, ok := t[1].(tuple)
	if !ok {
		return m.fail(formats.ErrHeader, "a call without arguments", "")
	}
	switch t[0] {
	case orderedDict:
		if len(args) == 0 {
			return m.push(&dict{})
		}
	case rebuildParameter:
		if len(args) >= 1 {
			if v, ok := args[0].(view); ok {
				return m.push(v)
			}
		}
	case rebuildTensor:
		if len(args) >= 4 {
			s, ok1 := args[0].(storage)
			offset, ok2 := args[1].(int64)
			shape, ok3 := integers(args[2])
			stride, ok4 := integers(args[3])
			if ok1 && ok2 && ok3 && ok4 && len(shape) == len(stride) && len(shape) <= maxRank && offset >= 0 {
				return m.push(view{s, offset, shape, stride})
			}
		}
	}
	return m.fail(formats.ErrHeader, "a call of %T with other arguments", "a tensor", t[0])
}

// integers reads a tuple of numbers that are not negative.
func integers(v any) ([]int64, bool) {
	t, ok := v.(tuple)
	if !ok {
		return nil, false
	}
	out := make([]int64, len(t))
	for i, x := range t {
		if out[i], ok = x.(int64); !ok || out[i] < 0 {
			return nil, false
		}
	}
	return out, true
}

// build drops the attributes of an ordered dictionary: torch keeps the versions
// of modules there.
func (m *machine) build() error {
	t, err := m.popN(2)
	if err != nil {
		return err
	}
	if _, ok := t[0].(*dict); !ok {
		return m.fail(formats.ErrPickle, "an object with attributes", "a dictionary of tensors")
	}
	return m.push(t[0])
}

// set adds pairs to the dictionary on top of the stack.
func (m *machine) set(items []any) error {
	if len(m.stack) == 0 {
		return m.fail(formats.ErrHeader, "no dictionary", "")
	}
	d, ok := m.stack[len(m.stack)-1].(*dict)
	if !ok || len(items)%2 != 0 {
		return m.fail(formats.ErrHeader, "entries for something else than a dictionary", "")
	}
	for i := 0; i < len(items); i += 2 {
		d.keys, d.values = append(d.keys, items[i]), append(d.values, items[i+1])
	}
	return m.spend(itemCost * len(items))
}

// extend adds items to the list on top of the stack.
func (m *machine) extend(items []any) error {
	if len(m.stack) == 0 {
		return m.fail(formats.ErrHeader, "no list", "")
	}
	l, ok := m.stack[len(m.stack)-1].(*list)
	if !ok {
		return m.fail(formats.ErrHeader, "items for something else than a list", "")
	}
	l.items = append(l.items, items...)
	return m.spend(itemCost * len(items))
}
