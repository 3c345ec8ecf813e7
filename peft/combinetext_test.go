package peft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/peft"
)

// reader is an adapter that begins from texts.
type reader struct {
	peft.Adapter
	texts []string
	got   [][]int32
}

func (r *reader) StartTexts() []string { return r.texts }

func (r *reader) StartTokens(tokens [][]int32) error {
	r.got = tokens
	return nil
}

func TestCombinationGivesTextsToItsParts(t *testing.T) {
	var plain struct{ peft.Adapter }
	one, none, two := &reader{texts: []string{"a"}}, &reader{}, &reader{texts: []string{"b", "c"}}
	c := &peft.Combination{Parts: []peft.Adapter{one, plain, none, two}}
	require.Equal(t, []string{"a", "b", "c"}, c.StartTexts())
	require.NoError(t, c.StartTokens([][]int32{{1}, {2}, {3}}))
	require.Equal(t, [][]int32{{1}}, one.got)
	require.Nil(t, none.got)
	require.Equal(t, [][]int32{{2}, {3}}, two.got)
}
