package train

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tables were worked out by hand with the definitions in scikit-learn's
// documentation.
func TestClassMetrics(t *testing.T) {
	for _, c := range []struct {
		name                     string
		want, got                []int32
		classes                  int
		accuracy, f1, macro, mcc float64
	}{
		// tp 3, fp 1, fn 2, tn 4: f1 = 6/9; the other class 8/11.
		{"binary", []int32{1, 1, 1, 1, 1, 0, 0, 0, 0, 0}, []int32{1, 1, 1, 0, 0, 1, 0, 0, 0, 0}, 2,
			0.7, 6. / 9, (6./9 + 8./11) / 2, (3*4 - 1*2) / math.Sqrt(4*5*5*6)},
		{"perfect", []int32{0, 1, 1}, []int32{0, 1, 1}, 2, 1, 1, 1, 1},
		{"inverse", []int32{0, 1, 1, 0}, []int32{1, 0, 0, 1}, 2, 0, 0, 0, -1},
		{"one answer", []int32{0, 1, 1, 1}, []int32{1, 1, 1, 1}, 2, 0.75, 6. / 7, 3. / 7, 0},
		// Classes 0, 1, 2 with f1 2/3, 0, 4/5; class 3 never occurs.
		{"three of four", []int32{0, 1, 2, 0, 1, 2}, []int32{0, 2, 2, 0, 0, 2}, 4,
			4. / 6, (0.8 + 0 + 0.8) / 3, (0.8 + 0 + 0.8) / 3, (4*6 - 12.) / math.Sqrt((36-12)*(36-18.))},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := singleMetrics(c.want, c.got, c.classes)
			require.InDelta(t, c.accuracy, m["accuracy"], 1e-12)
			require.InDelta(t, c.f1, m["f1"], 1e-12)
			require.InDelta(t, c.macro, m["f1_macro"], 1e-12)
			require.InDelta(t, c.mcc, m["matthews"], 1e-12)
		})
	}
}

// Numbers of this file are those of a few float64 operations: within 1e-12, which is
// thousands of roundings. 1e-5 is the last digit of a number that is written here in five.
func TestTokenMetrics(t *testing.T) {
	// Without O: tp 2 (one of each), fp 1 (B for O), fn 1 (B missed).
	m := tokenMetrics([]int32{0, 0, 1, 2, 1, 0}, []int32{0, 1, 1, 2, 0, 0}, []string{"O", "B", "I"})
	require.InDelta(t, 4./6, m["accuracy"], 1e-12)
	require.InDelta(t, 4./6, m["f1"], 1e-12)
	m = tokenMetrics([]int32{0, 1}, []int32{0, 0}, []string{"x", "y"})
	require.InDelta(t, (2./3+0)/2, m["f1"], 1e-12)
}

func TestMultiMetrics(t *testing.T) {
	// Rows 110 and 001 against 100 and 011: tp 1 0 1, fp 0 1 0, fn 0 1 0.
	m := multiMetrics([]float32{1, 1, 0, 0, 0, 1}, []float32{1, 0, 0, 0, 1, 1}, 3)
	require.Zero(t, m["accuracy"])
	require.InDelta(t, 4./6, m["f1"], 1e-12)
	require.InDelta(t, 2./3, m["f1_macro"], 1e-12)
}

func TestRegressionMetrics(t *testing.T) {
	m := regressionMetrics([]float32{1, 2, 3, 4}, []float32{2, 4, 6, 8}, 1)
	require.InDelta(t, 1, m["pearson"], 1e-12)
	require.InDelta(t, (1+4+9+16)/4., m["mse"], 1e-12)
	require.InDelta(t, 10/4., m["mae"], 1e-12)
	m = regressionMetrics([]float32{1, 2, 3, 4}, []float32{1, 4, 9, 16}, 1)
	require.InDelta(t, 1, m["spearman"], 1e-12)
	require.InDelta(t, 0.98437, m["pearson"], 1e-5) // 25/sqrt(5*129)
	// Ties share a rank: 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
	require.InDelta(t, 4.5/math.Sqrt(4.5*5), spearman([]float64{1, 2, 2, 3}, []float64{1, 2, 3, 4}), 1e-12)
	require.True(t, math.IsNaN(pearson([]float64{1, 1}, []float64{1, 2})))
}
