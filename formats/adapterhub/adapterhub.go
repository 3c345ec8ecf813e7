// Package adapterhub reads and writes adapter folders of the adapters library
// (AdapterHub): adapter_config.json with adapter.safetensors or
// pytorch_adapter.bin, and head_config.json with model_head.safetensors or
// pytorch_model_head.bin where the adapter brings a head. It writes safetensors
// but for prefix tuning, whose tensors the library knows under several names each.
// The library reads safetensors when it is called with use_safetensors=True.
package adapterhub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/formats/torchzip"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/tensor"
)

// Names of the files of a folder.
const (
	configName      = "adapter_config.json"
	weightsName     = "adapter.safetensors"
	pickleName      = "pytorch_adapter.bin"
	headConfigName  = "head_config.json"
	headName        = "model_head.safetensors"
	headPickleName  = "pytorch_model_head.bin"
	interfaceName   = "adapter_interface.json" // where the adapters are in a model that the library does not know
	adapterNameRule = "a word without dots"
)

// reserved are the names that the writer gives out itself.
var reserved = []string{configName, weightsName, pickleName, headName, headPickleName}

// sideFiles are carried as bytes.
var sideFiles = []string{
	headConfigName, interfaceName, "README.md", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
	"chat_template.jinja", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "spiece.model",
}

// Format is the plug-in "adapters".
type Format struct{}

var (
	_ formats.AdapterReader = Format{}
	_ formats.AdapterWriter = Format{}
)

func init() { formats.Register(Format{}) }

// Name returns "adapters".
func (Format) Name() string { return "adapters" }

// Doc describes the format in one line.
func (Format) Doc() string {
	return "adapter folder of the adapters library: adapter_config.json and adapter.safetensors or pytorch_adapter.bin"
}

// AdapterNaming says that tensors have the names of transformers.
func (Format) AdapterNaming() formats.Naming { return formats.HF }

// Probe answers No: the folder is no model.
func (Format) Probe(string) formats.Confidence { return formats.No }

// config is what tells the folder from one of PEFT.
type config struct {
	peft, name string
	inner      bool
}

func readConfig(b []byte) (c config, err error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return c, err
	}
	_ = json.Unmarshal(all["peft_type"], &c.peft) // "" when it is no string
	_ = json.Unmarshal(all["name"], &c.name)
	inner := map[string]json.RawMessage(nil)
	c.inner = json.Unmarshal(all["config"], &inner) == nil && inner != nil
	return c, nil
}

// ProbeAdapter recognises a folder by an adapter_config.json with config and
// without peft_type.
func (Format) ProbeAdapter(path string) formats.Confidence {
	dir := folder(path)
	if dir == "" {
		return formats.No
	}
	b, err := formats.ReadFile(filepath.Join(dir, configName), formats.MaxConfig)
	if err != nil {
		return formats.No
	}
	if c, err := readConfig(b); err == nil && c.inner && c.peft == "" {
		return formats.Yes
	}
	return formats.No
}

func folder(path string) string {
	return formats.Folder(path, func(name string) bool { return name == configName || name == weightsName || name == pickleName })
}

// OpenAdapter opens the folder at path, or the folder of the file at path. The
// tensors of the adapter come first, then those of its head.
func (Format) OpenAdapter(path string) (*formats.Adapter, error) {
	dir := folder(path)
	if dir == "" {
		return nil, formats.Diagnose(path, "adapter")
	}
	file := filepath.Join(dir, configName)
	b, err := formats.ReadFile(file, formats.MaxConfig)
	if err != nil {
		return nil, err
	}
	c, err := readConfig(b)
	switch {
	case err != nil:
		return nil, formats.NotJSON(file, b, err)
	case c.peft != "" || !c.inner:
		return nil, &formats.FileError{File: file, Err: formats.ErrUnsupported, Found: "no config", Want: "the adapter_config.json of the adapters library"}
	case c.name == "" || strings.Contains(c.name, "."):
		return nil, &formats.FileError{File: file, Tensor: "name", Err: formats.ErrHeader, Found: fmt.Sprintf("%q", c.name), Want: adapterNameRule}
	}
	a := &formats.Adapter{Path: path, Format: "adapters", Naming: formats.HF, Config: b, Sources: []string{file}}
	if err := load(a, dir); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// load reads the side files and opens the weights.
func load(a *formats.Adapter, dir string) error {
	files, sources, err := formats.ReadSideFiles(dir, sideFiles)
	if err != nil {
		return err
	}
	a.Files, a.Sources = files, append(a.Sources, sources...)
	found, err := weights(a, dir, weightsName, pickleName)
	if err != nil {
		return err
	}
	if !found {
		return &formats.FileError{File: dir, Err: formats.ErrMissing, Found: configName + " without weights", Want: weightsName + " or " + pickleName}
	}
	_, err = weights(a, dir, headName, headPickleName)
	return err
}

// weights opens one of two files; the first wins, as in the library.
func weights(a *formats.Adapter, dir, safe, pickle string) (bool, error) {
	var tensors []*tensor.Tensor
	var closer io.Closer
	file := filepath.Join(dir, safe)
	switch {
	case formats.IsFile(file):
		f, err := safetensors.Open(file)
		if err != nil {
			return false, err
		}
		tensors, closer = f.Tensors, f
	case formats.IsFile(filepath.Join(dir, pickle)):
		file = filepath.Join(dir, pickle)
		f, err := torchzip.Open(file)
		if err != nil {
			return false, err
		}
		tensors, closer = f.Tensors, f
	default:
		return false, nil
	}
	a.OnClose(closer)
	a.Sources = append(a.Sources, file)
	have := map[string]*tensor.Tensor{}
	for _, t := range a.Tensors {
		have[t.Name] = t
	}
	for _, t := range tensors {
		o := have[t.Name]
		if o == nil {
			a.Tensors = append(a.Tensors, t)
			continue
		}
		// The library takes T5's prefixes for a part of its head.
		if o.Type != t.Type || !slices.Equal(o.Shape, t.Shape) || !bytes.Equal(o.Data, t.Data) {
			return true, &formats.FileError{File: file, Tensor: t.Name, Err: formats.ErrDuplicate, Found: "a tensor that the adapter's own file has with other content"}
		}
	}
	return true, nil
}

// kinds are the modules below which the library looks for an adapter's name.
var kinds = []string{"adapters", "prefix_tunings", "prefix_gates", "loras", "refts", "prompt_tunings", "shared_parameters"}

// own reports whether a tensor belongs to the adapter of that name; others are of
// its head.
func own(tensor, name string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool {
		i := strings.Index(tensor, k+"."+name+".")
		return i >= 0 && (i == 0 || tensor[i-1] == '.' || tensor[i-1] == '_')
	})
}

// poolMark stands in the names that the library gives to its one pool of prefixes
// in each attention that uses it.
const poolMark = ".prefix_tuning.pool."

// aliases tells which tensors are others under a second name. safetensors cannot
// hold them, so that the library writes pytorch_adapter.bin then.
func aliases(tensors []formats.OutTensor) ([]torchzip.Out, bool) {
	pool := map[string]string{}
	for _, t := range tensors {
		if i := strings.Index(t.Name, "prefix_tuning.prefix_tunings."); i >= 0 {
			pool[t.Name[i+len("prefix_tuning."):]] = t.Name
		}
	}
	shared := false
	out := make([]torchzip.Out, len(tensors))
	for i, t := range tensors {
		out[i].OutTensor = t
		if j := strings.Index(t.Name, poolMark); j >= 0 {
			out[i].SameAs = pool[t.Name[j+len(poolMark):]]
			shared = shared || out[i].SameAs != ""
		}
	}
	return out, shared
}

// WriteAdapter writes the folder at path. Tensors that do not carry the adapter's
// name are its head's and need a head_config.json among the files. Other files of
// an existing folder stay; stale weights go.
func (Format) WriteAdapter(ctx context.Context, path string, a *formats.OutAdapter) error {
	c, err := readConfig(a.Config)
	if err != nil || !c.inner || c.peft != "" || c.name == "" || strings.Contains(c.name, ".") {
		return &formats.FileError{File: path, Err: formats.ErrOutput, Found: "a configuration without config or name", Want: "one that the adapters library can load"}
	}
	for name := range a.Files {
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") || slices.Contains(reserved, name) {
			return &formats.FileError{File: path, Err: formats.ErrOutput, Found: fmt.Sprintf("a side file named %q", name), Want: "a plain name that the adapter does not use"}
		}
	}
	var body, head []formats.OutTensor
	for _, t := range a.Tensors {
		if own(t.Name, c.name) {
			body = append(body, t)
		} else {
			head = append(head, t)
		}
	}
	if len(head) > 0 && a.Files[headConfigName] == nil {
		return &formats.FileError{File: path, Tensor: head[0].Name, Err: formats.ErrOutput, Found: "a tensor without the name of the adapter", Want: headConfigName + " beside it"}
	}
	opt := atomicfile.DirOptions{Marker: configName, KeepOthers: true, Sources: a.Sources, Owned: func(name string) bool {
		_, ours := a.Files[name]
		return ours || slices.Contains(reserved, name) || name == headConfigName
	}}
	return atomicfile.WriteDir(ctx, path, opt, func(dir string) error {
		if err := formats.WriteSideFiles(dir, a.Files); err != nil {
			return err
		}
		meta := map[string]string{"format": "pt"}
		if out, shared := aliases(body); shared {
			if err := torchzip.WriteFile(ctx, filepath.Join(dir, pickleName), out); err != nil {
				return err
			}
		} else if err := safetensors.WriteFile(ctx, filepath.Join(dir, weightsName), nil, body, meta); err != nil {
			return err
		}
		if len(head) > 0 {
			if err := safetensors.WriteFile(ctx, filepath.Join(dir, headName), nil, head, meta); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, configName), a.Config, 0o666)
	})
}
