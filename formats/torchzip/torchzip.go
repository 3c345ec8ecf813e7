// Package torchzip reads files of torch.save since PyTorch 1.6: a zip archive with
// a pickle of a dictionary, and one uncompressed file for each storage. Only
// dictionaries from names to tensors are read, by a machine that knows no other
// instructions than those need; nothing of a file is ever run.
package torchzip

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// element is the type of a storage.
type element struct{ t *tensor.DType }

// elements are torch's storage classes.
var elements = map[string]*element{
	"FloatStorage": {tensor.F32}, "HalfStorage": {tensor.F16}, "BFloat16Storage": {tensor.BF16}, "DoubleStorage": {tensor.F64},
	"CharStorage": {tensor.I8}, "ShortStorage": {tensor.I16}, "IntStorage": {tensor.I32}, "LongStorage": {tensor.I64},
	"ByteStorage": {tensor.U8}, "BoolStorage": {tensor.Bool},
}

// File is an opened file. Its tensors view the mapped bytes until Close, unless
// they were transposed or otherwise not row after row: these are copies.
type File struct {
	Path    string
	Tensors []*tensor.Tensor // in the order of the dictionary

	m io.Closer // nil when the bytes came from elsewhere
}

// Open maps and reads the file at path. Errors are [*formats.FileError].
func Open(path string) (*File, error) {
	f, m, err := formats.Map(path, Parse)
	if err != nil {
		return nil, err
	}
	f.m = m
	return f, nil
}

// Close unmaps the file. The data of its tensors must not be touched afterwards.
func (f *File) Close() error {
	if f.m == nil {
		return nil
	}
	return f.m.Close()
}

// Parse reads the bytes of a whole file; name is used in errors.
func Parse(name string, data []byte) (*File, error) {
	bad := func(kind error, found, want string) error {
		return &formats.FileError{File: name, Err: kind, Found: found, Want: want}
	}
	if !bytes.HasPrefix(data, []byte("PK")) {
		if len(data) > 1 && data[0] == 0x80 {
			e := bad(formats.ErrPickle, "a bare pickle, as torch.save wrote before PyTorch 1.6", "a zip archive").(*formats.FileError)
			e.Hint = "Load and save it again with a newer PyTorch"
			return nil, e
		}
		if err := formats.Impostor(name, data[:min(len(data), 4096)]); err != nil {
			return nil, err
		}
		return nil, bad(formats.ErrHeader, "no zip archive", "a file of torch.save")
	}
	z, err := directory(data)
	if errors.Is(err, errDirectory) {
		return nil, bad(formats.ErrLimit, err.Error(), "a file for each tensor")
	}
	if err != nil {
		return nil, bad(formats.ErrHeader, err.Error(), "a zip archive")
	}
	a := &archive{name: name, data: data, files: map[string]*zip.File{}}
	var pickle *zip.File
	for _, f := range z.File {
		if a.files[f.Name] != nil {
			return nil, bad(formats.ErrDuplicate, fmt.Sprintf("two entries %q", f.Name), "")
		}
		a.files[f.Name] = f
		if f.Name == "data.pkl" || strings.HasSuffix(f.Name, "/data.pkl") && strings.Count(f.Name, "/") == 1 {
			pickle = f
		}
	}
	if pickle == nil {
		return nil, bad(formats.ErrMissing, "an archive without data.pkl", "a file of torch.save")
	}
	a.root = strings.TrimSuffix(pickle.Name, "data.pkl")
	if order := a.files[a.root+"byteorder"]; order != nil {
		b, err := a.bytes(order)
		if err != nil {
			return nil, err
		}
		if string(b) != "little" {
			return nil, bad(formats.ErrUnsupported, fmt.Sprintf("byte order %.20q", b), "little")
		}
	}
	program, err := a.bytes(pickle)
	if err != nil {
		return nil, err
	}
	if len(program) > maxPickle {
		return nil, bad(formats.ErrLimit, fmt.Sprintf("a pickle of %d bytes", len(program)), fmt.Sprintf("at most %d", maxPickle))
	}
	top, err := (&machine{name: name, data: program, memory: memoryBase + memoryFile*len(a.files)}).run()
	if err != nil {
		return nil, err
	}
	d, ok := top.(*dict)
	if !ok {
		return nil, bad(formats.ErrUnsupported, "something else than a dictionary", "a dictionary from names to tensors")
	}
	f := &File{Path: name}
	seen := map[string]bool{}
	for i, k := range d.keys {
		key, ok1 := k.(string)
		v, ok2 := d.values[i].(view)
		if !ok1 || !ok2 {
			return nil, &formats.FileError{File: name, Tensor: fmt.Sprintf("%T", k), Err: formats.ErrUnsupported, Found: "an entry that is no tensor", Want: "a dictionary from names to tensors"}
		}
		if seen[key] {
			return nil, &formats.FileError{File: name, Tensor: key, Err: formats.ErrDuplicate}
		}
		seen[key] = true
		t, err := a.tensor(key, v)
		if err != nil {
			return nil, err
		}
		f.Tensors = append(f.Tensors, t)
	}
	return f, nil
}

// maxDirectory bounds the list of files of an archive: a file of 46 bytes there
// takes ten times that in memory.
const maxDirectory = 4 << 20

var errDirectory = fmt.Errorf("a list of files of more than %d bytes", maxDirectory)

// directory reads the list of files of an archive.
func directory(data []byte) (*zip.Reader, error) {
	r := &limited{bytes.NewReader(data), maxDirectory}
	z, err := zip.NewReader(r, int64(len(data)))
	r.left = math.MaxInt64 // the files are views
	return z, err
}

// limited is a reader that fails when more was read than is sensible.
type limited struct {
	r    io.ReaderAt
	left int64
}

func (l *limited) ReadAt(p []byte, off int64) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errDirectory
	}
	return l.r.ReadAt(p, off)
}

// archive finds entries in the mapped bytes.
type archive struct {
	name, root string
	data       []byte
	files      map[string]*zip.File
	copied     int64
}

// bytes returns the content of an entry, which must be stored as it is.
func (a *archive) bytes(f *zip.File) ([]byte, error) {
	bad := func(kind error, found, want string) error {
		return &formats.FileError{File: a.name, Tensor: f.Name, Err: kind, Found: found, Want: want}
	}
	if f.Method != zip.Store || f.Flags&1 != 0 {
		return nil, bad(formats.ErrUnsupported, "a compressed or encrypted entry", "entries as torch.save stores them")
	}
	off, err := f.DataOffset()
	if err != nil {
		return nil, bad(formats.ErrHeader, err.Error(), "")
	}
	n := f.UncompressedSize64
	if off < 0 || off > int64(len(a.data)) || n > uint64(int64(len(a.data))-off) || f.CompressedSize64 != n {
		return nil, bad(formats.ErrTruncated, fmt.Sprintf("%d bytes at %d of %d", n, off, len(a.data)), "")
	}
	return a.data[off : off+int64(n) : off+int64(n)], nil
}

// tensor resolves a view.
func (a *archive) tensor(name string, v view) (*tensor.Tensor, error) {
	bad := func(kind error, found, want string) error {
		return &formats.FileError{File: a.name, Tensor: name, Err: kind, Found: found, Want: want}
	}
	entry := a.files[a.root+"data/"+v.storage.key]
	if entry == nil {
		return nil, bad(formats.ErrMissing, fmt.Sprintf("no storage %q in the archive", v.storage.key), "")
	}
	b, err := a.bytes(entry)
	if err != nil {
		return nil, err
	}
	start, _ := entry.DataOffset() // it was just read
	size := int64(v.storage.kind.t.Bytes)
	if int64(len(b))/size < v.storage.count {
		return nil, bad(formats.ErrTruncated, fmt.Sprintf("a storage of %d bytes", len(b)), fmt.Sprintf("%d elements of %d", v.storage.count, size))
	}
	n, last, contiguous, want := int64(1), v.offset, true, int64(1)
	t := &tensor.Tensor{Name: name, Type: v.storage.kind.t, Shape: make([]int, len(v.shape)), File: a.name, Offset: start + v.offset*size}
	for i := len(v.shape) - 1; i >= 0; i-- {
		d, s := v.shape[i], v.stride[i]
		if d == 0 {
			return nil, bad(formats.ErrShape, fmt.Sprintf("shape %v", v.shape), "at least one element")
		}
		if d > v.storage.count || n > math.MaxInt64/d || d > 1 && s > (math.MaxInt64-last)/(d-1) {
			return nil, bad(formats.ErrOverflow, fmt.Sprintf("shape %v, strides %v", v.shape, v.stride), "")
		}
		last += (d - 1) * s
		contiguous = contiguous && (d == 1 || s == want)
		n *= d
		want *= d
		t.Shape[i] = int(d)
	}
	if last >= v.storage.count || n > v.storage.count {
		return nil, bad(formats.ErrShape, fmt.Sprintf("shape %v, strides %v from %d", v.shape, v.stride, v.offset), fmt.Sprintf("a part of %d elements", v.storage.count))
	}
	if contiguous {
		t.Data = b[v.offset*size : (v.offset+n)*size]
		return t, nil
	}
	if a.copied += n * size; a.copied > 4*int64(len(a.data))+1024 {
		return nil, bad(formats.ErrLimit, "transposed tensors larger than the file", "")
	}
	t.Data = gather(b, v, n, size)
	return t, nil
}

// gather copies the elements of a view row after row.
func gather(b []byte, v view, n, size int64) []byte {
	out := make([]byte, 0, n*size)
	index := make([]int64, len(v.shape))
	at := v.offset
	for range n {
		out = append(out, b[at*size:(at+1)*size]...)
		for i := len(index) - 1; i >= 0; i-- {
			index[i]++
			if at += v.stride[i]; index[i] < v.shape[i] {
				break
			}
			at -= index[i] * v.stride[i]
			index[i] = 0
		}
	}
	return out
}

var _ io.Closer = (*File)(nil)
