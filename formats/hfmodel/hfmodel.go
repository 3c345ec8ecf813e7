// Package hfmodel reads and writes model folders of Hugging Face transformers:
// config.json, the tokenizer's files, and the weights as model.safetensors or as
// shards with model.safetensors.index.json.
package hfmodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
)

// Names of the files of a folder.
const (
	configName  = "config.json"
	weightsName = "model.safetensors"
	indexName   = "model.safetensors.index.json"
)

// sideFiles are carried as bytes. They belong to tokenizers and generation.
var sideFiles = []string{
	"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
	"chat_template.jinja", "chat_template.json", "generation_config.json",
	"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm", "target.spm", "vocab.json", "vocab.txt", "merges.txt",
}

// Format is the plug-in "safetensors": folders of transformers.
type Format struct{}

var (
	_ formats.ModelReader = Format{}
	_ formats.ModelWriter = Format{}
)

func init() { formats.Register(Format{}) }

// Name returns "safetensors".
func (Format) Name() string { return "safetensors" }

// Doc describes the format in one line.
func (Format) Doc() string {
	return "Hugging Face model folder: config.json, tokenizer files, model.safetensors or shards"
}

// Naming says that tensors have the names of transformers.
func (Format) Naming() formats.Naming { return formats.HF }

// Probe recognises a folder with config.json and safetensors weights, or one of
// these files. With weights or a configuration alone it answers Maybe: OpenModel
// then says what is missing.
func (Format) Probe(path string) formats.Confidence {
	dir := folder(path)
	if dir == "" {
		return formats.No
	}
	config, adapter := formats.IsFile(filepath.Join(dir, configName)), formats.IsFile(filepath.Join(dir, "adapter_config.json"))
	weights := formats.IsFile(filepath.Join(dir, weightsName)) || formats.IsFile(filepath.Join(dir, indexName))
	switch {
	case config && weights:
		return formats.Yes
	case adapter:
		return formats.No
	case config || weights, len(otherWeights(dir)) > 0:
		return formats.Maybe
	}
	return formats.No
}

// folder returns the folder that path means: itself, or that of one of its files.
func folder(path string) string {
	return formats.Folder(path, func(name string) bool {
		return name == configName || name == indexName || strings.HasSuffix(name, ".safetensors")
	})
}

// otherWeights lists weight files that transformers would not load by default.
func otherWeights(dir string) []string {
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		n := e.Name()
		if strings.HasSuffix(n, ".safetensors") || n == "pytorch_model.bin" || n == "pytorch_model.bin.index.json" ||
			n == "tf_model.h5" || n == "flax_model.msgpack" || (strings.HasSuffix(n, ".pth") && strings.HasPrefix(n, "consolidated")) {
			names = append(names, n)
		}
	}
	return names
}

// OpenModel opens the folder at path, or the folder of the file at path.
func (Format) OpenModel(path string) (*formats.Model, error) {
	dir := folder(path)
	if dir == "" {
		return nil, formats.Diagnose(path, "model")
	}
	if err := weightFile(path); err != nil {
		return nil, err
	}
	m := &formats.Model{Path: path, Format: "safetensors", Naming: formats.HF}
	var err error
	if m.Config, err = readConfig(dir); err != nil {
		return nil, err
	}
	files, sources, err := formats.ReadSideFiles(dir, sideFiles)
	if err != nil {
		return nil, err
	}
	m.Files, m.Sources = files, append([]string{filepath.Join(dir, configName)}, sources...)
	if err := openWeights(m, dir); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// weightFile checks a path to a single weight file: it must be one that the
// folder's model consists of, and really hold weights.
func weightFile(path string) error {
	if !strings.HasSuffix(path, ".safetensors") || !formats.IsFile(path) {
		return nil
	}
	head, err := formats.Head(path, 4096)
	if err != nil {
		return &formats.FileError{File: path, Err: err}
	}
	if len(head) <= 8 || head[8] != '{' {
		if err := formats.Impostor(path, head); err != nil {
			return err
		}
	}
	base := filepath.Base(path)
	if base == weightsName || strings.HasPrefix(base, "model-") {
		return nil
	}
	return &formats.FileError{File: path, Err: formats.ErrUnsupported, Found: "a safetensors file under a name of its own",
		Want: weightsName + " beside config.json", Hint: "Rename it, and put the config.json of its model into the same folder"}
}

func readConfig(dir string) (json.RawMessage, error) {
	path := filepath.Join(dir, configName)
	b, err := formats.ReadFile(path, formats.MaxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &formats.FileError{File: dir, Err: formats.ErrMissing, Found: "weights without config.json", Want: "config.json beside them",
			Hint: "Copy config.json and the tokenizer files from the repository that the weights come from"}
	}
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, formats.NotJSON(path, b, err)
	}
	return b, nil
}

// openWeights adds the tensors. Like transformers it prefers the single file.
func openWeights(m *formats.Model, dir string) error {
	single, index := filepath.Join(dir, weightsName), filepath.Join(dir, indexName)
	switch {
	case formats.IsFile(single):
		f, err := safetensors.Open(single)
		if err != nil {
			return err
		}
		m.OnClose(f)
		m.Tensors = f.Tensors
		m.Sources = append(m.Sources, single)
		return nil
	case formats.IsFile(index):
		return openShards(m, dir, index)
	}
	return noWeights(dir)
}

// noWeights says what is there instead of safetensors.
func noWeights(dir string) error {
	e := &formats.FileError{File: dir, Err: formats.ErrMissing, Found: "config.json without weights", Want: weightsName + " or " + indexName,
		Hint: "Download the weights into this folder"}
	names := otherWeights(dir)
	if len(names) == 0 {
		return e
	}
	e.Found = "config.json with " + strings.Join(names[:min(4, len(names))], ", ")
	for _, n := range names {
		switch {
		case strings.HasSuffix(n, ".bin"), strings.HasSuffix(n, ".bin.index.json"), strings.HasSuffix(n, ".pth"):
			e.Err = formats.ErrPickle
			e.Hint = "Pickles can run code, so peftkit does not read them: convert with " +
				`AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT) in Python, or take a revision of the repository with safetensors`
			return e
		case strings.HasPrefix(n, "model-") && strings.HasSuffix(n, ".safetensors"):
			e.Found, e.Want = "shards without an index: "+strings.Join(names[:min(4, len(names))], ", "), indexName
			e.Hint = "Download " + indexName + " too"
			return e
		}
	}
	e.Hint = "Rename a single safetensors file to " + weightsName
	return e
}

// index is model.safetensors.index.json.
type index struct {
	Metadata  map[string]any    `json:"metadata"`
	WeightMap map[string]string `json:"weight_map"`
}

func openShards(m *formats.Model, dir, path string) error {
	b, err := formats.ReadFile(path, formats.MaxSideFile)
	if err != nil {
		return err
	}
	var ix index
	if err := json.Unmarshal(b, &ix); err != nil || len(ix.WeightMap) == 0 {
		if ierr := formats.Impostor(path, b); ierr != nil {
			return ierr
		}
		return &formats.FileError{File: path, Err: formats.ErrHeader, Found: fmt.Sprint("no weight_map", errText(err)), Want: "a JSON object with weight_map"}
	}
	m.Sources = append(m.Sources, path)
	shards := map[string]int{} // number of tensors by file
	for name, file := range ix.WeightMap {
		if file == "" || file != filepath.Base(file) || strings.ContainsAny(file, `/\`) || file == ".." || file == "." {
			return &formats.FileError{File: path, Tensor: name, Err: formats.ErrHeader, Found: fmt.Sprintf("the file name %q", file), Want: "a name in the same folder"}
		}
		shards[file]++
	}
	files := make([]string, 0, len(shards))
	for f := range shards {
		files = append(files, f)
	}
	sort.Strings(files)
	var lost []string
	for _, f := range files {
		if !formats.IsFile(filepath.Join(dir, f)) {
			lost = append(lost, f)
		}
	}
	if len(lost) > 0 {
		return &formats.FileError{File: path, Err: formats.ErrMissing, Found: fmt.Sprintf("%d of %d shards are not there: %s", len(lost), len(files), strings.Join(lost[:min(3, len(lost))], ", ")),
			Hint: "Download them into the same folder"}
	}
	for _, file := range files {
		full := filepath.Join(dir, file)
		f, err := safetensors.Open(full)
		if err != nil {
			return err
		}
		m.OnClose(f)
		m.Sources = append(m.Sources, full)
		for _, t := range f.Tensors {
			if ix.WeightMap[t.Name] != file {
				found := "the index does not name it"
				if other := ix.WeightMap[t.Name]; other != "" {
					found = "the index says it is in " + other
				}
				return &formats.FileError{File: full, Tensor: t.Name, Err: formats.ErrMismatch, Found: found, Want: "index and shards of the same model",
					Hint: "Download the index and all shards again from one revision"}
			}
			delete(ix.WeightMap, t.Name)
		}
		m.Tensors = append(m.Tensors, f.Tensors...)
	}
	for name, file := range ix.WeightMap {
		return &formats.FileError{File: filepath.Join(dir, file), Tensor: name, Err: formats.ErrMismatch,
			Found: fmt.Sprintf("%d tensors that the index names are not there", len(ix.WeightMap)), Want: "index and shards of the same model",
			Hint: "Download the index and all shards again from one revision"}
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

// WriteModel writes a folder with shards of up to [DefaultShardSize].
func (Format) WriteModel(ctx context.Context, path string, m *formats.OutModel) error {
	return Write(ctx, path, m, Options{})
}
