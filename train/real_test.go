package train

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	_ "github.com/peftkit/peftkit/formats/gguf"
	_ "github.com/peftkit/peftkit/formats/llama2c"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
)

// lora loads a model and attaches LoRA to all its linear layers.
func lora(t testing.TB, path string) (*model.Model, peft.Adapter, *tokenizer.Tokenizer) {
	t.Helper()
	m, err := model.Load(path, model.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	tok, err := tokenizer.FromModel(m.Source)
	require.NoError(t, err)
	method, err := peft.ByName("lora")
	require.NoError(t, err)
	ad, err := method.New(m, peft.Options{"r": 8, "lora_dropout": 0.05}, 42)
	require.NoError(t, err)
	return m, ad, tok
}

// A trained model of real stories predicts a story well before, and learns a
// sentence it has not seen.
func TestStories(t *testing.T) {
	m, ad, tok := lora(t, filepath.Join(testdata.Dir(t, "models", "stories260K"), "stories260K.bin"))
	story := data.Record{Kind: data.Text, Text: "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."}
	odd := data.Record{Kind: data.Text, Text: "The committee adjourned without reaching a verdict on the tariff."}
	load := func(r data.Record) *data.Dataset {
		d, err := data.New([]data.Record{r}, data.Options{Tokenizer: tok})
		require.NoError(t, err)
		return d
	}
	easy, err := Evaluate(t.Context(), m, load(story))
	require.NoError(t, err)
	require.Less(t, easy.Loss, 1.0)
	before, err := Evaluate(t.Context(), m, load(odd))
	require.NoError(t, err)
	require.Greater(t, before.Loss, 2.5)
	c := Default()
	c.MaxSteps, c.GradAccum, c.LearningRate = 60, 1, 1e-2
	_, err = Run(t.Context(), c, m, ad, load(odd))
	require.NoError(t, err)
	after, err := Evaluate(t.Context(), m, load(odd))
	require.NoError(t, err)
	require.Less(t, after.Loss, 0.3)
	require.Greater(t, after.Top1, 0.9)
}

// On a quantised model of real size, threads and an interruption change no bit.
func TestSmolLM2SameBytes(t *testing.T) {
	path := testdata.SmolLM2(t)
	defer kernels.SetThreads(0)
	var want []uint32
	for _, threads := range []int{2, 1, 8} {
		kernels.SetThreads(threads)
		m, ad, tok := lora(t, path)
		var records []data.Record
		for _, q := range []string{"cheese", "bread", "a glass of water and the bill"} {
			records = append(records, data.Record{Kind: data.Completion, Prompt: "Translate to French: " + q, Completion: "fromage"})
		}
		ds, err := data.New(records, data.Options{Tokenizer: tok, MaxSeqLen: 64, Chat: true})
		require.NoError(t, err)
		c := Default()
		c.Output, c.MaxSteps, c.GradAccum, c.Pack, c.Clip = t.TempDir(), 3, 2, false, 0.1
		r, err := Run(t.Context(), c, m, ad, ds)
		require.NoError(t, err)
		require.Equal(t, 3, r.Steps)
		if got := paramBits(ad); want == nil {
			want = got
			require.Less(t, r.Loss, 11.0) // small as the model is, it does not know the word
		} else {
			require.Equal(t, want, got, "%d threads", threads)
		}
	}
}
