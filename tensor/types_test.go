package tensor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTypes pins what files depend on: ids, block geometry and dtype strings.
func TestTypes(t *testing.T) {
	tests := []struct {
		d           *DType
		name        string
		block, size int
		gguf        int
		safetensors string
		ftype       int
	}{
		{F32, "F32", 1, 4, 0, "F32", 0},
		{F16, "F16", 1, 2, 1, "F16", 1},
		{BF16, "BF16", 1, 2, 30, "BF16", 32},
		{F64, "F64", 1, 8, 28, "F64", -1},
		{Q4_0, "Q4_0", 32, 18, 2, "", 2},
		{Q4_1, "Q4_1", 32, 20, 3, "", 3},
		{Q8_0, "Q8_0", 32, 34, 8, "", 7},
		{I8, "I8", 1, 1, 24, "I8", -1},
		{I16, "I16", 1, 2, 25, "I16", -1},
		{I32, "I32", 1, 4, 26, "I32", -1},
		{I64, "I64", 1, 8, 27, "I64", -1},
		{U8, "U8", 1, 1, -1, "U8", -1},
		{Bool, "BOOL", 1, 1, -1, "BOOL", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.name, tt.d.String())
			require.Equal(t, []int{tt.block, tt.size, tt.gguf, tt.ftype}, []int{tt.d.Block, tt.d.Bytes, tt.d.GGUF, tt.d.FileType})
			require.Equal(t, tt.safetensors, tt.d.SafeTensors)
			require.Equal(t, tt.block > 1, tt.d.Quantised())
			got, err := ByName(tt.name)
			require.NoError(t, err)
			require.Same(t, tt.d, got)
			if tt.gguf >= 0 {
				require.Same(t, tt.d, ByGGUF(tt.gguf))
			}
			if tt.safetensors != "" {
				require.Same(t, tt.d, BySafeTensors(tt.safetensors))
			}
		})
	}
	require.Nil(t, ByGGUF(-1), "types without an id are not found by it")
	require.Nil(t, BySafeTensors(""))
	_, err := ByName("Q4")
	require.ErrorContains(t, err, `did you mean "Q4_0"?`)
}

// TestExact sends values that every type holds exactly through it and back.
func TestExact(t *testing.T) {
	want := make([]float32, 64)
	for i := range want {
		want[i] = float32(i%16) - 8
	}
	want[40] = 127 // so that the scale of Q8_0's second block is exactly 1
	for _, d := range []*DType{F32, F16, BF16, F64, Q8_0} {
		n, ok := d.Size(64)
		require.True(t, ok)
		b, got := make([]byte, n), make([]float32, 64)
		v := append([]float32(nil), want...)
		if d == Q8_0 {
			v[0], v[32] = -127, -127
		}
		d.Encode(b, v)
		d.Decode(got, b)
		require.Equal(t, v, got, d.Name)
	}
}

func TestSize(t *testing.T) {
	for _, n := range []int64{-1, 16, 33, 1 << 62} {
		_, ok := Q8_0.Size(n)
		require.False(t, ok, n)
	}
	n, ok := Q4_1.Size(64)
	require.True(t, ok)
	require.EqualValues(t, 40, n)
}

func TestTensor(t *testing.T) {
	x := FromFloats("x", []int{2, 3}, []float32{0, 1, 2, 3, 4, 5})
	require.EqualValues(t, 6, x.Elements())
	require.Equal(t, []int{2, 3, 12}, []int{x.Rows(), x.Cols(), x.RowBytes()})
	x.Perm = []int32{1, 0}
	got, err := x.AllFloats()
	require.NoError(t, err)
	require.Equal(t, []float32{3, 4, 5, 0, 1, 2}, got)
	w, err := x.Weight()
	require.NoError(t, err)
	require.True(t, w.Float32)

	scalar := FromFloats("s", nil, []float32{7})
	require.Equal(t, []int{1, 1}, []int{scalar.Rows(), scalar.Cols()})

	i := &Tensor{Name: "ids", File: "m.gguf", Type: I32, Shape: []int{1}, Data: make([]byte, 4)}
	_, err = i.AllFloats()
	require.ErrorIs(t, err, ErrNoDecoder)
	require.ErrorContains(t, err, "no real numbers")
	q := &Tensor{Name: "w", File: "m.gguf", Type: &DType{Name: "Q9_9", Block: 32, Bytes: 9}, Shape: []int{32}, Data: make([]byte, 9)}
	_, err = q.Weight()
	require.ErrorIs(t, err, ErrNoDecoder)
	require.ErrorContains(t, err, "m.gguf")
	require.ErrorContains(t, err, "Q8_0")
}
