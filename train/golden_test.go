package train

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/nn"
)

// golden is testdata/golden.json, which testdata/golden.py writes.
type golden struct {
	Schedules []struct {
		Name          Schedule
		Warmup, Total int
		Min           float64
		LR            []float64
	}
	AdamW struct {
		Start [][]float32
		Steps []struct {
			LR     float64
			Grads  [][]float32
			Norm   float64
			Params [][]float32
		}
	}
}

func readGolden(t *testing.T) (g golden) {
	b, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &g))
	return g
}

// Factors of up to 1 of a handful of float64 operations each, the cosine among them.
func TestSchedulesAreThoseOfTransformers(t *testing.T) {
	n := 0
	for _, s := range readGolden(t).Schedules {
		for step, want := range s.LR {
			require.InDelta(t, want, s.Name.Factor(step, s.Warmup, s.Total, s.Min), 8*bound.F64, "%s warm-up %d of %d, step %d", s.Name, s.Warmup, s.Total, step)
			n++
		}
	}
	require.Greater(t, n, 150)
	require.Error(t, Schedule("").check())
}

func TestWarmupSteps(t *testing.T) {
	for _, c := range []struct {
		warmup float64
		total  int
		want   int
	}{{0, 100, 0}, {0.05, 100, 5}, {0.05, 101, 6}, {0.05, 3, 0}, {0.05, 20, 1}, {0.05, 21, 2}, {1, 100, 1}, {20, 10, 20}, {0.999, 10, 10}} {
		require.Equal(t, c.want, warmupSteps(c.warmup, c.total), "%v of %d", c.warmup, c.total)
	}
}

// The norm is the root, which halves relative errors, of 22 squares, in torch by way of
// the norms of the tensors. A step rounds a parameter twice, after the decay and after
// the step; the roundings of the step itself are smaller by the learning rate.
func TestAdamWAndClippingAreThoseOfTorch(t *testing.T) {
	g := readGolden(t).AdamW
	params := []*nn.Param{nn.NewParam("a", 3, 5), nn.NewParam("b", 7)}
	for i, p := range params {
		copy(p.V.Data, g.Start[i])
	}
	o := NewAdamW(params, 0.9, 0.99, 1e-8, 0.05)
	clipped := 0
	for n, s := range g.Steps {
		for i, p := range params {
			copy(p.V.Grad, s.Grads[i])
		}
		norm := o.Clip(1)
		require.InEpsilon(t, s.Norm, norm, bound.Gamma(22/2+2), "step %d", n)
		if norm > 1 {
			clipped++
		}
		o.Update(s.LR)
		for i, p := range params {
			size := float64(max(1, slices.Max(s.Params[i]), -slices.Min(s.Params[i])))
			require.InDeltaSlice(t, s.Params[i], p.V.Data, bound.Gamma(2*(n+1))*size, "step %d, parameter %d", n, i)
		}
	}
	require.Equal(t, len(g.Steps)-1, clipped, "one step is below the limit")
}

func TestClipOfZeroLeavesGradients(t *testing.T) {
	p := nn.NewParam("a", 4)
	copy(p.V.Grad, []float32{3, 0, 4, 0})
	o := NewAdamW([]*nn.Param{p}, 0.9, 0.999, 1e-8, 0)
	require.Equal(t, 5.0, o.Clip(0))
	require.Equal(t, []float32{3, 0, 4, 0}, p.V.Grad)
}

func TestWeightDecaySparesBiasesAndNorms(t *testing.T) {
	for name, decays := range map[string]bool{
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": true,
		"base_model.model.model.layers.0.self_attn.q_proj.bias":          false,
		"base_model.model.model.layers.0.input_layernorm.weight":         false,
		"base_model.model.model.norm.weight":                             false,
		"model.layers.0.self_attn.q_norm.weight":                         false,
		"normal.weight":                                                  true,
	} {
		p := nn.NewParam(name, 1)
		p.V.Data[0], p.V.Reached = 1, true
		NewAdamW([]*nn.Param{p}, 0.9, 0.999, 1e-8, 0.5).Update(0.1)
		require.Equal(t, decays, p.V.Data[0] < 1, name)
	}
}

// A parameter that no backward pass came to keeps its values, moments and count of
// steps; one with a gradient of zeros does not.
func TestUpdatePassesOverWhatIsNotReached(t *testing.T) {
	make := func(params ...*nn.Param) *AdamW { return NewAdamW(params, 0.9, 0.99, 1e-8, 0.1) }
	step := func(o *AdamW, grads ...float32) {
		o.ZeroGrad()
		for i, g := range grads {
			if !math.IsNaN(float64(g)) {
				o.Params[i].V.Grad[0], o.Params[i].V.Reached = g, true
			}
		}
		o.Update(0.1)
	}
	absent := float32(math.NaN())
	a, b, c := nn.NewParam("a", 1), nn.NewParam("b", 1), nn.NewParam("c", 1)
	both, alone := make(a, b), make(c)
	for i, g := range []float32{0.5, absent, absent, -2, 1} {
		step(both, 1, g)
		if g == g {
			step(alone, g)
		}
		require.Equal(t, c.V.Data, b.V.Data, "step %d", i)
	}
	require.Equal(t, []int{0, 2}, both.Missed)
	before := b.V.Data[0]
	step(both, 1, 0)
	require.NotEqual(t, before, b.V.Data[0])
}

func TestParseStatus(t *testing.T) {
	m, ok := parseStatus("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\n")
	require.True(t, ok)
	require.Equal(t, Memory{Resident: 1 << 20, Peak: 2 << 20, Private: 512 << 10}, m)
	for _, bad := range []string{"", "VmRSS: many kB\nVmHWM: 1 kB\n", "VmRSS: 5 kB\n"} {
		_, ok := parseStatus(bad)
		require.False(t, ok, bad)
	}
	require.Positive(t, MemoryUse().Resident)
}
