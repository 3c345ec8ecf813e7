package supertuning

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// orders are those of testdata/golden.py.
var orders = map[string]func(i, n, levels int) int{
	"mixed":   func(i, n, levels int) int { return int((uint32(i)*2654435761+12345)>>8) % levels },
	"rising":  func(i, n, levels int) int { return i * levels / n },
	"falling": func(i, n, levels int) int { return (n - 1 - i) * levels / n },
	"hill":    func(i, n, levels int) int { return min(i, n-1-i) * levels / n },
	"deep": func(i, n, levels int) int {
		switch {
		case i >= n/2:
			return 2*(i-n/2) + 2
		case i%2 == 0:
			return i + 1
		}
		return n/2 + i
	},
}

// The choice among equal numbers is torch's.
func TestOfTorch(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var cases [][4]any
	require.NoError(t, json.Unmarshal(raw, &cases))
	require.NotEmpty(t, cases)
	for _, c := range cases {
		order, n, levels := c[0].(string), int(c[1].(float64)), int(c[2].(float64))
		v := make([]float32, n)
		for i := range v {
			if v[i] = float32(orders[order](i, n, levels)) / 4; i%2 == 1 {
				v[i] = -v[i]
			}
		}
		counts := []int{1, n / 100, n / 64, n / 63, n / 3, n - 1, n}
		for i := range counts {
			counts[i] = max(1, counts[i])
		}
		slices.Sort(counts)
		h := fnv.New64a()
		for _, k := range slices.Compact(counts) {
			for _, largest := range []bool{true, false} {
				for _, at := range topk(v, k, largest) {
					h.Write(binary.LittleEndian.AppendUint32(nil, uint32(at)))
				}
			}
		}
		require.Equal(t, c[3], fmt.Sprintf("%016x", h.Sum64()), "%v", c)
	}
}

func TestNaN(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	v := []float32{1, -inf, nan, 0, 2}
	require.Equal(t, []int32{2, 1, 4}, topk(v, 3, true))
	require.Equal(t, []int32{3, 0, 4, 1, 2}, topk(v, 5, false))
}
