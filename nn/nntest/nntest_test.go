package nntest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/nn/nntest"
)

// recorder stands for a test that a check is to fail.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) FailNow()              { r.failed = true; panic(r) }

func fails(t *testing.T, f func(tb testing.TB)) (failed bool) {
	r := &recorder{TB: t}
	defer func() {
		if v := recover(); v != nil && v != r {
			panic(v)
		}
		failed = r.failed
	}()
	f(r)
	return r.failed
}

func TestGradCheck(t *testing.T) {
	a := nntest.Fill(nn.NewParam("a", 3, 4), 0, 1)
	b := nntest.Fill(nn.NewParam("b", 4, 5), 1, 1)
	params := []*nn.Param{a, b}
	before := append([]float32(nil), a.V.Data...)
	right := func(tape *nn.Tape) float64 {
		return nntest.Weighted(tape, nn.SoftmaxRows(tape, nn.MatMul(tape, a.V, b.V)))
	}
	res := nntest.GradCheck(t, "softmax", params, right)
	require.GreaterOrEqual(t, res.Checked, 6)
	require.Equal(t, res.Checked, res.Nonzero)
	require.Equal(t, before, a.V.Data)

	require.True(t, fails(t, func(tb testing.TB) {
		nntest.GradCheck(tb, "detached", params, func(tape *nn.Tape) float64 {
			return nntest.Weighted(tape, nn.MatMul(tape, nn.Detach(tape, a.V), b.V))
		})
	}))
	require.True(t, fails(t, func(tb testing.TB) {
		nntest.GradCheck(tb, "dropout", params, func(tape *nn.Tape) float64 {
			return nntest.Weighted(tape, nn.Dropout(tape, nn.MatMul(tape, a.V, b.V), 0.5))
		})
	}))
}
