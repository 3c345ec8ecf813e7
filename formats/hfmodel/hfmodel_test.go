package hfmodel

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

func small() *formats.OutModel {
	return &formats.OutModel{
		Config: json.RawMessage("{\n  \"model_type\": \"llama\"\n}\n"),
		Files:  map[string][]byte{"tokenizer.json": []byte(`{"a":1}`), "chat_template.jinja": []byte("{{ x }}")},
		Tensors: []formats.OutTensor{
			formattest.Tensor("model.embed_tokens.weight", tensor.F32, 5, 2),
			formattest.Tensor("model.norm.weight", tensor.BF16, 2),
			formattest.Tensor("lm_head.weight", tensor.F32, 5, 2),
		},
	}
}

func TestConformance(t *testing.T) {
	formattest.Run(t, Format{}, formattest.Case{Path: "model", Model: small()})
}

// write writes small() in shards and returns the folder.
func write(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "model")
	require.NoError(t, Write(context.Background(), dir, small(), Options{ShardSize: 44}))
	return dir
}

func TestShards(t *testing.T) {
	dir := write(t)
	b, err := os.ReadFile(filepath.Join(dir, indexName))
	require.NoError(t, err)
	require.JSONEq(t, `{"metadata":{"total_size":84,"total_parameters":22},"weight_map":{"lm_head.weight":"model-00002-of-00002.safetensors",
		"model.embed_tokens.weight":"model-00001-of-00002.safetensors","model.norm.weight":"model-00001-of-00002.safetensors"}}`, string(b))
	for _, path := range []string{dir, filepath.Join(dir, "config.json"), filepath.Join(dir, "model-00002-of-00002.safetensors")} {
		require.Equal(t, formats.Yes, Format{}.Probe(path))
		m, err := formats.OpenModel(path)
		require.NoError(t, err)
		require.Len(t, m.Tensors, 3)
		require.Len(t, m.Sources, 6)
		require.NoError(t, m.Close())
	}
	// A smaller model over a larger one leaves no shard behind.
	require.NoError(t, Format{}.WriteModel(context.Background(), dir, small()))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"}, names)
}

func TestRefusals(t *testing.T) {
	put := func(name, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666))
		}
	}
	remove := func(names ...string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, n := range names {
				require.NoError(t, os.Remove(filepath.Join(dir, n)))
			}
		}
	}
	shard1, shard2 := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	type changes = []func(t *testing.T, dir string)
	all := remove(indexName, shard1, shard2)
	tests := []struct {
		name   string
		change changes
		want   error
		say    string
	}{
		{"config missing", changes{remove(configName)}, formats.ErrMissing, "config.json"},
		{"config broken", changes{put(configName, `{"a":`)}, formats.ErrHeader, "JSON"},
		{"config is a list", changes{put(configName, `[]`)}, formats.ErrHeader, "JSON object"},
		{"config is a pointer", changes{put(configName, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")}, formats.ErrLFSPointer, "9 bytes"},
		{"no weights", changes{all}, formats.ErrMissing, "without weights"},
		{"pickle only", changes{all, put("pytorch_model.bin", "x")}, formats.ErrPickle, "save_pretrained"},
		{"sharded pickle", changes{all, put("pytorch_model.bin.index.json", "x")}, formats.ErrPickle, "save_pretrained"},
		{"index missing", changes{remove(indexName)}, formats.ErrMissing, indexName},
		{"shard missing", changes{remove(shard2)}, formats.ErrMissing, "1 of 2 shards"},
		{"shard is a pointer", changes{put(shard1, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")}, formats.ErrLFSPointer, shard1},
		{"shard is a page", changes{put(shard1, "<html>")}, formats.ErrHTML, shard1},
		{"index broken", changes{put(indexName, `{"weight_map":{}}`)}, formats.ErrHeader, "weight_map"},
		{"index leaves the folder", changes{put(indexName, `{"weight_map":{"a":"../x.safetensors"}}`)}, formats.ErrHeader, "same folder"},
		{"index misses a tensor", changes{put(indexName, `{"weight_map":{"lm_head.weight":"`+shard2+`","model.norm.weight":"`+shard1+`"}}`)}, formats.ErrMismatch, "does not name it"},
		{"index has one more", changes{put(indexName, `{"weight_map":{"x":"`+shard2+`","lm_head.weight":"`+shard2+`"}}`)}, formats.ErrMismatch, `"x"`},
		{"index has another place", changes{put(indexName, `{"weight_map":{"lm_head.weight":"`+shard1+`","model.norm.weight":"`+shard1+`","model.embed_tokens.weight":"`+shard1+`"}}`)}, formats.ErrMismatch, "are not there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t)
			for _, f := range tt.change {
				f(t, dir)
			}
			_, err := formats.OpenModel(dir)
			require.ErrorIs(t, err, tt.want)
			require.ErrorContains(t, err, tt.say)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	ctx := context.Background()
	m := small()
	m.Config = nil
	require.ErrorIs(t, Format{}.WriteModel(ctx, filepath.Join(t.TempDir(), "m"), m), formats.ErrOutput)
	m = small()
	m.Files["../evil"] = nil
	require.ErrorIs(t, Format{}.WriteModel(ctx, filepath.Join(t.TempDir(), "m"), m), formats.ErrOutput)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.docx"), nil, 0o666))
	err := Format{}.WriteModel(ctx, dir, small())
	require.ErrorIs(t, err, atomicfile.ErrNotEmpty)
	require.ErrorContains(t, err, "thesis.docx")
}

func TestSingleFiles(t *testing.T) {
	_, err := formats.OpenModel(testdata.Dir(t, "refuse", "lfs-pointer.safetensors"))
	require.ErrorIs(t, err, formats.ErrLFSPointer)
	_, err = formats.OpenModel(testdata.Dir(t, "models", "us_bart", "us_bart.safetensors"))
	require.ErrorIs(t, err, formats.ErrUnsupported)
	require.ErrorContains(t, err, "config.json")
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{},"weight_map":{"a":"m.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"/etc/passwd"}}`))
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configName), []byte("{}"), 0o666); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, indexName)
		require.NoError(t, os.WriteFile(path, b, 0o666))
		m := &formats.Model{}
		require.Error(t, openShards(m, dir, path), "no shard is there")
		require.NoError(t, m.Close())
	})
}
