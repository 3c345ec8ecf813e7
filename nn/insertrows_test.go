package nn

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInsertRows(t *testing.T) {
	seqs := []Span{{0, 3}, {3, 3}, {3, 7}}
	want := []Span{{0, 5}, {5, 7}, {7, 13}}
	// from is, for every row of the result, the row of x, or -1-i for row i of an
	// inserted block.
	from := []int{-1, -2, 0, 1, 2, -1, -2, -1, -2, 3, 4, 5, 6}
	seqOf := []int{0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2}
	for _, pre := range []int{2, 6} {
		checkOp(t, opCase{name: fmt.Sprintf("InsertRows/%d", pre), inputs: [][2]int{{7, 5}, {pre, 5}}, params: []int{1},
			run: func(tape *Tape, v []*Var) *Var {
				out, spans := InsertRows(tape, v[0], seqs, v[1], 2)
				require.Equal(t, want, spans)
				return out
			},
			twin: func(m []mat64) mat64 {
				return newMat64(13, 5).each(func(i, j int) float64 {
					r := from[i]
					switch {
					case r >= 0:
						return m[0].at(r, j)
					case pre == 2:
						return m[1].at(-1-r, j)
					}
					return m[1].at(2*seqOf[i]-1-r, j)
				})
			}})
	}
	tape := NewTape()
	defer tape.Close()
	require.Panics(t, func() { InsertRows(tape, tape.New(7, 5), seqs[:2], tape.New(2, 5), 2) })
	require.Panics(t, func() { InsertRows(tape, tape.New(7, 5), seqs, tape.New(4, 5), 2) })
}
