package torchrng

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// golden is one sequence of torch: the bits of its first numbers and the hash of all.
type golden struct {
	Seed     uint64
	From, To float64
	Mean     float64
	Std      float64
	Sizes    []int
	Fan      int
	A        float64
	N        int
	First    []int64
	Hash     string
}

func readGolden(t *testing.T) map[string][]golden {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var g map[string][]golden
	require.NoError(t, json.Unmarshal(raw, &g))
	return g
}

// check compares bits, given as integers of size bytes.
func (g golden) check(t *testing.T, bits []int64, size int) {
	require.Len(t, bits, g.N)
	require.Equal(t, g.First, append([]int64{}, bits[:min(20, g.N)]...))
	h := fnv.New64a()
	for _, b := range bits {
		var buf [8]byte
		binary.LittleEndian.PutUint64(buf[:], uint64(b))
		h.Write(buf[:size])
	}
	require.Equal(t, g.Hash, fmt.Sprintf("%016x", h.Sum64()))
}

func bits32(x []float32) []int64 {
	out := make([]int64, len(x))
	for i, v := range x {
		out[i] = int64(int32(math.Float32bits(v)))
	}
	return out
}

func TestOfTorch(t *testing.T) {
	all := readGolden(t)
	for name, draw := range map[string]func(g golden, r *Generator) ([]int64, int){
		"uniform": func(g golden, r *Generator) ([]int64, int) {
			x := make([]float32, g.N)
			r.Uniform(x, g.From, g.To)
			return bits32(x), 4
		},
		"uniform64": func(g golden, r *Generator) ([]int64, int) {
			x := make([]float64, g.N)
			r.Uniform64(x, g.From, g.To)
			out := make([]int64, g.N)
			for i, v := range x {
				out[i] = int64(math.Float64bits(v))
			}
			return out, 8
		},
		"randperm": func(g golden, r *Generator) ([]int64, int) { return r.Randperm(int64(g.N)), 8 },
		"normal": func(g golden, r *Generator) ([]int64, int) {
			var out []int64
			for _, n := range g.Sizes {
				x := make([]float32, n)
				r.Normal(x, g.Mean, g.Std)
				out = append(out, bits32(x)...)
			}
			return out, 4
		},
		"kaiming": func(g golden, r *Generator) ([]int64, int) {
			x := make([]float32, g.N)
			r.KaimingUniform(x, g.Fan, g.A)
			return bits32(x), 4
		},
	} {
		require.NotEmpty(t, all[name])
		for _, g := range all[name] {
			t.Run(fmt.Sprintf("%s/%d", name, g.Seed), func(t *testing.T) {
				bits, size := draw(g, New(g.Seed))
				g.check(t, bits, size)
			})
		}
	}
}

func TestFMA32(t *testing.T) {
	// A product that rounds to a tie, and an addend that breaks it.
	a, b := float32(1+0x1p-12), float32(1+0x1p-12) // 1 + 2^-11 + 2^-24
	require.Equal(t, float32(1+0x1p-11+0x1p-23), fma32(a, b, 0x1p-80))
	require.Equal(t, float32(1+0x1p-11), fma32(a, b, -0x1p-80))
	require.Equal(t, float32(1+0x1p-11), fma32(a, b, 0))
	require.Equal(t, float32(-1-0x1p-11-0x1p-23), fma32(-a, b, -0x1p-80))
	require.Equal(t, float32(7), fma32(2, 3, 1))
}

func TestRandpermIsOne(t *testing.T) {
	seen := make([]bool, 1000)
	for _, i := range New(5).Randperm(1000) {
		require.False(t, seen[i])
		seen[i] = true
	}
	require.Panics(t, func() { New(5).Randperm(-1) })
}

func TestRandpermFirst(t *testing.T) {
	for _, n := range []int64{0, 1, 2, 1000} {
		for _, k := range []int64{0, 1, n / 2, n} {
			if k <= n {
				require.Equal(t, New(5).Randperm(n)[:k], New(5).RandpermFirst(n, k), "%d of %d", k, n)
			}
		}
	}
	require.Panics(t, func() { New(5).RandpermFirst(3, 4) })
}
