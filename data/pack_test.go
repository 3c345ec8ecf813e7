package data

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/nn"
)

func lengths(n ...int) *Dataset {
	d := &Dataset{}
	for i, l := range n {
		ex := Example{Line: i + 1}
		for j := range l {
			ex.Tokens = append(ex.Tokens, int32(j))
			ex.Labels = append(ex.Labels, int32(j))
		}
		ex.Labels[0] = Ignore
		d.Examples = append(d.Examples, ex)
	}
	return d
}

func TestPacking(t *testing.T) {
	for _, c := range []struct {
		name     string
		lengths  []int
		capacity int
		want     [][]int
	}{
		{"one each", []int{10, 9, 8}, 10, [][]int{{0}, {1}, {2}}},
		{"pairs", []int{6, 4, 5, 5}, 10, [][]int{{0, 1}, {2, 3}}},
		{"best fit, not first fit", []int{5, 7, 3, 5}, 10, [][]int{{0, 3}, {1, 2}}},
		{"too long for any", []int{12, 3, 4}, 10, [][]int{{0}, {1, 2}}},
		{"all in one", []int{1, 2, 3, 4}, 10, [][]int{{0, 1, 2, 3}}},
		{"capacity over a word of the set", []int{100, 30, 64, 70}, 130, [][]int{{0, 1}, {2}, {3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := lengths(c.lengths...)
			got, err := d.Epoch(Plan{BatchSize: 1, Pack: true, MaxTokens: c.capacity}, 0)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// Every example is in exactly one micro-batch, no pack is too full, the packs
// are nearly full, and the number of micro-batches is the same in every epoch.
func TestEpochsCoverAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var n []int
	total := 0
	for range 1000 {
		l := 2 + rng.IntN(300)
		n, total = append(n, l), total+l
	}
	d := lengths(n...)
	for _, pack := range []bool{false, true} {
		p := Plan{BatchSize: 3, Pack: pack, MaxTokens: 512, Shuffle: true, Seed: 9}
		var first [][]int
		for epoch := range 3 {
			got, err := d.Epoch(p, epoch)
			require.NoError(t, err)
			again, err := d.Epoch(p, epoch)
			require.NoError(t, err)
			require.Equal(t, got, again)
			seen := make([]bool, len(n))
			for _, micro := range got {
				tokens := 0
				for _, i := range micro {
					require.False(t, seen[i])
					seen[i] = true
					tokens += n[i]
				}
				require.LessOrEqual(t, tokens, 3*512)
			}
			require.NotContains(t, seen, false)
			if pack {
				require.LessOrEqual(t, len(got), total/(3*512)+total/(3*512)/20+1, "more than 5 % is empty")
			}
			if first == nil {
				first = got
				continue
			}
			require.Len(t, got, len(first))
			require.NotEqual(t, first, got)
		}
	}
	_, err := d.Epoch(Plan{}, 0)
	require.Error(t, err)
	_, err = d.Epoch(Plan{BatchSize: 1, Pack: true}, 0)
	require.Error(t, err)
}

func TestBatch(t *testing.T) {
	d := &Dataset{Examples: []Example{
		{Tokens: []int32{10, 11, 12, 13}, Labels: []int32{Ignore, Ignore, 12, Ignore}},
		{Tokens: []int32{20, 21}, Labels: []int32{Ignore, Ignore}},
		{Tokens: []int32{30, 31, 32}, Labels: []int32{Ignore, 31, 32}},
	}}
	b := d.Batch([]int{2, 1, 0})
	require.Equal(t, []int32{30, 31, 10, 11}, b.Tokens)
	require.Equal(t, []int32{31, 32, Ignore, 12}, b.Labels)
	require.Equal(t, []int32{0, 1, 0, 1}, b.Pos)
	require.Equal(t, []nn.Span{{Start: 0, End: 2}, {Start: 2, End: 4}}, b.Seqs)
	require.Equal(t, 3, Labelled(b))
}
