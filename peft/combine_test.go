package peft_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	_ "github.com/peftkit/peftkit/formats/hfpeft"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/llama"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	_ "github.com/peftkit/peftkit/plugins/bitfit"
	_ "github.com/peftkit/peftkit/plugins/ia3"
	_ "github.com/peftkit/peftkit/plugins/lora"
)

func biased(t *testing.T) *model.Model {
	c := testmodel.Default()
	c.Bias = true
	ck, err := model.FromFile(c.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

func logits(m *model.Model) []float32 {
	return append([]float32(nil), m.Logits(nn.NewTape(), model.Sequence([]int32{3, 1, 4, 1, 5}, 0), nil).Mat().Data...)
}

func combine(t *testing.T, m *model.Model, word string, o peft.Options) peft.Adapter {
	methods, err := peft.ParseMethods(word)
	require.NoError(t, err)
	parts, err := peft.SplitOptions(methods, o)
	require.NoError(t, err)
	ad, err := peft.New(m, parts, 42)
	require.NoError(t, err)
	return ad
}

func TestCombinationSavesAndLoads(t *testing.T) {
	m := biased(t)
	before := logits(m)
	ad := combine(t, m, "lora+ia3+bitfit", peft.Options{"rank": 2, "ia3.target-modules": "k_proj", "feedforward_modules": "none"})
	require.Equal(t, before, logits(m), "a fresh combination must not change the output")
	for k, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] += 0.01 * float32((i+k)%7-3)
		}
	}
	want := logits(m)
	require.NotEqual(t, before, want)

	dir := filepath.Join(t.TempDir(), "all")
	require.NoError(t, peft.Save(context.Background(), dir, ad, map[string][]byte{"README.md": []byte("x")}))
	parts, err := peft.Parts(dir)
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "1-lora"), filepath.Join(dir, "2-ia3"), filepath.Join(dir, "3-bitfit")}, parts)

	again := biased(t)
	loaded, err := peft.Attach(again, dir, 1)
	require.NoError(t, err)
	require.Equal(t, want, logits(again))
	require.Len(t, loaded.Params(), len(ad.Params()))
	// Saving twice to the same folder replaces it.
	require.NoError(t, peft.Save(context.Background(), dir, loaded, nil))
}

func TestCombinationRates(t *testing.T) {
	m := biased(t)
	ad := combine(t, m, "lora+bitfit", nil)
	methods, _ := peft.ParseMethods("lora+bitfit")
	ratio := methods[1].Info().LearningRate / methods[0].Info().LearningRate
	c := ad.(*peft.Combination)
	lr, _ := c.Rate(c.Parts[0].Params()[0])
	require.Equal(t, 1.0, lr)
	lr, _ = c.Rate(c.Parts[1].Params()[0])
	require.Equal(t, ratio, lr)
}

func TestCombinationErrors(t *testing.T) {
	_, err := peft.ParseMethods("lora+lora")
	require.ErrorIs(t, err, peft.ErrConfig)
	_, err = peft.ParseMethods("lora+nothing")
	require.ErrorIs(t, err, peft.ErrConfig)
	methods, err := peft.ParseMethods("lora+ia3")
	require.NoError(t, err)
	_, err = peft.SplitOptions(methods, peft.Options{"no_such_key": 1})
	require.ErrorIs(t, err, peft.ErrConfig)

	dir := t.TempDir()
	for _, bad := range []string{`{`, `{"kind":"other"}`, `{"kind":"peftkit combination","version":1,"parts":[]}`, `{"kind":"peftkit combination","version":1,"parts":[{"method":"lora","folder":"../x"}]}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, peft.IndexName), []byte(bad), 0o666))
		_, err := peft.Parts(dir)
		require.Error(t, err, bad)
	}
	one, err := peft.Parts(filepath.Join(dir, "nowhere"))
	require.NoError(t, err)
	require.Len(t, one, 1)
}
