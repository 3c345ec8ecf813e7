package lora

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	_ "github.com/peftkit/peftkit/formats/hfmodel"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
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
	_, err = Method.New(open(whole), peft.Options{"init_lora_weights": "loftq"}, 1)
	require.ErrorIs(t, err, peft.ErrNoFit)
}
