package waveft

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, Method, []pefttest.Case{
		{Name: "defaults", Identity: true, Options: peft.Options{"n_frequency": 20}},
		{Name: "random", Options: peft.Options{"n_frequency": 30, "scaling": 100, "init_weights": false, "target_modules": "q_proj,v_proj,up_proj,down_proj"}},
		{Name: "many", Identity: true, Options: peft.Options{"n_frequency": 250, "wavelet_family": "sym4"}},
		{Name: "patterns", Identity: true, Options: peft.Options{"n_frequency": 9, "n_frequency_pattern": `{"q_proj": 5}`, "random_loc_seed": 1, "wavelet_family": "coif2"}},
		{Name: "shares", Identity: true, Options: peft.Options{"n_frequency": 9, "proportional_parameters": true, "target_modules": "all-linear"}},
		{Name: "sparse", Identity: true, Options: peft.Options{"n_frequency": 20, "use_idwt": false, "wavelet_family": "db38"}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"n_frequency": 20, "wavelet_family": "db3"}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"n_frequency": 20}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, tt := range []struct {
		options peft.Options
		says    string
	}{
		{peft.Options{"n_frequency": 0}, "expected 1 to its number of elements"},
		{peft.Options{"n_frequency": 1000000}, "expected 1 to its number of elements"},
		{peft.Options{"n_frequency_pattern": `{"q_proj": 1.5}`}, "n_frequency is 1.5"},
		{peft.Options{"n_frequency": 9, "n_frequency_pattern": `{"q_proj": 5}`, "proportional_parameters": true}, "n_frequency_pattern has no effect"},
		{peft.Options{"wavelet_family": "haar"}, "db1 (Haar)"},
		{peft.Options{"wavelet_family": "db01"}, "expected db1"},
		{peft.Options{"wavelet_family": "db39", "use_idwt": false}, "expected db1"},
		{peft.Options{"wavelet_family": ""}, "expected db1"},
		{peft.Options{"wavelet_family": "sym1"}, "expected db1"},
		{peft.Options{"wavelet_family": "db11"}, "use db1 to db10"},
		{peft.Options{"wavelet_family": "sym11"}, "sym2 to sym10"},
		{peft.Options{"wavelet_family": "coif4"}, "use coif3"},
		{peft.Options{"wavelet_family": "coif6"}, "coif1 to coif3"},
		{peft.Options{"target_modules": "embed_tokens"}, "the method changes linear layers"},
	} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = Method.New(m, tt.options, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", tt.options)
		require.ErrorContains(t, err, tt.says)
	}
}

// wavelets are all that have a filter.
func wavelets() []string {
	var out []string
	for n := 1; n <= 10; n++ {
		out = append(out, fmt.Sprintf("db%d", n))
	}
	for n := 2; n < len(symlets); n++ {
		out = append(out, fmt.Sprintf("sym%d", n))
	}
	return append(out, "coif1", "coif2", "coif3")
}

// Filters are orthogonal to themselves shifted by even numbers, and have as many zeros
// at -1 as their name says. Coefficients are float64, some dozens of them below 1 that were
// roots of polynomials: 1e-12 is 9000 roundings, and 1e-15 is measured. A moment goes over as
// many coefficients times powers of up to 1; 4e-15 is measured.
func TestFilters(t *testing.T) {
	for _, name := range wavelets() {
		f, err := lowpass(name)
		require.NoError(t, err)
		family, zeros, err := split(name)
		require.NoError(t, err)
		if family == "coif" {
			zeros *= 2
		}
		for shift := 0; shift < len(f); shift += 2 {
			var sum float64
			for i := shift; i < len(f); i++ {
				sum += f[i] * f[i-shift]
			}
			want := 0.0
			if shift == 0 {
				want = 1
			}
			require.InDelta(t, want, sum, 1e-12, "%s, %d", name, shift)
		}
		for power := range zeros {
			var sum float64
			for i, v := range f {
				sum += v * math.Pow(-1, float64(i)) * math.Pow((2*float64(i)-float64(len(f)))/float64(len(f)), float64(power))
			}
			require.InDelta(t, 0, sum, 1e-10, "%s, moment %d", name, power)
		}
	}
}

// The change and its gradient against PEFT's definition, term by term, for odd and
// even sizes, few and all coefficients, and rows in parts.
func TestWave(t *testing.T) {
	for _, name := range []string{"db1", "db2", "sym5", "coif3"} {
		low, err := lowpass(name)
		require.NoError(t, err)
		for _, size := range [][2]int{{1, 1}, {2, 1}, {1, 3}, {7, 5}, {12, 9}, {9, 16}} {
			for _, n := range []int{3, size[0] * size[1]} {
				check(t, low, size[0], size[1], min(n, size[0]*size[1]))
			}
		}
	}
}

func check(t *testing.T, low []float64, out, in, n int) {
	// Coefficients of up to 1 times wavelets of length 1: the root of the sum of the
	// squares of what is summed is about 1 as well, at the edges and scaled by 2 up to 2.
	rel := bound.Spread(n+4) * 2
	w := &wave{out: newAxis(out, low), in: newAxis(in, low)}
	w.V = nn.NewParam("v", n)
	rows, cols := make([]int32, n), make([]int32, n)
	order := permuted(out * in)
	for k := range n {
		rows[k], cols[k] = int32(order[k]/in), int32(order[k]%in)
		w.V.V.Data[k] = float32(math.Sin(float64(k + 1)))
	}
	w.place(rows, cols)
	want := transform(low, w.V.V.Data, rows, cols, out, in)
	got := kernels.NewMat(out, in)
	w.dense(got, 1)
	parts := kernels.NewMat(out, in)
	turned := newChange(w.in, w.out, w.Cols, w.Rows, w.V)
	for r := range out {
		for c := 0; c < in; c += 3 {
			w.byRows().add(parts.Row(r)[c:min(c+3, in)], r, c, 1)
		}
		for c := range in {
			require.InDelta(t, want[r][c], got.Row(r)[c], rel)
			require.InDelta(t, want[r][c], parts.Row(r)[c], rel)
			v := make([]float32, 1)
			turned.add(v, c, r, 1)
			require.InDelta(t, want[r][c], v[0], rel)
		}
	}

	// The gradient of y = x·Δᵀ for a gradient dy of y, by both ways.
	const tokens = 260 // more than are looked at at once
	x, dy := kernels.NewMat(tokens, in), kernels.NewMat(tokens, out)
	for i := range x.Data {
		x.Data[i] = float32(math.Cos(float64(3*i))) / tokens
	}
	for i := range dy.Data {
		dy.Data[i] = float32(math.Sin(float64(5 * i)))
	}
	gradRel := 2 * bound.Spread(tokens+out*in)
	gradient := kernels.NewMat(out, in)
	kernels.Gemm(gradient, false, kernels.Term{A: dy, TransA: true, B: x})
	gradients := make([]float64, n)
	for k := range n {
		for r, row := range transform(low, []float32{1}, rows[k:k+1], cols[k:k+1], out, in) {
			for c, v := range row {
				gradients[k] += 2 * v * float64(gradient.Row(r)[c])
			}
		}
	}
	tape := nn.NewTape()
	tape.Train = true
	w.grad(tape, x, dy, 2)
	requireClose(t, gradients, w.V.V.Grad, gradRel)

	tape, w.V.V.Grad = nn.NewTape(), nil
	tape.Train = true
	d := w.operation(tape, 2)
	for r := range out {
		for c := range in {
			require.InDelta(t, 2*want[r][c], d.Mat().Row(r)[c], rel)
		}
	}
	g, _ := tape.Grad(d)
	copy(g.Data, gradient.Data)
	tape.Backward()
	requireClose(t, gradients, w.V.V.Grad, gradRel)
}

func requireClose(t *testing.T, want []float64, got []float32, tol float64) {
	t.Helper()
	for i := range want {
		require.InDelta(t, want[i], got[i], tol)
	}
}

// permuted returns the numbers below n in another order.
func permuted(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = (i*7 + 3) % n
		if n%7 == 0 {
			out[i] = (i*11 + 3) % n
		}
	}
	return out
}

// transform is the definition: quarters of a padded matrix, each interleaved with
// zeros and convolved with two filters, cut.
func transform(low []float64, v []float32, rows, cols []int32, out, in int) [][]float64 {
	taps := len(low)
	high := make([]float64, taps)
	for i := range high {
		high[i] = low[taps-1-i] * math.Pow(-1, float64(i))
	}
	height, width := out+taps-2, in+taps-2
	height, width = height+height%2, width+width%2
	full := make([][]float64, 2*height+taps)
	for i := range full {
		full[i] = make([]float64, 2*width+taps)
	}
	for k := range v {
		i, j := int(rows[k])+(height-out)/2, int(cols[k])+(width-in)/2
		down, across := low, low
		if j >= width/2 {
			down = high
		}
		if i >= height/2 {
			across = high
		}
		for a := range taps {
			for b := range taps {
				full[2*(i%(height/2))+a][2*(j%(width/2))+b] += float64(v[k]) * down[a] * across[b]
			}
		}
	}
	cut := make([][]float64, out)
	for r := range cut {
		cut[r] = full[r+taps-2][taps-2 : taps-2+in]
	}
	return cut
}
