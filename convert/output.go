package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// aliases are other words for formats that people use.
var aliases = map[string]string{"hf": "safetensors", "huggingface": "safetensors", "transformers": "safetensors"}

// endings of files that no format of ours writes under that name.
var fileEndings = []string{".safetensors", ".bin", ".pt", ".pth", ".ggml", ".onnx", ".npz"}

// formatName returns the format meant by to, or by the ending of dst: folder is
// the one for names without an ending, what names its content.
func formatName(to, dst, folder, what string) (string, error) {
	ext := strings.ToLower(filepath.Ext(dst))
	if to == "" {
		if ext == ".gguf" {
			return "gguf", nil
		}
		for _, e := range fileEndings {
			if ext == e {
				return "", fmt.Errorf("%s: %s is a folder, not a single %s file: give the name of a folder, or one that ends in .gguf: %w", dst, what, ext, ErrOption)
			}
		}
		return folder, nil
	}
	name := strings.ToLower(to)
	if a := aliases[name]; a != "" {
		name = a
	}
	if ext == ".gguf" && name != "gguf" {
		return "", fmt.Errorf("%s: the name ends in .gguf but the format asked for is %s: %w", dst, name, ErrOption)
	}
	return name, nil
}

// modelWriter returns the format that writes a model to dst.
func modelWriter(to, dst string) (formats.ModelWriter, error) {
	name, err := formatName(to, dst, "safetensors", "a Hugging Face model")
	if err != nil {
		return nil, err
	}
	if name == "peft" {
		return nil, fmt.Errorf("--to %s: the source is a model, and %s is a format of adapters: %w", to, name, ErrOption)
	}
	f, err := formats.ByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrOption)
	}
	w, ok := f.(formats.ModelWriter)
	if !ok {
		return nil, fmt.Errorf("format %s cannot write models; these can: %s: %w", name,
			writers(func(f formats.Format) bool { _, ok := f.(formats.ModelWriter); return ok }), ErrOption)
	}
	return w, nil
}

// adapterWriter returns the format that writes an adapter to dst.
func adapterWriter(to, dst string) (formats.AdapterWriter, error) {
	name, err := formatName(to, dst, "peft", "a PEFT adapter")
	if err != nil {
		return nil, err
	}
	if name == "safetensors" {
		name = "peft"
	}
	f, err := formats.ByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrOption)
	}
	w, ok := f.(formats.AdapterWriter)
	if !ok {
		return nil, fmt.Errorf("format %s cannot write adapters; these can: %s: %w", name,
			writers(func(f formats.Format) bool { _, ok := f.(formats.AdapterWriter); return ok }), ErrOption)
	}
	return w, nil
}

// withoutPath is the reason of an error about a path that is named already.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func writers(can func(formats.Format) bool) string {
	var names []string
	for _, f := range formats.All() {
		if can(f) {
			names = append(names, f.Name())
		}
	}
	return strings.Join(names, ", ")
}

// checkOutput refuses, before anything is read, an output that is one of the
// sources or lies where it would disturb one. A new file beside the files of a
// source folder is fine, a folder in it is not.
func checkOutput(dst string, sources ...string) error {
	if dst == "" {
		return fmt.Errorf("no output path: %w", ErrOutput)
	}
	abs, err := filepath.Abs(dst)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", dst, ErrOutput, withoutPath(err))
	}
	out, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("%s: %w: %w", dst, ErrOutput, withoutPath(err))
	case !out.Mode().IsRegular() && !out.IsDir():
		return fmt.Errorf("%s: is a device, pipe or socket; give a file or folder: %w", dst, ErrOutput)
	}
	file := strings.EqualFold(filepath.Ext(dst), ".gguf")
	for _, src := range sources {
		in, err := os.Stat(src)
		if err != nil {
			continue // opening it gives the better error
		}
		if out != nil && os.SameFile(in, out) {
			return fmt.Errorf("%s: is the source itself: choose another name: %w", dst, ErrOutput)
		}
		if !in.IsDir() || file {
			continue
		}
		for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
			if st, err := os.Stat(dir); err == nil && os.SameFile(st, in) {
				return fmt.Errorf("%s: lies inside the source folder: choose a place outside: %w", dst, ErrOutput)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}
