package gguf

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
	"github.com/stretchr/testify/require"
)

// everyType has one value of each type that metadata can have.
func everyType() formats.Meta {
	return formats.Meta{
		{Key: "general.architecture", Value: "llama"},
		{Key: "a.u8", Value: uint8(1)}, {Key: "a.i8", Value: int8(-2)},
		{Key: "a.u16", Value: uint16(3)}, {Key: "a.i16", Value: int16(-4)},
		{Key: "a.u32", Value: uint32(5)}, {Key: "a.i32", Value: int32(-6)},
		{Key: "a.u64", Value: uint64(1 << 63)}, {Key: "a.i64", Value: int64(-8)},
		{Key: "a.f32", Value: float32(0.5)}, {Key: "a.f64", Value: -0.25},
		{Key: "a.true", Value: true}, {Key: "a.false", Value: false},
		{Key: "a.empty", Value: ""}, {Key: "a.text", Value: "\u2581h\u00e9 \x00\xff"},
		{Key: "b.u8", Value: []uint8{1, 2}}, {Key: "b.i8", Value: []int8{-1, 2}},
		{Key: "b.u16", Value: []uint16{1, 2}}, {Key: "b.i16", Value: []int16{-1, 2}},
		{Key: "b.u32", Value: []uint32{1, 2}}, {Key: "b.i32", Value: []int32{-1, 2}},
		{Key: "b.u64", Value: []uint64{1, 2}}, {Key: "b.i64", Value: []int64{-1, 2}},
		{Key: "b.f32", Value: []float32{1, -2}}, {Key: "b.f64", Value: []float64{1, -2}},
		{Key: "b.bool", Value: []bool{true, false}}, {Key: "b.none", Value: []int32{}},
		{Key: "b.str", Value: []string{"", "a", "bc"}},
	}
}

func TestConformance(t *testing.T) {
	formattest.Run(t, Format{}, formattest.Case{
		Path: "model.gguf",
		Model: &formats.OutModel{Meta: everyType(), Tensors: []formats.OutTensor{
			formattest.Tensor("scalar", tensor.F32),
			formattest.Tensor("v", tensor.F32, 3),
			formattest.Tensor("blk.0.m", tensor.F16, 2, 5),
			formattest.Tensor("q", tensor.Q4_1, 3, 64),
			formattest.Tensor("k", typeByID(12), 1, 256),
			formattest.Tensor("i", tensor.I32, 1, 2, 3, 1),
			formattest.Tensor("none", tensor.BF16, 0, 4),
			formattest.Tensor("last", tensor.Q8_0, 1, 32),
		}},
		Adapter: &formats.OutAdapter{
			Meta: formats.Meta{
				{Key: "general.architecture", Value: "llama"}, {Key: "general.type", Value: "adapter"},
				{Key: "adapter.type", Value: "lora"}, {Key: "adapter.lora.alpha", Value: float32(16)},
				{Key: "general.alignment", Value: uint32(64)},
			},
			Tensors: []formats.OutTensor{
				formattest.Tensor("blk.0.attn_q.weight.lora_a", tensor.F32, 2, 8),
				formattest.Tensor("blk.0.attn_q.weight.lora_b", tensor.F32, 8, 2),
			},
		},
	})
}

func TestVocabOnlyFiles(t *testing.T) {
	for name, want := range map[string]int{"phi-3": 32064, "gpt-2": 50257, "llama-spm": 32000, "bert-bge": 30522} {
		t.Run(name, func(t *testing.T) {
			path := testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-"+name+".gguf")
			m, err := formats.OpenModel(path)
			require.NoError(t, err)
			defer m.Close()
			require.Empty(t, m.Tensors)
			require.Len(t, m.Meta.Get("tokenizer.ggml.tokens"), want)
			requireRewrite(t, path, m)
		})
	}
}

// requireRewrite checks that writing what was read gives the same bytes. The
// vocabulary files of llama.cpp end without padding.
func requireRewrite(t *testing.T, path string, m *formats.Model) {
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	var got bytes.Buffer
	require.NoError(t, Write(context.Background(), &got, "copy", m.Meta, formats.Copy(m.Tensors)))
	n := min(len(want), got.Len())
	require.True(t, bytes.Equal(want[:n], got.Bytes()[:n]))
	require.Less(t, got.Len()-n, 32)
	require.Equal(t, n, len(want))
}

func TestRealModel(t *testing.T) {
	path := testdata.SmolLM2(t)
	m, err := formats.OpenModel(path)
	require.NoError(t, err)
	defer m.Close()
	require.Len(t, m.Tensors, 272)
	require.Equal(t, []int{49152, 576}, m.Tensors[0].Shape)
	require.Same(t, tensor.Q8_0, m.Tensors[0].Type)
	requireRewrite(t, path, m)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := Open(path)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.NoError(t, f.Close())
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "a header of 1.8 MB")
}

// splitFiles writes three parts and returns the path of each.
func splitFiles(t *testing.T, change func(i int, m *formats.Meta, x *[]formats.OutTensor)) []string {
	dir := t.TempDir()
	var paths []string
	for i := range 3 {
		m := formats.Meta{}
		if i == 0 {
			m = append(m, formats.KV{Key: "general.architecture", Value: "llama"})
		}
		m = append(m, formats.KV{Key: "split.no", Value: uint16(i)}, formats.KV{Key: "split.count", Value: uint16(3)}, formats.KV{Key: "split.tensors.count", Value: int32(3)})
		x := []formats.OutTensor{formattest.Tensor(string(rune('a'+i)), tensor.F32, 4)}
		if change != nil {
			change(i, &m, &x)
		}
		p := filepath.Join(dir, "m-0000"+string(rune('1'+i))+"-of-00003.gguf")
		require.NoError(t, WriteFile(context.Background(), p, nil, m, x))
		paths = append(paths, p)
	}
	return paths
}

func TestSplit(t *testing.T) {
	paths := splitFiles(t, nil)
	for _, p := range paths {
		m, err := formats.OpenModel(p)
		require.NoError(t, err)
		require.Len(t, m.Tensors, 3)
		require.Equal(t, formats.Meta{{Key: "general.architecture", Value: "llama"}}, m.Meta, "the split is no part of the model")
		require.Equal(t, paths, m.Sources)
		require.NoError(t, m.Close())
	}
	require.NoError(t, os.Remove(paths[1]))
	_, err := Open(paths[0])
	require.ErrorIs(t, err, formats.ErrMissing)
	require.ErrorContains(t, err, "part 2 of 3")

	renamed := filepath.Join(t.TempDir(), "model.gguf")
	b, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(renamed, b, 0o666))
	_, err = Open(renamed)
	require.ErrorIs(t, err, formats.ErrMismatch)

	tests := []struct {
		name   string
		change func(i int, m *formats.Meta, x *[]formats.OutTensor)
		want   error
	}{
		{"same tensor twice", func(i int, _ *formats.Meta, x *[]formats.OutTensor) { (*x)[0].Name = "a" }, formats.ErrDuplicate},
		{"wrong number", func(i int, m *formats.Meta, _ *[]formats.OutTensor) { m.Set("split.no", uint16(0)) }, formats.ErrMismatch},
		{"wrong count", func(i int, m *formats.Meta, _ *[]formats.OutTensor) { m.Set("split.count", uint16(3+i)) }, formats.ErrMismatch},
		{"wrong total", func(i int, m *formats.Meta, _ *[]formats.OutTensor) { m.Set("split.tensors.count", int32(4)) }, formats.ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(splitFiles(t, tt.change)[0])
			require.ErrorIs(t, err, tt.want)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	x := formattest.Tensor("x", tensor.F32, 4)
	long := x
	long.Name = string(bytes.Repeat([]byte("n"), 64))
	odd := formats.OutTensor{Name: "odd", Type: tensor.Q8_0, Shape: []int{32, 3}}
	deep := formats.OutTensor{Name: "deep", Type: tensor.F32, Shape: []int{1, 1, 1, 1, 1}}
	huge := formats.OutTensor{Name: "huge", Type: tensor.F32, Shape: []int{1 << 40, 1 << 40}}
	tests := []struct {
		name    string
		meta    formats.Meta
		tensors []formats.OutTensor
	}{
		{"Go int", formats.Meta{{Key: "k", Value: 1}}, nil},
		{"empty key", formats.Meta{{Key: "", Value: "v"}}, nil},
		{"repeated key", formats.Meta{{Key: "k", Value: "v"}, {Key: "k", Value: "v"}}, nil},
		{"alignment", formats.Meta{{Key: "general.alignment", Value: uint32(48)}}, nil},
		{"long name", nil, []formats.OutTensor{long}},
		{"repeated tensor", nil, []formats.OutTensor{x, x}},
		{"broken row", nil, []formats.OutTensor{odd}},
		{"five dimensions", nil, []formats.OutTensor{deep}},
		{"overflow", nil, []formats.OutTensor{huge}},
		{"type", nil, []formats.OutTensor{formattest.Tensor("b", tensor.Bool, 4)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			require.ErrorIs(t, Write(context.Background(), &b, "out.gguf", tt.meta, tt.tensors), formats.ErrOutput)
			require.Zero(t, b.Len())
		})
	}
	require.ErrorIs(t, Format{}.WriteAdapter(context.Background(), "x.gguf", &formats.OutAdapter{}), formats.ErrOutput)
}

func TestAdapterType(t *testing.T) {
	p := filepath.Join(t.TempDir(), "a.gguf")
	require.NoError(t, WriteFile(context.Background(), p, nil, formats.Meta{{Key: "general.type", Value: "adapter"}, {Key: "adapter.type", Value: "other"}}, nil))
	_, err := formats.OpenAdapter(p)
	require.ErrorIs(t, err, formats.ErrUnsupported)
	_, err = formats.OpenModel(p)
	require.ErrorIs(t, err, formats.ErrIsAdapter)
}
