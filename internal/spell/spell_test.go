package spell

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	known := []string{"lora", "train", "q_proj", "k_proj", "up_proj", "prompt-tuning", "q4_0", "q8_0"}
	for word, want := range map[string]string{
		"trian": "train", "lroa": "lora", "LORA": "lora", "loar": "lora", "q_prj": "q_proj", "qproj": "q_proj", "prompt_tunning": "prompt-tuning",
		"q4-0": "q4_0", "nonesuch": "", "": "", "x": "", "zigzag": "",
	} {
		require.Equal(t, want, Nearest(word, known), word)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		n    int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"trian", "train", 1}, {"abcd", "badc", 2}} {
		require.Equal(t, c.n, Distance(c.a, c.b), "%s %s", c.a, c.b)
		require.Equal(t, c.n, Distance(c.b, c.a), "%s %s", c.b, c.a)
	}
}

func TestUnknownError(t *testing.T) {
	kind := errors.New("kind")
	e := &UnknownError{Kind: "method", Word: "lroa", Known: []string{"ia3", "lora"}, Err: kind}
	require.EqualError(t, e, `unknown method "lroa": did you mean "lora"?: kind`)
	require.ErrorIs(t, fmt.Errorf("somewhere: %w", e), kind)
	e.Word, e.Err = "none\nsuch", nil
	require.EqualError(t, e, `unknown method "none\nsuch": known are ia3, lora`)
}
