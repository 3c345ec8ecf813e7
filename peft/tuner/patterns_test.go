package tuner

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/peft"
)

// The first pattern that fits decides, what fits none has the rest's numbers, and
// what is written is what was read, in its order.
func TestRankAlpha(t *testing.T) {
	ranks := `{"layers\\.1\\.q_proj":4,"q_proj":2,"v_proj":2.5}`
	c, err := peft.ParseConfig(json.RawMessage(`{"rank_pattern":` + ranks + `,"alpha_pattern":{"q_proj":0.5}}`))
	require.NoError(t, err)
	p, err := ReadRankAlpha(c)
	require.NoError(t, err)
	for path, want := range map[string]struct {
		r     int
		alpha float64
	}{
		"model.layers.1.q_proj": {4, 0.5},
		"model.layers.2.q_proj": {2, 0.5},
		"model.layers.1.k_proj": {8, 16},
		"my_q_proj":             {8, 16},
	} {
		r, alpha, err := p.At(path, 8, 16)
		require.NoError(t, err, path)
		require.Equal(t, want.r, r, path)
		require.Equal(t, want.alpha, alpha, path)
	}
	_, _, err = p.At("v_proj", 8, 16)
	require.ErrorIs(t, err, peft.ErrConfig)
	require.ErrorContains(t, err, "rank_pattern: 2.5 for v_proj")

	b, err := json.Marshal(p.Ranks)
	require.NoError(t, err)
	require.Equal(t, ranks, string(b))

	c, err = peft.ParseConfig(json.RawMessage(`{"alpha_pattern":[1]}`))
	require.NoError(t, err)
	_, err = ReadRankAlpha(c)
	require.ErrorIs(t, err, peft.ErrConfig)
	require.ErrorContains(t, err, "alpha_pattern")
}
