package hfpeft

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

func small() *formats.OutAdapter {
	return &formats.OutAdapter{
		Config: json.RawMessage(`{"peft_type":"LORA","r":2,"from_the_future":[1]}`),
		Files:  map[string][]byte{"README.md": []byte("---\nlibrary_name: peft\n---\n")},
		Tensors: []formats.OutTensor{
			formattest.Tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", tensor.F32, 2, 3),
			formattest.Tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", tensor.BF16, 3, 2),
		},
	}
}

func TestConformance(t *testing.T) {
	formattest.Run(t, Format{}, formattest.Case{Path: "adapter", Adapter: small()})
}

func TestRealAdapters(t *testing.T) {
	tests := []struct {
		name    string
		tensors int
		dtype   *tensor.DType
	}{
		{"smollm-medical", 120, tensor.F32},
		{"t5-small-summary", 72, tensor.F32},
		{"gpt2-classification", 73, tensor.F32},
		{"opt-125m-bf16", 48, tensor.BF16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := testdata.Dir(t, "adapters", tt.name)
			for _, path := range []string{dir, filepath.Join(dir, configName), filepath.Join(dir, weightsName)} {
				require.True(t, formats.IsAdapter(path))
				a, err := formats.OpenAdapter(path)
				require.NoError(t, err)
				require.Equal(t, "peft", a.Format)
				require.Equal(t, formats.HF, a.Naming)
				require.Len(t, a.Tensors, tt.tensors)
				require.Same(t, tt.dtype, a.Tensors[0].Type)
				require.NoError(t, a.Close())
			}
			_, err := formats.OpenModel(dir)
			require.ErrorIs(t, err, formats.ErrIsAdapter)
		})
	}
}

func TestRealRefusals(t *testing.T) {
	for name, say := range map[string]string{"mlx-qwen2.5": "MLX", "adapterhub-roberta-sst2": "AdapterHub"} {
		t.Run(name, func(t *testing.T) {
			_, err := formats.OpenAdapter(testdata.Dir(t, "adapters", name))
			require.ErrorIs(t, err, formats.ErrUnsupported)
			require.ErrorContains(t, err, say)
		})
	}
	_, err := formats.OpenAdapter(testdata.Dir(t, "adapters", "loralib-roberta-mnli", "roberta_base_lora_mnli.bin"))
	require.ErrorIs(t, err, formats.ErrPickle)
	_, err = formats.OpenAdapter(testdata.Dir(t, "refuse", "training_args.bin"))
	require.ErrorIs(t, err, formats.ErrPickle)
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  error
		say   string
	}{
		{"weights only", map[string]string{weightsName: "x"}, formats.ErrMissing, configName},
		{"config only", map[string]string{configName: `{"peft_type":"LORA"}`}, formats.ErrMissing, weightsName},
		{"pickle", map[string]string{configName: `{"peft_type":"LORA"}`, pickleName: "x"}, formats.ErrPickle, "save_file"},
		{"pointer", map[string]string{configName: `{"peft_type":"LORA"}`, weightsName: "version https://git-lfs.github.com/spec/v1\nsize 7\n"}, formats.ErrLFSPointer, "7 bytes"},
		{"page for config", map[string]string{configName: `<!DOCTYPE html>`, weightsName: "x"}, formats.ErrHTML, configName},
		{"broken config", map[string]string{configName: `{"peft_type":`, weightsName: "x"}, formats.ErrHeader, "JSON"},
		{"no peft_type", map[string]string{configName: `{}`, weightsName: "x"}, formats.ErrUnsupported, "peft_type"},
		{"ancient", map[string]string{configName: `{"enable_lora":null}`, weightsName: "x"}, formats.ErrUnsupported, "before PEFT"},
		{"nothing", nil, formats.ErrEmpty, "folder"},
		{"unrelated", map[string]string{"notes.txt": "x"}, formats.ErrUnknownFormat, "notes.txt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for n, s := range tt.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte(s), 0o666))
			}
			_, err := formats.OpenAdapter(dir)
			require.ErrorIs(t, err, tt.want)
			require.ErrorContains(t, err, tt.say)
		})
	}
}

// TestKeepsOthers writes into a training folder: its log and checkpoints stay,
// a pickle that would shadow nothing but confuse everybody goes.
func TestKeepsOthers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "checkpoint-10"), 0o777))
	for _, n := range []string{"metrics.jsonl", pickleName, configName} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), []byte("old"), 0o666))
	}
	require.NoError(t, Format{}.WriteAdapter(context.Background(), dir, small()))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"README.md", configName, weightsName, "checkpoint-10", "metrics.jsonl"}, names)
	require.True(t, formats.IsAdapter(dir))
	parent := filepath.Dir(dir)
	_, err = formats.OpenAdapter(parent)
	require.ErrorContains(t, err, dir, "the folder above names it")
}

func TestWriteRefuses(t *testing.T) {
	a := small()
	a.Config = json.RawMessage(`{}`)
	require.ErrorIs(t, Format{}.WriteAdapter(context.Background(), filepath.Join(t.TempDir(), "a"), a), formats.ErrOutput)
	a = small()
	a.Files[weightsName] = nil
	require.ErrorIs(t, Format{}.WriteAdapter(context.Background(), filepath.Join(t.TempDir(), "a"), a), formats.ErrOutput)
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA"}`))
	f.Add([]byte(`{"config":{},"model_type":"roberta"}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, configName), b, 0o666))
		_, err := readConfig(dir)
		sure := Format{}.ProbeAdapter(dir) == formats.Yes
		require.Equal(t, sure, err == nil, "%v", err)
	})
}
