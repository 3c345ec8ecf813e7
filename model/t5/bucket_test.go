package t5

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The bucket of every distance is transformers'.
func TestBuckets(t *testing.T) {
	raw, err := os.ReadFile("testdata/buckets.json")
	require.NoError(t, err)
	var cases []struct {
		Buckets, Max int
		Both         bool
		Want         []int
	}
	require.NoError(t, json.Unmarshal(raw, &cases))
	for _, c := range cases {
		f := buckets(c.Both, c.Buckets, c.Max)
		for i, want := range c.Want {
			require.Equal(t, want, f(i-300), "distance %d, %d buckets to %d, both sides %v", i-300, c.Buckets, c.Max, c.Both)
		}
	}
}
