package osf_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/osf"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	cases := []pefttest.Case{
		{Name: "defaults", Identity: true},
		{Name: "number", Identity: true, Options: peft.Options{"rank": 12}},
		{Name: "some frozen whole", Identity: true, Options: peft.Options{"rank": 20}}, // keys and values have 16
		{Name: "share", Identity: true, Options: peft.Options{"effective_rank": 0.25, "target_modules": "q_proj,up_proj,down_proj"}},
		{Name: "pattern", Identity: true, Options: peft.Options{"rank_pattern": `{"q_p": 3, "proj": 0.75}`}},
		{Name: "random", Options: peft.Options{"rank": 26, "init_weights": false, "target_modules": "q_proj,down_proj"}},
		{Name: "many rows", Identity: true, Options: peft.Options{"target_modules": "q_proj,v_proj,down_proj"}, Batch: pefttest.Many},
		{Name: "many rows, random", Options: peft.Options{"effective_rank": 0.8, "init_weights": false, "target_modules": "v_proj,down_proj"}, Batch: pefttest.Many},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"target_modules": "lm_head"}, Batch: pefttest.Many},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2()},
		{Name: "gpt2, many rows", Identity: true, Model: testmodel.GPT2(), Batch: pefttest.Many},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}},
	}
	for i := range cases {
		cases[i].Steer = osf.Free // differences know no projection: see TestProjection
	}
	pefttest.Run(t, osf.Method, cases)
}

func build(t *testing.T) *model.Model {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// Gradients are those of the loss but for what lies in the space of the frozen vectors,
// in tall, wide and square weights, on few rows and on many.
func TestProjection(t *testing.T) {
	for _, many := range []bool{false, true} {
		gradients := func(free bool) []osf.Frozen {
			m := build(t)
			ad, err := osf.Method.New(m, peft.Options{"rank": 5}, 1)
			require.NoError(t, err)
			list := osf.Parts(ad)
			if free {
				osf.Free(ad)
			}
			b := model.Sequence([]int32{3, 1, 4, 1, 5, 9, 2, 6}, 0)
			b.Labels = b.Tokens
			if many {
				pefttest.Many(b)
			}
			tape := nn.NewTape()
			tape.Train = true
			m.Loss(tape, b, 1)
			tape.Backward()
			return list
		}
		raw, got := gradients(true), gradients(false)
		moved := 0.0
		for i, f := range got {
			for _, side := range []struct {
				raw, got []float32
				turned   bool
				frozen   [][]float32
			}{{raw[i].U.Grad, f.U.Grad, true, f.Left}, {raw[i].V.Grad, f.V.Grad, false, f.Right}} {
				r := f.U.Cols
				n := len(side.got) / r
				for k := range r {
					take := func(from []float32) []float32 {
						v := make([]float32, n)
						for j := range v {
							if v[j] = from[k*n+j%n]; side.turned {
								v[j] = from[j*r+k]
							}
						}
						return v
					}
					want, is := take(side.raw), take(side.got)
					before := append([]float32(nil), want...)
					for _, h := range side.frozen {
						kernels.Axpy(-kernels.Dot(before, h), h, want)
					}
					size := math.Sqrt(float64(kernels.Dot(before, before)))
					require.InDeltaSlice(t, want, is, 1e-5+1e-4*size)
					for j := range want {
						moved = max(moved, math.Abs(float64(want[j]-before[j])))
					}
				}
			}
		}
		require.Greater(t, moved, 1e-3, "the projections take nothing out: the test would prove nothing")
	}
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{
		{"rank": 0}, {"rank": -3}, {"rank": 1000}, {"rank": "all"}, {"rank": true}, {"effective_rank": 0.001}, {"effective_rank": "0.999e3"},
		{"rank_pattern": `{"q_proj": 0}`}, {"rank_pattern": `{"q_proj": "x"}`}, {"rank_pattern": `{"(": 4}`}, {"rank_pattern": "8"},
		{"target_modules": "norm"}, {"target_modules": "embed_tokens"}, {"init_weights": "pissa"},
	} {
		_, err := osf.Method.New(build(t), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
