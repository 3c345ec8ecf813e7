package lora

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

func batchesOf(m *model.Model, count, rows int) []*model.Batch {
	var out []*model.Batch
	for k := range count {
		b := model.Sequence(nil, 0)
		b.Seqs = []nn.Span{{Start: 0, End: rows}}
		for i := range rows {
			b.Tokens = append(b.Tokens, int32((i*i+7*k*i+k)%m.VocabSize))
			b.Pos = append(b.Pos, int32(i))
			b.Labels = append(b.Labels, int32(i%m.VocabSize))
		}
		out = append(out, b)
	}
	return out
}

// EVA moves ranks between modules, keeps their sum and scale, and what it saves
// loads again.
func TestEVA(t *testing.T) {
	for name, o := range map[string]peft.Options{
		"plain":      {"rank": 4, "init_lora_weights": "eva"},
		"no moves":   {"rank": 4, "init_lora_weights": "eva", "eva_config": map[string]any{"rho": 1.0}},
		"dora":       {"rank": 3, "init_lora_weights": "eva", "use_dora": true, "use_rslora": true},
		"lora-fa":    {"rank": 4, "init_lora_weights": "eva", "lora_fa": true, "target_modules": "q_proj,down_proj"},
		"far":        {"rank": 2, "init_lora_weights": "eva", "eva_config": map[string]any{"rho": 4.0, "whiten": true}},
		"embeddings": {"rank": 4, "init_lora_weights": "eva", "target_modules": "embed_tokens,q_proj,v_proj"},
	} {
		t.Run(name, func(t *testing.T) {
			m := openModel(t)
			ad, err := Method.New(m, o, 1)
			require.NoError(t, err)
			c := ad.(*adapter).cfg
			budget := 0
			scales := map[string]float32{}
			for _, s := range c.sites {
				budget += s.rank
				scales[s.at.Path] = s.scale
			}
			list := batchesOf(m, 3, 9)
			require.NoError(t, ad.(peft.Calibrator).Calibrate(context.Background(), m, slices.Values(list)))
			sum := 0
			for _, s := range c.sites {
				sum += s.rank
				require.Equal(t, []int{s.rank, s.a.Shape[1]}, s.a.Shape)
				if !c.UseRSLoRA {
					// alpha grows as the rank does: 16 times a rank, over 1 or 2, which does not round.
					require.Equal(t, scales[s.at.Path], s.scale)
				}
			}
			require.Equal(t, budget, sum)
			for _, p := range ad.Params() {
				for i := range p.V.Data {
					p.V.Data[i] += 0.01 * float32(i%7)
				}
			}
			tape := nn.NewTape()
			want := slices.Clone(m.Logits(tape, list[0], nil).Data)
			dir := filepath.Join(t.TempDir(), "a")
			require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
			again := openModel(t)
			_, err = peft.Attach(again, dir, 1)
			require.NoError(t, err)
			got := again.Logits(nn.NewTape(), list[0], nil).Data
			for i := range want {
				require.InDelta(t, want[i], got[i], bound.Output)
			}
		})
	}
}

func TestEVAWithoutData(t *testing.T) {
	m := openModel(t)
	ad, err := Method.New(m, peft.Options{"rank": 8, "init_lora_weights": "eva"}, 1)
	require.NoError(t, err)
	err = ad.(peft.Calibrator).Calibrate(context.Background(), m, slices.Values([]*model.Batch(nil)))
	require.ErrorIs(t, err, peft.ErrConfig)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = ad.(peft.Calibrator).Calibrate(ctx, m, slices.Values(batchesOf(m, 2, 5)))
	require.ErrorIs(t, err, context.Canceled)
}
