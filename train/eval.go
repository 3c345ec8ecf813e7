package train

import (
	"context"
	"encoding/json"
	"math"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// EvalResult tells how well a model predicts the trained tokens of a data set.
type EvalResult struct {
	// Loss is the mean cross-entropy per token in nats.
	Loss float64
	// Perplexity is exp(Loss).
	Perplexity float64
	// Tokens is the number of tokens that were predicted.
	Tokens int
	// Top1 is the share of tokens that had the highest logit.
	Top1 float64
}

// MarshalJSON writes infinite numbers and NaN as null.
func (r *EvalResult) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"loss": jsonNumber(r.Loss), "perplexity": jsonNumber(r.Perplexity), "tokens": r.Tokens, "top1": r.Top1})
}

// evalTokens is about how many tokens go through the network at once; evalLogits
// is about how many logits are held.
const (
	evalTokens = 1024
	evalLogits = 4 << 20
)

// Evaluate computes the mean over all trained tokens of ds, whatever examples
// they are in. An example that is alone counts by its length.
func Evaluate(ctx context.Context, m *model.Model, ds *data.Dataset) (*EvalResult, error) {
	if err := fits(m, ds); err != nil {
		return nil, err
	}
	r := &EvalResult{}
	tape := nn.NewTape()
	defer tape.Close()
	var sum float64
	correct := 0
	for i := 0; i < len(ds.Examples); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var group []int
		for n := 0; i < len(ds.Examples); i++ {
			if n += len(ds.Examples[i].Tokens); n > evalTokens && len(group) > 0 {
				break
			}
			group = append(group, i)
		}
		s, c, n := evaluate(tape, m, ds.Batch(group))
		sum += s
		correct += c
		r.Tokens += n
	}
	r.Loss = sum / float64(r.Tokens)
	r.Perplexity = math.Exp(r.Loss)
	r.Top1 = float64(correct) / float64(r.Tokens)
	return r, nil
}

// evaluate returns the summed loss of a batch, how many labels had the highest
// logit, and how many there are.
func evaluate(tape *nn.Tape, m *model.Model, b *model.Batch) (sum float64, correct, n int) {
	var rows, labels []int32
	for i, l := range b.Labels {
		if l != data.Ignore {
			rows, labels = append(rows, int32(i)), append(labels, l)
		}
	}
	if len(rows) == 0 {
		return 0, 0, 0
	}
	tape.Reset()
	h := nn.GatherRows(tape, m.Hidden(tape, b), rows)
	// Out of the tape, so that it can be reset between chunks of logits.
	hidden := append([]float32(nil), h.Mat().Data...)
	chunk := max(1, evalLogits/m.VocabSize)
	losses := make([]float64, len(rows))
	hits := make([]bool, len(rows))
	for r0 := 0; r0 < len(rows); r0 += chunk {
		r1 := min(r0+chunk, len(rows))
		tape.Reset()
		x := &nn.Var{Rows: r1 - r0, Cols: m.HiddenSize, Data: hidden[r0*m.HiddenSize : r1*m.HiddenSize]}
		logits := m.Head.Forward(tape, x).Mat()
		kernels.Parallel(r1-r0, 1, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				row, want := logits.Row(r), labels[r0+r]
				losses[r0+r] = float64(kernels.LogSumExp(row)) - float64(row[want])
				hits[r0+r] = argmax(row) == want
			}
		})
	}
	for i, l := range losses {
		sum += l
		if hits[i] {
			correct++
		}
	}
	return sum, correct, len(rows)
}

// argmax returns the index of the largest element, the first of equals; -1 when
// there is none that is a number.
func argmax(x []float32) int32 {
	best := int32(-1)
	for i, v := range x {
		if v == v && (best < 0 || v > x[best]) {
			best = int32(i)
		}
	}
	return best
}
