package pefttest

import (
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Many is a [Case.Batch] that repeats the batch 12 times: enough rows for methods
// that compute in another way then.
func Many(b *model.Batch) {
	n, seqs := len(b.Tokens), b.Seqs
	for i := 1; i < 12; i++ {
		b.Tokens = append(b.Tokens, b.Tokens[:n]...)
		b.Pos = append(b.Pos, b.Pos[:n]...)
		b.Labels = append(b.Labels, b.Labels[:n]...)
		for _, s := range seqs {
			b.Seqs = append(b.Seqs, nn.Span{Start: i*n + s.Start, End: i*n + s.End})
		}
		b.Tokens[i*n] = int32(i)
	}
}
