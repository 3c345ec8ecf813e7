package nn

import (
	"fmt"

	"github.com/peftkit/peftkit/kernels"
)

// RelativeBias is a learned number per head and bucket of distances that is
// added to the scores of attention (Raffel et al. 2020, section 2.1).
//
// Distances count the past: with n keys in PastK, the first query of a sequence
// is n places after the first of them. A prefix of prefix tuning is a past like a
// key-value cache: transformers' T5 takes the position of the first query from
// the length of past_key_values, whatever filled them.
type RelativeBias struct {
	// Table is [buckets, heads]. It gets a gradient if it wants one.
	Table *Var
	// Bucket returns the row of Table for a distance: the position of the key minus
	// that of the query. It is called once per distance and call of Attention.
	Bucket func(distance int) int
	// Offset is added to the position of every query. Usually 0: positions are
	// derived from the past.
	Offset int
	// Unbiased is the number of first keys of the past whose scores get no bias: a
	// prefix that has no positions. 0 in HF PEFT's prefix tuning.
	Unbiased int
}

// biasTable holds the bias of every distance that occurs in a call, head by
// head, so that a row of scores needs one sum of contiguous numbers.
type biasTable struct {
	buckets []int32     // by distance, from the smallest
	values  kernels.Mat // heads x distances
	// zero is where distance 0 of query 0 to key 0 lies: key j of query i, both
	// counted from the first of the sequence, the past included for keys, is at
	// zero + j - i.
	zero     int
	unbiased int
}

func newBiasTable(a *attention) *biasTable {
	queries, keys := 1, 1
	for i, sp := range a.Seqs {
		ks := a.keySpan(i)
		queries, keys = max(queries, sp.End-sp.Start), max(keys, a.past+ks.End-ks.Start)
	}
	b := &biasTable{
		buckets:  make([]int32, queries+keys-1),
		zero:     queries - 1,
		unbiased: a.Bias.Unbiased,
	}
	table := a.Bias.Table.Mat()
	b.values = kernels.NewMat(a.Heads, len(b.buckets))
	for i := range b.buckets {
		n := a.Bias.Bucket(i - b.zero - a.past - a.Bias.Offset)
		if n < 0 || n >= table.Rows {
			panic(fmt.Sprintf("nn: Attention: bucket %d of %d", n, table.Rows))
		}
		b.buckets[i] = int32(n)
		for h, v := range table.Row(n) {
			b.values.Data[h*b.values.Stride+i] = v
		}
	}
	return b
}

// part returns the range of distances of keys from first on and query i, and how
// many of the keys come before it because they have no bias.
func (b *biasTable) part(n, first, i int) (at, skip int) {
	skip = min(max(b.unbiased-first, 0), n)
	return b.zero + first + skip - i, skip
}

// add adds the bias of head h to the scores of query i for keys from first on.
func (b *biasTable) add(scores []float32, h, first, i int) {
	at, skip := b.part(len(scores), first, i)
	scores = scores[skip:]
	kernels.Add(scores, scores, b.values.Row(h)[at:at+len(scores)])
}

// addGrad adds the gradient of these scores to that of the distances of a head.
func (b *biasTable) addGrad(dst, grad []float32, first, i int) {
	at, skip := b.part(len(grad), first, i)
	grad = grad[skip:]
	dst = dst[at : at+len(grad)]
	kernels.Add(dst, dst, grad)
}

// backward sums the distances of all parts into the table, in order.
func (b *biasTable) backward(table kernels.Mat, parts []attnPart) {
	for i := range parts {
		for h := range table.Cols {
			row := parts[i].bias.Row(h)
			for d, n := range b.buckets {
				table.Data[int(n)*table.Stride+h] += row[d]
			}
		}
	}
}
