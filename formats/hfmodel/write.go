package hfmodel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/internal/atomicfile"
)

// DefaultShardSize is the largest weight file that is written unless Options
// says otherwise: 5 GB, small enough for every file system and the Hub.
const DefaultShardSize = 5_000_000_000

// Options of [Write].
type Options struct {
	// ShardSize is the largest size of the data of one file in bytes; 0 means
	// DefaultShardSize. A tensor that is larger gets a file of its own.
	ShardSize int64
}

// Write writes a model folder at path, which appears when it is complete. An
// existing folder is replaced only if it is empty or holds a model and nothing else.
func Write(ctx context.Context, path string, m *formats.OutModel, o Options) error {
	if o.ShardSize <= 0 {
		o.ShardSize = DefaultShardSize
	}
	if !json.Valid(m.Config) {
		return &formats.FileError{File: path, Err: formats.ErrOutput, Found: "a model without a valid config.json", Want: "one: transformers cannot load the folder otherwise"}
	}
	for name := range m.Files {
		if _, ok := formats.TemplateName(name); ok {
			continue
		}
		if name != filepath.Base(name) || strings.HasPrefix(name, ".") || isWeights(name) || name == configName {
			return &formats.FileError{File: path, Err: formats.ErrOutput, Found: fmt.Sprintf("a side file named %q", name), Want: "a plain name that is not used by the weights"}
		}
	}
	opt := atomicfile.DirOptions{Marker: configName, Sources: m.Sources, OwnedDirs: true, Owned: func(name string) bool {
		_, ours := m.Files[name]
		return ours || isOurs(name)
	}}
	return atomicfile.WriteDir(ctx, path, opt, func(dir string) error {
		if err := formats.WriteSideFiles(dir, m.Files); err != nil {
			return err
		}
		if err := writeWeights(ctx, dir, m.Tensors, o.ShardSize); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, configName), m.Config, 0o666)
	})
}

func isWeights(name string) bool {
	return name == indexName || strings.HasPrefix(name, "model") && strings.HasSuffix(name, ".safetensors")
}

// isOurs tells the files of a model folder from those of somebody else.
func isOurs(name string) bool {
	if name == configName || name == "README.md" || name == formats.TemplateFolder || isWeights(name) {
		return true
	}
	for _, n := range sideFiles {
		if n == name {
			return true
		}
	}
	return false
}

// ptMetadata marks a file as written for PyTorch; transformers refuses others.
var ptMetadata = map[string]string{"format": "pt"}

func writeWeights(ctx context.Context, dir string, tensors []formats.OutTensor, limit int64) error {
	shards, total, params, err := split(dir, tensors, limit)
	if err != nil {
		return err
	}
	if len(shards) == 1 {
		return safetensors.WriteFile(ctx, filepath.Join(dir, weightsName), nil, shards[0], ptMetadata)
	}
	ix := index{Metadata: map[string]any{"total_parameters": params, "total_size": total}, WeightMap: map[string]string{}}
	for i, s := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		for k := range s {
			ix.WeightMap[s[k].Name] = name
		}
		if err := safetensors.WriteFile(ctx, filepath.Join(dir, name), nil, s, ptMetadata); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(ix); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, indexName), b.Bytes(), 0o666)
}

// split fills shards in the order of the tensors, none of them beyond limit
// unless by a single tensor.
func split(dir string, tensors []formats.OutTensor, limit int64) (shards [][]formats.OutTensor, total, params int64, err error) {
	shards = [][]formats.OutTensor{nil}
	var used int64
	seen := map[string]bool{}
	for _, t := range tensors {
		n, ok := formats.CheckedSize(t.Type, t.Shape)
		if !ok || seen[t.Name] {
			return nil, 0, 0, &formats.FileError{File: dir, Tensor: t.Name, Err: formats.ErrOutput, Found: fmt.Sprintf("a repeated name, or shape %v of type %s", t.Shape, t.Type)}
		}
		seen[t.Name] = true
		if used > 0 && used+n > limit {
			shards, used = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], t)
		used += n
		total += n
		params += n / int64(t.Type.Bytes) * int64(t.Type.Block)
	}
	return shards, total, params, nil
}
