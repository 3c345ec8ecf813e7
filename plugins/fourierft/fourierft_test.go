package fourierft

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
)

func TestConformance(t *testing.T) {
	pefttest.Run(t, Method, []pefttest.Case{
		{Name: "defaults", Identity: true, Options: peft.Options{"n_frequency": 20}},
		{Name: "random", Options: peft.Options{"n_frequency": 30, "scaling": 20, "init_weights": false, "target_modules": "q_proj,v_proj,up_proj,down_proj"}},
		{Name: "patterns", Identity: true, Options: peft.Options{"n_frequency": 9, "n_frequency_pattern": `{"q_proj": 5}`, "random_loc_seed": 1}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"n_frequency": 20}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"n_frequency": 0}, {"n_frequency": 1000000}, {"n_frequency_pattern": `{"q_proj": 1.5}`}, {"target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// The transform against the sum itself, for sizes that fold in each way, few and all
// coefficients, and both orders of the products.
func TestPlanes(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {2, 1}, {1, 2}, {7, 5}, {16, 12}, {12, 16}, {30, 9}, {9, 30}, {6, 10}, {48, 8}, {8, 48}, {40, 36}} {
		for _, n := range []int{9, size[0] * size[1]} {
			var c []float32
			var rows, cols []int
			for k := range min(n, size[0]*size[1]) {
				c, rows, cols = append(c, float32(math.Sin(float64(k+1)))), append(rows, (k*5+k/size[0])%size[0]), append(cols, k*3%size[1])
			}
			p := newPlanes(size[0], size[1], rows, cols, &memory{})
			d, dd := kernels.NewMat(size[0], size[1]), kernels.NewMat(size[0], size[1])
			for i := range dd.Data {
				dd.Data[i] = float32(math.Cos(float64(3 * i)))
			}
			p.forward(d, c)
			g := make([]float32, len(c))
			p.backward(g, dd)
			wantG, normG := make([]float64, len(c)), make([]float64, len(c))
			rel := bound.Spread(size[0] + size[1] + 4) // two products, with tables of float32 cosines and sines
			for i := range size[0] {
				for j := range size[1] {
					want, norm := 0.0, 0.0
					for k := range c {
						w := math.Cos(2 * math.Pi * (float64(i*rows[k])/float64(size[0]) + float64(j*cols[k])/float64(size[1])))
						want += float64(c[k]) * w
						norm = math.Hypot(norm, float64(c[k])*w)
						wantG[k] += float64(dd.Row(i)[j]) * w
						normG[k] = math.Hypot(normG[k], float64(dd.Row(i)[j])*w)
					}
					require.InDelta(t, want, d.Row(i)[j], rel*norm, "%v", size)
				}
			}
			for k := range g {
				require.InDelta(t, wantG[k], g[k], rel*normG[k], "%v", size)
			}
		}
	}
}
