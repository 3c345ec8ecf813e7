package generate

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/mistral"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	_ "github.com/peftkit/peftkit/plugins/standard"
)

// mistral is the default model with a window of 4 tokens.
type mistral struct{}

func (mistral) HF() *formats.Model {
	m := testmodel.Default().HF()
	var c map[string]any
	if err := json.Unmarshal(m.Config, &c); err != nil {
		panic(err)
	}
	c["architectures"], c["model_type"], c["sliding_window"] = []string{"MistralForCausalLM"}, "mistral", 4
	delete(c, "attention_bias")
	delete(c, "mlp_bias")
	m.Config, _ = json.Marshal(c)
	return m
}

// With every method that puts rows or keys before the tokens, what is written
// with a cache, alone and many at once, is the likeliest after one pass over all.
func TestMethodsWithCache(t *testing.T) {
	all := map[string]testmodel.Source{"mistral": mistral{}}
	for name, s := range families {
		all[name] = s
	}
	prompts := [][]int32{{5, 9, 30, 7, 1}, {3}, {8, 8, 20, 21, 22, 23, 24}}
	for name, source := range all {
		for _, method := range []string{"", "prompt-tuning", "prefix-tuning", "p-tuning", "lora"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				m := small(t, source)
				if m.Writing != nil {
					m.Writing.ForcedEOS = nil
				}
				if method != "" {
					p, err := peft.ByName(method)
					require.NoError(t, err)
					ad, err := p.New(m, peft.Options{}, 7)
					require.NoError(t, err)
					for k, p := range ad.Params() {
						for i := range p.V.Data {
							p.V.Data[i] += 0.05 * float32(math.Sin(float64(13*k+7*i+1)))
						}
					}
				}
				o := Options{MaxTokens: 10, Chunk: 3}
				together, err := Batch(t.Context(), m, prompts, o)
				require.NoError(t, err)
				for k, prompt := range prompts {
					r, err := Tokens(t.Context(), m, prompt, o, nil)
					require.NoError(t, err)
					require.Equal(t, r.Tokens, together[k].Tokens)
					wrote := slices.Clone(r.Tokens)
					b, first := model.Sequence(slices.Concat(prompt, wrote), 0), len(prompt)-1
					if m.EncoderDecoder() {
						b = model.Sequence(append([]int32{m.Start}, wrote...), 0)
						b.Source, first = model.Sequence(prompt, 0), 0
					}
					tape := nn.NewTape()
					logits := m.Logits(tape, b, nil).Mat()
					for i, id := range wrote {
						require.Equal(t, argmax(logits.Row(first+i)), id, "token %d of %v", i, wrote)
					}
				}
			})
		}
	}
}
