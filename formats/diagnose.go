package formats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Hints that more than one place gives.
const (
	hintPickle = "Pickles can run code, so peftkit does not read them: save the weights as safetensors, " +
		"in Python with save_pretrained(..., safe_serialization=True) or safetensors.torch.save_file"
	hintDownload = "Download it again"
	hintLFS      = `Fetch the data: run "git lfs pull" in the repository, or download the file itself`
	hintModel    = "Give a GGUF file or a Hugging Face folder with config.json and model.safetensors"
	hintAdapter  = "Give a PEFT folder with adapter_config.json and adapter_model.safetensors, or a GGUF adapter"
)

// Impostor looks at the first bytes of a file that should hold weights and
// returns an error if it is something else that is often found in its place: an
// empty file, a Git LFS pointer, a web page, a pickle, an archive. It returns
// nil when the bytes look like none of these.
func Impostor(file string, head []byte) error {
	text := bytes.ToLower(bytes.TrimLeft(head, "\xef\xbb\xbf \t\r\n"))
	lower := strings.ToLower(file)
	e := &FileError{File: file}
	switch {
	case len(head) == 0:
		e.Err, e.Found, e.Hint = ErrEmpty, "the file has 0 bytes", hintDownload
	case bytes.HasPrefix(head, []byte("version https://git-lfs.github.com/spec/")):
		e.Err, e.Hint = ErrLFSPointer, hintLFS
		if _, after, ok := bytes.Cut(head, []byte("\nsize ")); ok {
			n, _, _ := bytes.Cut(after, []byte("\n"))
			e.Found = "a text of a few lines that stands for a file of " + string(n) + " bytes"
		}
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<?xml")):
		e.Err, e.Hint = ErrHTML, hintDownload+" with the direct link: an error or login page was saved under this name"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		e.Err, e.Found, e.Hint = ErrPickle, "a zip archive, as torch.save writes it", hintPickle
		if strings.HasSuffix(lower, ".zip") || strings.HasSuffix(lower, ".npz") {
			e.Err, e.Found, e.Hint = ErrUnsupported, "a zip archive", "Unpack it first"
		}
	case len(head) > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5:
		e.Err, e.Hint = ErrPickle, hintPickle
	case bytes.HasPrefix(head, []byte("\x1f\x8b")), bytes.HasPrefix(head, []byte("\xfd7zXZ")),
		bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		e.Err, e.Found, e.Hint = ErrUnsupported, "a compressed file", "Unpack it first"
	case bytes.HasPrefix(head, []byte("\x89HDF\r\n")):
		e.Err, e.Found, e.Hint = ErrUnsupported, "an HDF5 file (Keras, TensorFlow)", hintModel
	case bytes.HasPrefix(head, []byte("lmgg")), bytes.HasPrefix(head, []byte("tjgg")), bytes.HasPrefix(head, []byte("fmgg")):
		e.Err, e.Found, e.Hint = ErrUnsupported, "a GGML file from before GGUF (2023)", "Convert the original model to GGUF again"
	case bytes.HasPrefix(head, []byte("algg")):
		e.Err, e.Found, e.Hint = ErrUnsupported, "a GGLA adapter from before GGUF (2023)", "Convert the original PEFT folder to GGUF again"
	case bytes.HasPrefix(head, []byte("FUGG")):
		e.Err, e.Found, e.Hint = ErrUnsupported, "a GGUF magic in reverse byte order", hintDownload
	case allZero(head):
		e.Err, e.Found, e.Hint = ErrTruncated, "the file begins with zeros: a download that reserved the space and did not fill it", hintDownload
	default:
		return nil
	}
	return e
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return len(b) >= 64
}

// Head reads up to n bytes from the start of a file.
func Head(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	k, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return b[:k], nil
}

// Diagnose explains why no format recognises path as what ("model" or
// "adapter"): what was found there, and what would work.
func Diagnose(path, what string) error {
	hint := hintModel
	if what == "adapter" {
		hint = hintAdapter
	}
	st, err := os.Stat(path)
	if err != nil {
		return missingPath(path, hint, err)
	}
	if e := wrongKind(path, what); e != nil {
		return e
	}
	if st.IsDir() {
		return diagnoseDir(path, what, hint)
	}
	if !st.Mode().IsRegular() {
		return &FileError{File: path, Err: ErrUnknownFormat, Found: "not a regular file", Hint: hint}
	}
	head, err := Head(path, 4096)
	if err != nil {
		return &FileError{File: path, Err: err}
	}
	if e := Impostor(path, head); e != nil {
		return e
	}
	for _, ext := range []string{".part", ".partial", ".incomplete", ".crdownload", ".download", ".aria2", ".tmp"} {
		if strings.HasSuffix(strings.ToLower(path), ext) {
			return &FileError{File: path, Err: ErrTruncated, Found: "a download in progress or broken off (" + ext + ")", Hint: hintDownload}
		}
	}
	e := &FileError{File: path, Err: ErrUnknownFormat, Found: "begins with " + show(head), Hint: hint}
	switch base := strings.ToLower(filepath.Base(path)); {
	case strings.HasSuffix(base, ".gguf"):
		e.Want = `"GGUF" as the first four bytes`
	case base == "config.json", base == "adapter_config.json", base == "tokenizer.json":
		e.Found, e.Hint = "one file of a folder", "Give the folder "+filepath.Dir(path)
	case strings.HasSuffix(base, ".safetensors"):
		e.Found, e.Hint = "a safetensors file on its own", "Give the folder that holds it together with "+
			map[bool]string{true: "adapter_config.json", false: "config.json"}[what == "adapter"]
	}
	return e
}

// missingPath names a path that is not there and what is near it.
func missingPath(path, hint string, err error) error {
	e := &FileError{File: path, Err: err, Hint: hint}
	if !errors.Is(err, fs.ErrNotExist) {
		return e
	}
	e.Err = fs.ErrNotExist
	dir, base := filepath.Split(filepath.Clean(path))
	if dir == "" {
		dir = "."
	}
	var near []string
	entries, derr := os.ReadDir(dir)
	for _, x := range entries {
		a, b := strings.ToLower(x.Name()), strings.ToLower(base)
		if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) || strings.TrimSuffix(a, filepath.Ext(a)) == strings.TrimSuffix(b, filepath.Ext(b)) {
			near = append(near, x.Name())
		}
	}
	switch {
	case len(near) > 0:
		e.Hint = "Did you mean " + strings.Join(near[:min(3, len(near))], " or ") + "?"
	case derr != nil && strings.Count(path, "/") == 1 && !strings.HasPrefix(path, ".") && !strings.HasPrefix(path, "/") && filepath.Ext(path) == "":
		e.Hint = "This looks like a Hugging Face Hub id: download the repository first and give its folder"
	}
	return e
}

// wrongKind reports a readable adapter where a model is expected, or the reverse.
func wrongKind(path, what string) error {
	for _, f := range All() {
		if r, ok := f.(AdapterReader); ok && what == "model" && r.ProbeAdapter(path) == Yes {
			return &FileError{File: path, Err: ErrIsAdapter, Found: "a " + f.Name() + " adapter",
				Hint: "Give the base model it was trained on, and this as the adapter"}
		}
		if r, ok := f.(ModelReader); ok && what == "adapter" && r.Probe(path) == Yes {
			return &FileError{File: path, Err: ErrIsModel, Found: "a " + f.Name() + " model", Hint: hintAdapter}
		}
	}
	return nil
}

func diagnoseDir(path, what, hint string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return &FileError{File: path, Err: err}
	}
	if len(entries) == 0 {
		return &FileError{File: path, Err: ErrEmpty, Found: "the folder holds nothing", Hint: hint}
	}
	has := map[string]bool{}
	var names, inside []string
	for _, x := range entries {
		has[x.Name()] = true
		names = append(names, x.Name())
		if sub := filepath.Join(path, x.Name()); len(inside) < 3 && readable(sub, what) {
			inside = append(inside, sub)
		}
	}
	sort.Strings(names)
	if len(names) > 8 {
		names = append(names[:8], fmt.Sprintf("and %d more", len(entries)-8))
	}
	e := &FileError{File: path, Err: ErrUnknownFormat, Found: "a folder with " + strings.Join(names, ", "), Hint: hint}
	switch {
	case len(inside) > 0:
		e.Hint = "It holds what peftkit reads: give " + strings.Join(inside, " or ")
	case what == "model" && has["adapter_config.json"]:
		e.Err, e.Found = ErrIsAdapter, "the folder holds adapter_config.json and no config.json"
		e.Hint = "Give the base model it was trained on, and this as the adapter"
	case what == "model" && !has["config.json"]:
		e.Err, e.Want = ErrMissing, "config.json"
	}
	return e
}

// readable reports whether a format is sure of path.
func readable(path, what string) bool {
	for _, f := range All() {
		if r, ok := f.(AdapterReader); ok && what == "adapter" && r.ProbeAdapter(path) == Yes {
			return true
		}
		if r, ok := f.(ModelReader); ok && what == "model" && r.Probe(path) == Yes {
			return true
		}
	}
	return false
}

// show prints the first bytes of a file for an error.
func show(b []byte) string {
	if len(b) > 16 {
		b = b[:16]
	}
	return fmt.Sprintf("%q", b)
}
