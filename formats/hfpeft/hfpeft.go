// Package hfpeft reads and writes adapter folders of Hugging Face PEFT:
// adapter_config.json and adapter_model.safetensors.
package hfpeft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/internal/atomicfile"
)

// Names of the files of a folder.
const (
	configName  = "adapter_config.json"
	weightsName = "adapter_model.safetensors"
	pickleName  = "adapter_model.bin"
)

// sideFiles are carried as bytes: the model card, the names of a classifier's
// labels, and a tokenizer if the adapter brings one.
var sideFiles = []string{
	"README.md", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
	"chat_template.jinja", "label_map.json", "tokenizer.model", "vocab.json", "merges.txt",
}

// Format is the plug-in "peft".
type Format struct{}

var (
	_ formats.AdapterReader = Format{}
	_ formats.AdapterWriter = Format{}
)

func init() { formats.Register(Format{}) }

// Name returns "peft".
func (Format) Name() string { return "peft" }

// Doc describes the format in one line.
func (Format) Doc() string {
	return "Hugging Face PEFT adapter folder: adapter_config.json and adapter_model.safetensors"
}

// AdapterNaming says that tensors have the names of transformers, below PEFT's prefix.
func (Format) AdapterNaming() formats.Naming { return formats.HF }

// Probe answers No: a PEFT folder is no model.
func (Format) Probe(string) formats.Confidence { return formats.No }

// ProbeAdapter recognises a folder by peft_type in its adapter_config.json, or
// the path of one of the two files. Without peft_type it answers Maybe, so that
// OpenAdapter can say what the folder is instead.
func (Format) ProbeAdapter(path string) formats.Confidence {
	dir := folder(path)
	if dir == "" {
		return formats.No
	}
	b, err := formats.ReadFile(filepath.Join(dir, configName), formats.MaxConfig)
	if err != nil {
		if formats.IsFile(filepath.Join(dir, weightsName)) {
			return formats.Maybe
		}
		return formats.No
	}
	if peftType(b) != "" {
		return formats.Yes
	}
	return formats.Maybe
}

// peftType returns peft_type of a configuration, "" when there is none. The key
// is matched exactly, unlike by json.Unmarshal into a struct.
func peftType(config []byte) string {
	var c map[string]json.RawMessage
	var s string
	if json.Unmarshal(config, &c) != nil || json.Unmarshal(c["peft_type"], &s) != nil {
		return ""
	}
	return s
}

func folder(path string) string {
	return formats.Folder(path, func(name string) bool { return name == configName || name == weightsName || name == pickleName })
}

// OpenAdapter opens the folder at path, or the folder of the file at path.
func (Format) OpenAdapter(path string) (*formats.Adapter, error) {
	dir := folder(path)
	if dir == "" {
		return nil, formats.Diagnose(path, "adapter")
	}
	config, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	a := &formats.Adapter{Path: path, Format: "peft", Naming: formats.HF, Config: config}
	files, sources, err := formats.ReadSideFiles(dir, sideFiles)
	if err != nil {
		return nil, err
	}
	a.Files, a.Sources = files, append([]string{filepath.Join(dir, configName)}, sources...)
	weights := filepath.Join(dir, weightsName)
	if !formats.IsFile(weights) {
		return nil, noWeights(dir)
	}
	f, err := safetensors.Open(weights)
	if err != nil {
		return nil, err
	}
	a.OnClose(f)
	a.Tensors = f.Tensors
	a.Sources = append(a.Sources, weights)
	return a, nil
}

// readConfig reads adapter_config.json and makes sure it is PEFT's.
func readConfig(dir string) (json.RawMessage, error) {
	path := filepath.Join(dir, configName)
	b, err := formats.ReadFile(path, formats.MaxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &formats.FileError{File: dir, Err: formats.ErrMissing, Found: "weights without " + configName, Want: configName + " beside them",
			Hint: "It says rank, scale and targets; copy it from where the adapter comes from"}
	}
	if err != nil {
		return nil, err
	}
	var c map[string]json.RawMessage
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, formats.NotJSON(path, b, err)
	}
	if peftType(b) != "" {
		return b, nil
	}
	return nil, foreign(path, dir, c)
}

// foreign names adapters of other libraries that use the same file name.
func foreign(path, dir string, c map[string]json.RawMessage) error {
	has := func(keys ...string) bool {
		for _, k := range keys {
			if c[k] == nil {
				return false
			}
		}
		return true
	}
	e := &formats.FileError{File: path, Tensor: "peft_type", Err: formats.ErrUnsupported, Found: "no such key", Want: "the adapter_config.json of a PEFT adapter"}
	switch {
	case has("config", "model_type") || formats.IsFile(filepath.Join(dir, "pytorch_adapter.bin")):
		e.Found, e.Hint = "an adapter of the AdapterHub library (adapters)", "Leave out the format: it is recognised by its files"
	case has("lora_parameters") || formats.IsFile(filepath.Join(dir, "adapters.safetensors")) || has("lora_layers") || has("fine_tune_type"):
		e.Found, e.Hint = "an adapter of MLX-LM", "Adapters of PEFT, of the adapters library and GGUF can be used: fuse it with mlx_lm.fuse, or convert it to PEFT's names and orientation"
	case has("enable_lora") || has("merge_weights"):
		e.Found, e.Hint = "a LoRA configuration from before PEFT 0.3", "Save it again with a current PEFT"
	}
	return e
}

func noWeights(dir string) error {
	e := &formats.FileError{File: dir, Err: formats.ErrMissing, Found: configName + " without weights", Want: weightsName}
	if formats.IsFile(filepath.Join(dir, pickleName)) {
		e.File, e.Err, e.Found = filepath.Join(dir, pickleName), formats.ErrPickle, "the weights as torch.save writes them"
		e.Hint = "Pickles can run code, so peftkit does not read them: convert in Python with " +
			`safetensors.torch.save_file(torch.load("adapter_model.bin", weights_only=True), "adapter_model.safetensors", metadata={"format": "pt"})`
		return e
	}
	for _, sub := range []string{"default"} {
		if formats.IsFile(filepath.Join(dir, sub, weightsName)) {
			e.Hint = "Give the folder " + filepath.Join(dir, sub)
		}
	}
	return e
}

// WriteAdapter writes the folder at path. Other files of an existing folder
// (checkpoints, a log) stay; a stale adapter_model.bin goes.
func (Format) WriteAdapter(ctx context.Context, path string, a *formats.OutAdapter) error {
	if peftType(a.Config) == "" {
		return &formats.FileError{File: path, Err: formats.ErrOutput, Found: "a configuration without peft_type", Want: "one that PEFT can load"}
	}
	for name := range a.Files {
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") || name == configName || name == weightsName {
			return &formats.FileError{File: path, Err: formats.ErrOutput, Found: fmt.Sprintf("a side file named %q", name), Want: "a plain name that the adapter does not use"}
		}
	}
	opt := atomicfile.DirOptions{Marker: configName, KeepOthers: true, Sources: a.Sources, Owned: func(name string) bool {
		_, ours := a.Files[name]
		return ours || name == configName || name == weightsName || name == pickleName
	}}
	return atomicfile.WriteDir(ctx, path, opt, func(dir string) error {
		if err := formats.WriteSideFiles(dir, a.Files); err != nil {
			return err
		}
		if err := safetensors.WriteFile(ctx, filepath.Join(dir, weightsName), nil, a.Tensors, map[string]string{"format": "pt"}); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, configName), a.Config, 0o666)
	})
}
