package formats

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/peftkit/peftkit/internal/mmap"
)

// MaxConfig and MaxSideFile bound the small files of folders, in bytes: values of
// JSON can take twenty times their bytes in memory. Configurations have a few
// hundred kilobytes at most (the labels of a classifier); the largest known
// tokenizer.json has 35 MB.
const (
	MaxConfig   = 4 << 20
	MaxSideFile = 512 << 20
)

// IsFile reports whether path is a regular file.
func IsFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// Folder returns the folder that path means: itself, or that of a file whose name
// belongs to the format; "" when it is neither.
func Folder(path string, belongs func(name string) bool) string {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return ""
	case st.IsDir():
		return path
	case belongs(filepath.Base(path)):
		return filepath.Dir(path)
	}
	return ""
}

// ReadFile reads a regular file of at most limit bytes. Errors are [*FileError].
func ReadFile(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, &FileError{File: path, Err: err}
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, &FileError{File: path, Err: ErrLimit, Found: fmt.Sprintf("%d bytes", st.Size()), Want: fmt.Sprintf("a regular file of at most %d", limit)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &FileError{File: path, Err: err}
	}
	return b, nil
}

// ReadSideFiles reads those of the named files of a folder that are there, each
// within [MaxSideFile]. sources are their paths. Errors are [*FileError].
func ReadSideFiles(dir string, names []string) (files map[string][]byte, sources []string, err error) {
	files = map[string][]byte{}
	for _, n := range names {
		full := filepath.Join(dir, n)
		b, err := ReadFile(full, MaxSideFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		files[n] = b
		sources = append(sources, full)
	}
	return files, sources, nil
}

// WriteSideFiles writes files into a folder, by name.
func WriteSideFiles(dir string, files map[string][]byte) error {
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// NotJSON says what the bytes of a file are for which json.Unmarshal gave err: a
// file of another kind, or where the object ends to be one.
func NotJSON(path string, b []byte, err error) error {
	if other := Impostor(path, b); other != nil {
		return other
	}
	e := &FileError{File: path, Err: ErrHeader, Found: err.Error(), Want: "a JSON object"}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		e.Offset = syntax.Offset
	}
	return e
}

// Map maps the file at path and lets parse read its bytes; name is the path. What
// it returns may view them until the closer is closed. Errors are [*FileError],
// or what parse returns.
func Map[T any](path string, parse func(name string, data []byte) (*T, error)) (*T, io.Closer, error) {
	m, err := mmap.Open(path)
	if err != nil {
		return nil, nil, &FileError{File: path, Err: err}
	}
	f, err := parse(path, m.Data)
	if err != nil {
		m.Close()
		return nil, nil, err
	}
	return f, m, nil
}
