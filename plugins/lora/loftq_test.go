package lora

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/formats/hfmodel"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

// LoftQ's A and B bring a coarse model nearer to the one it was made of, the more
// the higher the rank, and all the way at full rank.
func TestLoftQ(t *testing.T) {
	whole := testmodel.Default().HF()
	dir := filepath.Join(t.TempDir(), "whole")
	f, err := formats.ByName("safetensors")
	require.NoError(t, err)
	require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), dir, &formats.OutModel{Config: whole.Config, Tensors: formats.Copy(whole.Tensors)}))
	coarse := testmodel.Default().HF()
	for i, x := range coarse.Tensors {
		if !strings.Contains(x.Name, "_proj") {
			continue
		}
		v, err := x.AllFloats()
		require.NoError(t, err)
		for j := range v {
			v[j] = float32(math.Round(float64(v[j])*16) / 16)
		}
		coarse.Tensors[i] = tensor.FromFloats(x.Name, x.Shape, v)
	}
	open := func(m *formats.Model) *model.Model {
		ck, err := model.FromFile(m)
		require.NoError(t, err)
		out, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		return out
	}
	last := math.Inf(1)
	for _, rank := range []int{0, 2, 8, 64} {
		m := open(coarse)
		sum := 0.0
		var sites []*site
		if rank > 0 {
			ad, err := Method.New(m, peft.Options{"init_lora_weights": "loftq", "loftq_base": dir, "rank": rank, "target_modules": "q_proj"}, 1)
			if rank == 64 && err != nil {
				require.ErrorIs(t, err, peft.ErrConfig) // more than the weight has
				continue
			}
			require.NoError(t, err)
			raw, err := ad.Config()
			require.NoError(t, err)
			require.NotContains(t, string(raw), "loftq")
			sites = ad.(*adapter).cfg.sites
		}
		w, q := open(whole).Modules, m.Modules
		for i := range w {
			if !strings.HasSuffix(w[i].Path, "q_proj") {
				continue
			}
			row, other := make([]float32, w[i].Weight().In), kernels.NewMat(w[i].Weight().Out, w[i].Weight().In)
			for r := range other.Rows {
				q[i].Weight().Row(other.Row(r), r)
			}
			for _, s := range sites {
				if s.at.Path == q[i].Path {
					(&linear{s}).MergeRows(other, 0, other.Rows, 1)
				}
			}
			for r := range other.Rows {
				w[i].Weight().Row(row, r)
				for j, x := range row {
					sum += math.Pow(float64(x-other.Row(r)[j]), 2)
				}
			}
		}
		require.Less(t, sum, last)
		last = sum
	}
	_, err = Method.New(open(whole), peft.Options{"init_lora_weights": "loftq", "loftq_base": dir, "rank": 2}, 1)
	require.ErrorIs(t, err, peft.ErrNoFit)
}

// Without another model the base is quantised: nearer to what it was with A and B
// than without, the more rounds the nearer.
func TestLoftQAlone(t *testing.T) {
	build := func() *model.Model {
		ck, err := model.FromFile(testmodel.Default().HF())
		require.NoError(t, err)
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		return m
	}
	for _, bits := range []int{4, 8} {
		last := math.Inf(1)
		for _, rounds := range []int{1, 5} {
			m := build()
			ad, err := Method.New(m, peft.Options{"init_lora_weights": "loftq", "rank": 8, "target_modules": "q_proj,down_proj", "loftq_config": map[string]any{"loftq_bits": bits, "loftq_iter": rounds}}, 1)
			require.NoError(t, err)
			raw, err := ad.Config()
			require.NoError(t, err)
			require.Contains(t, string(raw), `"init_lora_weights": "loftq"`)
			require.Contains(t, string(raw), "loftq_iter")
			bare, full := 0.0, 0.0
			whole := build()
			for _, s := range ad.(*adapter).cfg.sites {
				for _, mod := range whole.Modules {
					if mod.Path != s.at.Path {
						continue
					}
					q := s.at.Weight() // the quantised one
					w := (&tuner.Place{Path: s.at.Path, Mod: mod, Out: s.at.Out, In: s.at.In}).Weight()
					bare += distance(w, q)
					(&linear{s}).MergeRows(q, 0, q.Rows, 1)
					full += distance(w, q)
				}
			}
			require.Positive(t, full)
			require.Less(t, full, bare)
			require.Less(t, full, last)
			last = full
		}
	}
	tied := build()
	_, err := Method.New(tied, peft.Options{"init_lora_weights": "loftq", "target_modules": "lm_head"}, 1)
	require.ErrorContains(t, err, "shares its weight")
	for _, bad := range []map[string]any{{"loftq_bits": 2}, {"loftq_iter": 0}} {
		_, err = Method.New(build(), peft.Options{"init_lora_weights": "loftq", "loftq_config": bad}, 1)
		require.ErrorIs(t, err, peft.ErrConfig)
	}
}

func distance(a, b kernels.Mat) float64 {
	sum := 0.0
	for r := range a.Rows {
		for i, v := range a.Row(r) {
			sum += math.Pow(float64(v-b.Row(r)[i]), 2)
		}
	}
	return sum
}

// A model that is quantised already asks for the one that it was made of, or to be
// quantised again in so many words.
func TestLoftQOfQuantised(t *testing.T) {
	coarse := func() *model.Model {
		ck, err := model.FromFile(testmodel.Default().HF())
		require.NoError(t, err)
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		for _, mod := range m.Modules {
			if w := mod.Weight(); strings.HasSuffix(mod.Path, "_proj") {
				q := quantised((&tuner.Place{Path: mod.Path, Mod: mod, Out: w.Out, In: w.In}).Weight(), 8)
				mod.SetWeight(&nn.Weight{Name: w.Name, Out: w.Out, In: w.In, Frozen: q.weight()})
			}
		}
		return m
	}
	_, err := Method.New(coarse(), peft.Options{"init_lora_weights": "loftq"}, 1)
	require.ErrorIs(t, err, peft.ErrNoFit)
	require.ErrorContains(t, err, "loftq_base")
	_, err = Method.New(coarse(), peft.Options{"init_lora_weights": "loftq", "loftq_config": map[string]any{"loftq_bits": 4}}, 1)
	require.NoError(t, err)
}

// The blocks of both quantisations, of any size.
func TestCoarse(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, shape := range [][2]int{{1, 1}, {3, 5}, {2, 64}, {7, 33}, {5, 128}, {1, 65}} {
		m := kernels.NewMat(shape[0], shape[1])
		for i := range m.Data {
			m.Data[i] = float32(rng.NormFloat64())
		}
		for _, bits := range []int{4, 8} {
			q := quantised(m, bits)
			got, w := q.mat(), q.weight()
			// Mean squares. The codes of 4 bits lie at most 0.3 of the largest number of a block
			// apart, which is about 3 of 64 normal ones: 0.9²/12 is 0.07. For 8 bits 0.001 is a
			// safety factor of 20 over the 4e-5 measured; 4 bits leave 0.007 and more.
			require.LessOrEqual(t, distance(m, got), float64(len(m.Data))*map[int]float64{4: 0.1, 8: 0.001}[bits])
			require.Equal(t, got, quantised(got, bits).mat(), "what is quantised stays") // LoftQ on loading a saved base
			row := make([]float32, shape[1])
			frozen := &nn.Weight{Out: shape[0], In: shape[1], Frozen: w}
			for r := range shape[0] {
				frozen.Row(row, r)
				require.Equal(t, got.Row(r), row)
			}
		}
	}
	zero := kernels.NewMat(2, 64)
	for _, bits := range []int{4, 8} {
		require.Equal(t, zero, quantised(zero, bits).mat())
	}
}
