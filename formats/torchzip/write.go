package torchzip

import (
	"archive/zip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/atomicfile"
)

// Out is a tensor to be written.
type Out struct {
	formats.OutTensor
	// SameAs is the name of an earlier tensor of the same type and shape with whose
	// elements this one shares the storage; "" for its own. WriteTo is then not called.
	SameAs string
}

// WriteFile writes the file at path, which appears when it is complete.
func WriteFile(ctx context.Context, path string, tensors []Out) error {
	return atomicfile.WriteFile(ctx, path, nil, func(w io.Writer) error { return Write(ctx, w, path, tensors) })
}

// Write streams a file that torch.load reads, also with weights_only, to w. file
// is used in errors. The same tensors give the same bytes.
func Write(ctx context.Context, w io.Writer, file string, tensors []Out) error {
	program, storages, err := pickle(file, tensors)
	if err != nil {
		return err
	}
	z := zip.NewWriter(formats.WithContext(ctx, w))
	entry := func(name string) (io.Writer, error) {
		return z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
	}
	for _, e := range []struct {
		name string
		data []byte
	}{{"data.pkl", program}, {"byteorder", []byte("little")}, {"version", []byte("3\n")}} {
		f, err := entry(e.name)
		if err == nil {
			_, err = f.Write(e.data)
		}
		if err != nil {
			return err
		}
	}
	for i, t := range storages {
		f, err := entry(fmt.Sprintf("data/%d", i))
		if err != nil {
			return err
		}
		if err := formats.WriteTensor(f, file, t); err != nil {
			return err
		}
	}
	return z.Close()
}

// pickle writes the dictionary and lists the tensors whose elements are stored.
func pickle(file string, tensors []Out) ([]byte, []*formats.OutTensor, error) {
	p := program{0x80, 2, '}', '('}
	var storages []*formats.OutTensor
	at := map[string]int{} // storage of a name
	for i := range tensors {
		t := &tensors[i]
		bad := func(found string) error {
			return &formats.FileError{File: file, Tensor: t.Name, Err: formats.ErrOutput, Found: found}
		}
		class := ""
		for name, e := range elements {
			if e.t == t.Type {
				class = name
			}
		}
		if class == "" {
			return nil, nil, bad(fmt.Sprintf("type %s, which torch has no storage for", t.Type))
		}
		if _, twice := at[t.Name]; twice {
			return nil, nil, bad("a name that is used twice")
		}
		n, ok := at[t.SameAs]
		if t.SameAs == "" {
			n = len(storages)
			storages = append(storages, &t.OutTensor)
		} else if !ok || storages[n].Type != t.Type || storages[n].Size() != t.Size() {
			return nil, nil, bad(fmt.Sprintf("shared storage of %s, which is not before it or differs", t.SameAs))
		}
		at[t.Name] = n
		p.tensor(t, class, n)
	}
	return append(p, 'u', '.'), storages, nil
}

// program is a growing pickle of protocol 2.
type program []byte

func (p *program) op(b ...byte) { *p = append(*p, b...) }

func (p *program) text(s string) {
	p.op('X')
	*p = binary.LittleEndian.AppendUint32(*p, uint32(len(s)))
	*p = append(*p, s...)
}

func (p *program) global(module, name string) {
	p.op('c')
	*p = append(*p, module+"\n"+name+"\n"...)
}

func (p *program) int(n int64) {
	if n >= 0 && n <= math.MaxInt32 {
		p.op('J')
		*p = binary.LittleEndian.AppendUint32(*p, uint32(n))
		return
	}
	p.op(0x8a, 8)
	*p = binary.LittleEndian.AppendUint64(*p, uint64(n))
}

func (p *program) tuple(v []int64) {
	p.op('(')
	for _, n := range v {
		p.int(n)
	}
	p.op('t')
}

// tensor writes an entry: its name, and a call that makes a view of its storage.
func (p *program) tensor(t *Out, class string, storage int) {
	n, shape, stride := int64(1), make([]int64, len(t.Shape)), make([]int64, len(t.Shape))
	for i := len(t.Shape) - 1; i >= 0; i-- {
		shape[i], stride[i] = int64(t.Shape[i]), n
		n *= shape[i]
	}
	p.text(t.Name)
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.op('(', '(')
	p.text("storage")
	p.global("torch", class)
	p.text(fmt.Sprint(storage))
	p.text("cpu")
	p.int(n)
	p.op('t', 'Q')
	p.int(0)
	p.tuple(shape)
	p.tuple(stride)
	p.op(0x89) // requires_grad
	p.global("collections", "OrderedDict")
	p.op(')', 'R', 't', 'R')
}
