package numpyrng

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// testdata/golden.py made the numbers with numpy.
func TestOfNumpy(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var all []struct {
		Seed  uint64
		Words []string
		Steps []struct {
			N, Size          int
			Chosen, Shuffled []int32
			Sum, ShuffledSum int64
		}
	}
	require.NoError(t, json.Unmarshal(raw, &all))
	require.NotEmpty(t, all)
	weighted := func(x []int32) (sum int64) {
		for i, v := range x {
			sum += int64(i+1) * int64(v)
		}
		return sum
	}
	for _, g := range all {
		r := New(g.Seed)
		for _, w := range g.Words {
			require.Equal(t, w, strconv.FormatUint(r.Uint64(), 10), "seed %d", g.Seed)
		}
		r = New(g.Seed)
		for _, s := range g.Steps {
			chosen := r.Choice(s.N, s.Size)
			require.Len(t, chosen, s.Size)
			require.Equal(t, s.Chosen, chosen[:len(s.Chosen)], "%d of %d", s.Size, s.N)
			require.Equal(t, s.Sum, weighted(chosen))
			data := make([]int32, s.N, s.N+s.Size)
			for i := range data {
				data[i] = int32(i)
			}
			data = append(data, chosen...)
			r.Shuffle(data)
			require.Equal(t, s.Shuffled, data[:len(s.Shuffled)])
			require.Equal(t, s.ShuffledSum, weighted(data))
		}
	}
}
