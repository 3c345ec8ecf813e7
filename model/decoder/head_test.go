package decoder

import (
	"testing"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/stretchr/testify/assert"
)

func TestLastRows(t *testing.T) {
	batch := &model.Batch{
		Tokens: []int32{5, 6, 0, 0 /**/, 7, 0, 8 /**/, 0, 0},
		Seqs:   []nn.Span{{Start: 0, End: 4}, {Start: 4, End: 7}, {Start: 7, End: 9}},
	}
	x := &nn.Var{Rows: 9, Cols: 1, Data: []float32{0, 1, 2, 3, 4, 5, 6, 7, 8}}
	for _, c := range []struct {
		name    string
		padding *int32
		want    []float32
	}{
		{"no padding token", nil, []float32{3, 6, 8}},
		{"padding ends two of the texts", Ptr(int32(0)), []float32{1, 6, 7}},
		{"another token", Ptr(int32(9)), []float32{3, 6, 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := LastRows(nn.NewTape(), x, &model.Rows{X: x, Seqs: batch.Seqs, Batch: batch}, c.padding)
			assert.Equal(t, c.want, got.Data)
		})
	}
}
