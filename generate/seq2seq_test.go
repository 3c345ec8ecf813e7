package generate

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	_ "github.com/peftkit/peftkit/formats/hfmodel"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/bart"
	_ "github.com/peftkit/peftkit/model/t5"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tokenizer"
)

// small builds a seeded model.
func small(t *testing.T, s testmodel.Source) *model.Model {
	t.Helper()
	ck, err := model.FromFile(s.HF())
	require.NoError(t, err)
	m, err := model.Build(ck, model.Options{})
	require.NoError(t, err)
	return m
}

// insert puts n rows before every sequence of a stack, as prompt tuning does.
func insert(m *model.Model, in *model.Input, n int) {
	m.Reserve(n)
	rows := &nn.Var{Rows: n, Cols: in.Embedding.W.In, Data: make([]float32, n*in.Embedding.W.In)}
	for i := range rows.Data {
		rows.Data[i] = 0.4 * float32(math.Sin(float64(7*i+1)))
	}
	in.Hook(func(t *nn.Tape, r *model.Rows) { r.Insert(t, rows, n) })
}

var families = map[string]testmodel.Source{
	"llama": testmodel.Default(), "bart": testmodel.BART(), "marian": testmodel.Marian(), "t5": testmodel.T5(), "t5 gated": testmodel.T5Gated(),
}

// What is written with a cache is the likeliest after one pass over all, also
// where a method puts rows before the tokens, which shift their positions.
func TestInsertedRows(t *testing.T) {
	for name, source := range families {
		for _, rows := range []int{0, 3} {
			t.Run(fmt.Sprint(name, rows), func(t *testing.T) {
				m := small(t, source)
				prompt := []int32{5, 9, 30, 7, 1}
				plain, err := Tokens(t.Context(), m, prompt, Options{MaxTokens: 8}, nil)
				require.NoError(t, err)
				if rows > 0 {
					for i, in := range m.Inputs {
						insert(m, in, rows+i)
					}
				}
				o := Options{MaxTokens: 8, Chunk: 2}
				r, err := Tokens(t.Context(), m, prompt, o, nil)
				require.NoError(t, err)
				if rows > 0 {
					require.NotEqual(t, plain.Tokens, r.Tokens)
				}
				wrote := slices.Clone(r.Tokens)
				if r.StopToken >= 0 {
					wrote = append(wrote, r.StopToken)
				}
				whole := slices.Concat(prompt, wrote)
				b, first := model.Sequence(whole, 0), len(prompt)-1
				if m.EncoderDecoder() {
					b = model.Sequence(append([]int32{m.Start}, wrote...), 0)
					b.Source, first = model.Sequence(prompt, 0), 0
				}
				tape := nn.NewTape()
				logits := m.Logits(tape, b, nil).Mat()
				for i, id := range wrote {
					if i == o.MaxTokens-1 && m.Writing != nil {
						break // the end was forced
					}
					require.Equal(t, argmax(logits.Row(first+i)), id, "token %d of %v", i, wrote)
				}
				// Several at once.
				prompts := [][]int32{prompt, {3}, {8, 8, 20, 21, 22, 23, 24}, prompt}
				all, err := Batch(t.Context(), m, prompts, o)
				require.NoError(t, err)
				for i, p := range prompts {
					one, err := Tokens(t.Context(), m, p, o, nil)
					require.NoError(t, err)
					require.Equal(t, one.Tokens, all[i].Tokens, "prompt %d", i)
					require.Equal(t, one.StopToken, all[i].StopToken)
				}
			})
		}
	}
}

// The table of positions ends earlier for tokens when rows stand before them.
func TestRowsTakePositions(t *testing.T) {
	m := small(t, testmodel.BART()) // 64 positions
	insert(m, m.Inputs[0], 4)
	m.Writing.EOS, m.Writing.ForcedEOS = nil, nil
	_, err := Tokens(t.Context(), m, make([]int32, 61), Options{}, nil)
	require.ErrorIs(t, err, ErrPrompt)
	require.ErrorContains(t, err, "the encoder takes 60")
	r, err := Tokens(t.Context(), m, make([]int32, 60), Options{}, nil)
	require.NoError(t, err)
	require.Len(t, r.Tokens, 64-4-1)
	all, err := Batch(t.Context(), m, [][]int32{make([]int32, 60), {4}}, Options{})
	require.NoError(t, err)
	require.Equal(t, r.Tokens, all[0].Tokens)
	require.Len(t, all[1].Tokens, 59)

	l := small(t, testmodel.Default()) // 128 positions
	insert(l, l.Inputs[0], 5)
	r, err = Tokens(t.Context(), l, make([]int32, 100), Options{}, nil)
	require.NoError(t, err)
	require.Len(t, r.Tokens, 23)
}

func TestForcedAndBannedTokens(t *testing.T) {
	m := small(t, testmodel.BART())
	m.Writing = &model.Writing{EOS: []int32{1}, ForcedBOS: []int32{7}, ForcedEOS: []int32{1}}
	free, err := Tokens(t.Context(), m, []int32{5, 6}, Options{MaxTokens: 6}, nil)
	require.NoError(t, err)
	require.Equal(t, int32(7), free.Tokens[0])
	require.Len(t, free.Tokens, 5)
	require.Equal(t, int32(1), free.StopToken)
	m.Writing.Banned = []int32{free.Tokens[1]}
	r, err := Tokens(t.Context(), m, []int32{5, 6}, Options{MaxTokens: 6}, nil)
	require.NoError(t, err)
	require.NotContains(t, r.Tokens, free.Tokens[1])

	_, err = Tokens(t.Context(), m, []int32{48}, Options{}, nil)
	require.ErrorIs(t, err, ErrPrompt)
	_, err = Batch(t.Context(), m, [][]int32{{1}, {}}, Options{})
	require.ErrorContains(t, err, "prompt 2")
	m.Start = -1
	_, err = Tokens(t.Context(), m, []int32{5}, Options{}, nil)
	require.ErrorIs(t, err, model.ErrMismatch)
	ck, err := model.FromFile(testmodel.BART().HF())
	require.NoError(t, err)
	c, err := model.Build(ck, model.Options{Task: model.SequenceClassification})
	require.NoError(t, err)
	_, err = Tokens(t.Context(), c, []int32{5}, Options{}, nil)
	require.ErrorIs(t, err, model.ErrUnsupported)
}

// Samples of many at once are those of each alone with the seed of its place.
func TestBatchSamples(t *testing.T) {
	for name, source := range families {
		m := small(t, source)
		prompts := [][]int32{{5, 6}, {5, 6}, {40, 3, 2}}
		o := Options{MaxTokens: 9, Temperature: 1, Seed: 3}
		all, err := Batch(t.Context(), m, prompts, o)
		require.NoError(t, err)
		for i, p := range prompts {
			each := o
			each.Seed += uint64(i)
			r, err := Tokens(t.Context(), m, p, each, nil)
			require.NoError(t, err)
			require.Equal(t, r.Tokens, all[i].Tokens, "%s %d", name, i)
		}
	}
}

// A user's model of words and their sounds: every answer is what Text writes.
func TestTranslations(t *testing.T) {
	dir := testdata.Dir(t, "models", "us_bart")
	folder := t.TempDir()
	for from, to := range map[string]string{"us_bart_config.json": "config.json", "us_bart.safetensors": "model.safetensors"} {
		b, err := os.ReadFile(filepath.Join(dir, from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, to), b, 0o600))
	}
	m, err := model.Load(folder, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	tok, err := tokenizer.FromModel(m.Source)
	require.NoError(t, err)
	ds := &data.Dataset{Task: model.Seq2SeqLM}
	want := map[string]string{"Memphis": "mˈɛmpfəs", "Hello": "hˈɛlO", "walking": "wrong", "queue": "kjˈu"}
	for _, word := range slices.Sorted(maps.Keys(want)) {
		target := tok.EncodeTarget(want[word])
		ds.Examples = append(ds.Examples, data.Example{
			Source: tok.Encode(word, true), Tokens: append([]int32{m.Start}, target...), Labels: append([]int32{data.Ignore}, target...), File: "a", Line: 1,
		})
	}
	var seen []Match
	r, err := ExactMatch(t.Context(), m, tok, ds, func(c Match) { seen = append(seen, c) })
	require.NoError(t, err)
	require.Equal(t, len(want), r.Examples)
	equal := 0
	for _, c := range seen {
		text, _, err := Text(t.Context(), m, tok, tok.Encode(c.Prompt, true), Options{MaxTokens: 30}, nil)
		require.NoError(t, err)
		require.Equal(t, text, c.Got)
		if c.Equal = c.Got == c.Want; c.Equal {
			equal++
		}
	}
	require.Equal(t, equal, r.Equal)
	require.GreaterOrEqual(t, equal, 2)
	require.Less(t, equal, len(want))
}
