// Package atomicfile writes files and folders so that whoever looks at the
// path sees the old content or the new one, never a part: everything goes into a
// temporary sibling that is synced, renamed into place, and whose folder is
// synced. A crash leaves at most a sibling whose name begins with ".peftkit-", which
// the next writer to that path removes.
package atomicfile

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// ErrSource says that the output would overwrite a file it is made from.
var ErrSource = errors.New("the output is one of its own sources")

// bufferSize is large enough that a write costs little beside the copy.
const bufferSize = 1 << 20

// File is a file under construction. It is an io.Writer; nothing is seen under
// its path before Commit.
type File struct {
	path string // final path, symbolic links resolved
	tmp  *os.File
	buf  *bufio.Writer
	err  error // the first write that failed
	done bool
}

// Create begins a file that will appear under path. It refuses a path that is
// a folder, a device or one of sources.
func Create(path string, sources ...string) (*File, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(path); err == nil {
		switch {
		case st.IsDir():
			return nil, &os.PathError{Op: "create", Path: path, Err: errors.New("is a folder: give the name of a file in it")}
		case !st.Mode().IsRegular():
			return nil, &os.PathError{Op: "create", Path: path, Err: errors.New("is a device or pipe: give the name of a regular file")}
		}
	}
	if err := refuseSource(path, sources); err != nil {
		return nil, err
	}
	sweepFor(path)
	tmp, err := createTemp(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	f := &File{path: path, tmp: tmp}
	f.buf = bufio.NewWriterSize(rawWriter{f}, bufferSize)
	return f, nil
}

// resolve makes path absolute and follows symbolic links, so that the file
// behind a link is replaced and not the link.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	// The file itself need not exist; its folder must.
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

func refuseSource(path string, sources []string) error {
	st, err := os.Stat(path)
	if err != nil {
		return nil
	}
	for _, s := range sources {
		if o, err := os.Stat(s); err == nil && os.SameFile(st, o) {
			return &os.PathError{Op: "create", Path: path, Err: ErrSource}
		}
	}
	return nil
}

// rawWriter is the unbuffered side of a File.
type rawWriter struct{ f *File }

func (w rawWriter) Write(p []byte) (int, error) {
	if err := check(OpWrite, w.f.path); err != nil {
		// A full disk takes a part of the bytes before it fails.
		n, _ := w.f.tmp.Write(p[:len(p)/2])
		return n, err
	}
	return w.f.tmp.Write(p)
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.buf.Write(p)
	if err != nil && f.err == nil {
		f.err = err
	}
	return n, err
}

// ReadFrom appends all of r. It keeps the buffer of the file in use, so a
// reader needs none of its own.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	n, err := f.buf.ReadFrom(r)
	if err != nil && f.err == nil {
		f.err = err
	}
	return n, err
}

// Commit syncs the file and puts it under its path. After an error the old
// content is untouched and the temporary file is gone.
func (f *File) Commit() error {
	if f.done {
		return errors.New("atomicfile: Commit after Commit or Abort")
	}
	if err := f.commit(); err != nil {
		f.Abort()
		return err
	}
	f.done = true
	return syncDir(filepath.Dir(f.path))
}

func (f *File) commit() error {
	if f.err != nil {
		return f.err
	}
	if err := f.buf.Flush(); err != nil {
		return err
	}
	if err := check(OpSync, f.path); err != nil {
		return err
	}
	if err := f.tmp.Sync(); err != nil {
		return err
	}
	if !renameOpen {
		if err := f.tmp.Close(); err != nil {
			return err
		}
		return rename(f.tmp.Name(), f.path)
	}
	if err := rename(f.tmp.Name(), f.path); err != nil {
		return err
	}
	f.tmp.Close() // with its lock; the bytes are synced
	return nil
}

// Abort removes what was written. After Commit it does nothing, so it can be deferred.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	f.tmp.Close()
	os.Remove(f.tmp.Name())
}

// WriteFile writes the file at path with what write produces. A cancelled
// context is an error even when write does not look at it.
func WriteFile(ctx context.Context, path string, sources []string, write func(w io.Writer) error) error {
	f, err := Create(path, sources...)
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := write(f); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.Commit()
}

// WriteBytes writes the file at path.
func WriteBytes(path string, data []byte) error {
	return WriteFile(context.Background(), path, nil, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func rename(from, to string) error {
	if err := check(OpRename, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// syncDir makes a rename durable. File systems that cannot sync a folder say so
// with an error that does not concern the caller.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}
