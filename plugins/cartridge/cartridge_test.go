package cartridge_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/cartridge"
)

func TestConformance(t *testing.T) {
	o := func(more ...any) peft.Options {
		out := peft.Options{"virtual-tokens": 4, "start": "small"}
		for i := 0; i < len(more); i += 2 {
			out[more[i].(string)] = more[i+1]
		}
		return out
	}
	pefttest.Run(t, cartridge.Method, []pefttest.Case{
		{Name: "defaults", Options: peft.Options{}},
		{Name: "normal", Options: o("start", "normal")},
		{Name: "none frozen", Options: o("num_frozen_tokens", 0)},
		{Name: "three frozen", Options: o("num_frozen_tokens", 3)},
		{Name: "GPT2", Model: testmodel.GPT2(), Options: o()},
		{Name: "Gemma2", Model: testmodel.Gemma2(), Options: o()},
		{Name: "classifier", Model: testmodel.BERT(3), Options: o()},
		{Name: "seq2seq", Model: testmodel.BART(), Options: o()},
		{Name: "relative positions", Model: testmodel.T5(), Options: o()},
	})
}

func build(t *testing.T, s testmodel.Source) *model.Model {
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// A cartridge that begins from a text, or from the data, is that text: what follows has
// the logits that it has behind it.
func TestBeginsAsTheText(t *testing.T) {
	tokens := []int32{7, 8, 9, 10, 11, 12}
	for name, s := range map[string]testmodel.Source{"llama": testmodel.Default(), "gpt2": testmodel.GPT2(), "qwen3": testmodel.Qwen3()} {
		m := build(t, s)
		tape := nn.NewTape()
		defer tape.Close()
		want := slices.Clone(m.Logits(tape, model.Sequence(tokens, 0), []int32{3, 4, 5}).Mat().Data)
		for _, o := range []peft.Options{{"start_text": "a text"}, {}} {
			m := build(t, s)
			o["virtual-tokens"] = 3
			ad, err := cartridge.Method.New(m, o, 1)
			require.NoError(t, err)
			require.Equal(t, int64(2*2*m.Layers*m.KVSize), peft.Elements(ad.Params()), "one of three rows is frozen")
			if g, ok := ad.(peft.TextStarter); ok {
				require.ErrorIs(t, ad.(peft.Stepper).Begin(0, 1), peft.ErrConfig)
				require.Equal(t, []string{"a text"}, g.StartTexts())
				require.NoError(t, g.StartTokens([][]int32{tokens[:3]}))
			} else {
				require.NoError(t, ad.(peft.Calibrator).Calibrate(context.Background(), m, slices.Values([]*model.Batch{model.Sequence(tokens[:2], 0), model.Sequence(tokens[2:], 0)})))
			}
			tape.Reset()
			require.InDeltaSlice(t, want, m.Logits(tape, model.Sequence(tokens[3:], 0), nil).Mat().Data, bound.Output, "%s %v", name, o)

			dir := filepath.Join(t.TempDir(), "a")
			require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
			m = build(t, s)
			_, err = peft.Attach(m, dir, 1)
			require.NoError(t, err)
			tape.Reset()
			require.InDeltaSlice(t, want, m.Logits(tape, model.Sequence(tokens[3:], 0), nil).Mat().Data, bound.Output, "saved")
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, o := range []peft.Options{{"virtual-tokens": 0}, {"num_frozen_tokens": -1}, {"num_frozen_tokens": 20}, {"start": "ones"}, {"start": "text"}} {
		_, err := cartridge.Method.New(build(t, testmodel.Default()), o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}
