package generate

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/data"
	_ "github.com/peftkit/peftkit/formats/gguf"
	_ "github.com/peftkit/peftkit/formats/llama2c"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/model/llama"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tokenizer"
)

func stories(t testing.TB) (*model.Model, *tokenizer.Tokenizer) {
	t.Helper()
	m, err := model.Load(filepath.Join(testdata.Dir(t, "models", "stories260K"), "stories260K.bin"), model.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	tok, err := tokenizer.FromModel(m.Source)
	require.NoError(t, err)
	return m, tok
}

// The greedy text that llama2.c prints for its model, from BOS alone.
func TestGreedyStory(t *testing.T) {
	m, tok := stories(t)
	golden, err := os.ReadFile(testdata.Dir(t, "models", "stories260K", "golden.md"))
	require.NoError(t, err)
	found := regexp.MustCompile(`(?s)-t 0\.0\n(.*?)\n` + "```").FindStringSubmatch(string(golden))
	require.NotNil(t, found)
	bos, ok := tok.BOS()
	require.True(t, ok)
	var pieces []string
	text, r, err := Text(t.Context(), m, tok, []int32{bos}, Options{MaxTokens: 256}, func(p string) error {
		pieces = append(pieces, p)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, found[1], strings.TrimSpace(text)[:len(found[1])])
	require.Equal(t, text, strings.Join(pieces, ""))
	require.Len(t, r.Tokens, 256)
	require.Equal(t, int32(-1), r.StopToken)
	require.Positive(t, r.TokensPerSecond())
	require.Positive(t, r.PromptTokensPerSecond())
}

// Token by token with the cache, the logits are those of one pass over all.
func TestCacheEqualsOnePass(t *testing.T) {
	m, tok := stories(t)
	ids := tok.Encode("Once upon a time, there was a little girl named Lily. She loved to play outside.", true)
	tape := nn.NewTape()
	whole := m.Logits(tape, model.Sequence(ids, 0), nil).Mat()
	for _, chunk := range []int{1, 3, 7, 100} {
		p, err := newPlan(m, Options{Chunk: chunk})
		require.NoError(t, err)
		w := &writer{plan: p, tape: nn.NewTape(), cache: m.NewCache(2)} // grows
		var got []float32
		for part := range slices.Chunk(ids, chunk) {
			got = w.step(part)
		}
		require.Equal(t, len(ids), w.cache.Len())
		require.InDeltaSlice(t, whole.Row(len(ids)-1), got, bound.Output, "chunks of %d", chunk)
		w = &writer{plan: p, tape: nn.NewTape(), cache: m.NewCache(len(ids))}
		got, err = w.read(t.Context(), ids)
		require.NoError(t, err)
		require.InDeltaSlice(t, whole.Row(len(ids)-1), got, bound.Output, "prompt in chunks of %d", chunk)
	}
}

func TestSamplingFollowsTheSeed(t *testing.T) {
	m, tok := stories(t)
	prompt := tok.Encode("Once upon a time", true)
	run := func(o Options) []int32 {
		o.MaxTokens = 40
		r, err := Tokens(t.Context(), m, prompt, o, nil)
		require.NoError(t, err)
		return r.Tokens
	}
	a := run(Options{Temperature: 1, TopP: 0.9, Seed: 1})
	require.Equal(t, a, run(Options{Temperature: 1, TopP: 0.9, Seed: 1}))
	require.NotEqual(t, a, run(Options{Temperature: 1, TopP: 0.9, Seed: 2}))
	greedy := run(Options{})
	require.Equal(t, greedy, run(Options{Temperature: 1, TopK: 1, Seed: 5}))
	require.Equal(t, greedy, run(Options{Temperature: 1, TopP: 1e-9, Seed: 5}))
	require.Equal(t, greedy, run(Options{Temperature: 1e-6, Seed: 5}))
}

// Samples come in the shares of the softmax, and only from the nucleus.
func TestSamplerShares(t *testing.T) {
	probs := []float64{0.1, 0.4, 0.05, 0.3, 0.15}
	logits := make([]float32, len(probs))
	for i, p := range probs {
		logits[i] = float32(math.Log(p)) + 3
	}
	for _, c := range []struct {
		o    Options
		want []float64
	}{
		{Options{Temperature: 1}, probs},
		{Options{Temperature: 1, TopP: 0.65}, []float64{0, 0.4 / 0.7, 0, 0.3 / 0.7, 0}},
		{Options{Temperature: 1, TopP: 0.72}, []float64{0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85}},
		{Options{Temperature: 1, TopK: 2}, []float64{0, 0.4 / 0.7, 0, 0.3 / 0.7, 0}},
		{Options{Temperature: 0.5}, []float64{0.01 / 0.285, 0.16 / 0.285, 0.0025 / 0.285, 0.09 / 0.285, 0.0225 / 0.285}},
	} {
		s := newSampler(c.o)
		const n = 20000
		got := make([]float64, len(probs))
		for range n {
			got[s.next(logits)] += 1.0 / n
		}
		// A share of n draws has a standard deviation of at most sqrt(0.25/n), 0.0035: 3.4 of them.
		// The seed is fixed, and what comes is off by 0.005.
		require.InDeltaSlice(t, c.want, got, 0.012)
		for i, w := range c.want {
			if w == 0 {
				require.Zero(t, got[i])
			}
		}
	}
	nan := float32(math.NaN())
	require.Equal(t, int32(-1), newSampler(Options{}).next([]float32{nan, nan}))
	require.Equal(t, int32(1), newSampler(Options{Temperature: 1}).next([]float32{nan, 1, float32(math.Inf(-1))}))
}

func TestStopLimitsAndErrors(t *testing.T) {
	m, tok := stories(t)
	prompt := tok.Encode("Once upon a time", true)
	all, err := Tokens(t.Context(), m, prompt, Options{MaxTokens: 10}, nil)
	require.NoError(t, err)
	r, err := Tokens(t.Context(), m, prompt, Options{MaxTokens: 10, Stop: []int32{all.Tokens[4]}}, nil)
	require.NoError(t, err)
	at := slices.Index(all.Tokens, all.Tokens[4])
	require.Equal(t, all.Tokens[:at], r.Tokens)
	require.Equal(t, all.Tokens[4], r.StopToken)

	full, err := Tokens(t.Context(), m, prompt, Options{}, nil)
	require.NoError(t, err)
	require.Equal(t, m.MaxPositions, len(prompt)+len(full.Tokens))

	_, err = Tokens(t.Context(), m, nil, Options{}, nil)
	require.ErrorIs(t, err, ErrPrompt)
	_, err = Tokens(t.Context(), m, make([]int32, m.MaxPositions), Options{}, nil)
	require.ErrorIs(t, err, ErrPrompt)
	_, err = Tokens(t.Context(), m, []int32{int32(m.VocabSize)}, Options{}, nil)
	require.ErrorIs(t, err, ErrPrompt)
	for _, o := range []Options{{MaxTokens: -1}, {Temperature: -1}, {Temperature: math.NaN()}, {TopP: 2}, {TopK: -1}} {
		_, err = Tokens(t.Context(), m, prompt, o, nil)
		require.ErrorIs(t, err, ErrOptions)
	}

	ctx, cancel := context.WithCancel(t.Context())
	r, err = Tokens(ctx, m, prompt, Options{MaxTokens: 100}, func(int32) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, all.Tokens[:1], r.Tokens)
	enough := errors.New("enough")
	r, err = Tokens(t.Context(), m, prompt, Options{MaxTokens: 100}, func(int32) error { return enough })
	require.ErrorIs(t, err, enough)
	require.Len(t, r.Tokens, 1)
}

func TestExactMatch(t *testing.T) {
	m, tok := stories(t)
	const prompt = "Once upon a time, there was"
	ids := tok.Encode(prompt, true)
	text, r, err := Text(t.Context(), m, tok, ids, Options{MaxTokens: 6}, nil)
	require.NoError(t, err)
	// The greedy story goes on, so with the end of the tokenizer it is longer
	// than the answer. Taken as the end, the seventh token makes it the answer.
	next, err := Tokens(t.Context(), m, append(slices.Clone(ids), r.Tokens...), Options{MaxTokens: 1}, nil)
	require.NoError(t, err)
	example := func(end int32, answer ...int32) data.Example {
		ex := data.Example{Tokens: slices.Concat(ids, answer, []int32{end}), File: "a", Line: 3}
		ex.Labels = slices.Clone(ex.Tokens)
		for i := range ids {
			ex.Labels[i] = data.Ignore
		}
		return ex
	}
	eos, _ := tok.EOS()
	ds := &data.Dataset{Examples: []data.Example{example(eos, r.Tokens...), example(next.Tokens[0], r.Tokens...), example(eos, 300, 301)}}

	var seen []Match
	got, err := ExactMatch(t.Context(), m, tok, ds, func(c Match) { seen = append(seen, c) })
	require.NoError(t, err)
	require.Equal(t, &MatchResult{Examples: 3}, got)
	require.Equal(t, strings.TrimSpace(text), seen[0].Want)
	require.True(t, strings.HasPrefix(seen[0].Got, seen[0].Want))
	require.Equal(t, prompt, strings.TrimSpace(seen[0].Prompt))
	require.Zero(t, got.Score())

	// What is certain is what writing gives.
	for _, c := range []struct {
		stop int32
		want []bool
	}{{eos, []bool{false, false, false}}, {next.Tokens[0], []bool{false, true, false}}} {
		p, err := newPlan(m, Options{})
		require.NoError(t, err)
		s := &scorer{plan: p, m: m, tok: tok, target: tok, stop: []int32{c.stop}, tape: nn.NewTape()}
		var group []task
		for i := range ds.Examples {
			x, ok := s.task(&ds.Examples[i])
			require.True(t, ok)
			group = append(group, x)
		}
		require.NoError(t, s.certain(group))
		for i := range group {
			require.Equal(t, c.want[i], group[i].equal, "stop %d, example %d", c.stop, i)
			known, err := s.match(t.Context(), &group[i])
			require.NoError(t, err)
			group[i].equal = false
			written, err := s.match(t.Context(), &group[i])
			require.NoError(t, err)
			require.Equal(t, written, known)
			require.True(t, written.Equal || !c.want[i])
		}
	}

	plain, err := data.New([]data.Record{{Kind: data.Text, Text: "a story"}}, data.Options{Tokenizer: tok})
	require.NoError(t, err)
	_, err = ExactMatch(t.Context(), m, tok, plain, nil)
	require.ErrorIs(t, err, ErrNoAnswers)
	_, err = ExactMatch(t.Context(), m, tok, &data.Dataset{}, nil)
	require.ErrorIs(t, err, ErrNoAnswers)
}

func TestLastAnswer(t *testing.T) {
	const no = data.Ignore
	for _, c := range []struct {
		labels     []int32
		start, end int
	}{
		{[]int32{no, no, 3, 4}, 2, 4}, {[]int32{no, 2, no, 4, 5, no}, 3, 5}, {[]int32{no, no}, -1, -1}, {nil, -1, -1}, {[]int32{no, 1}, 1, 2},
	} {
		s, e := lastAnswer(&data.Example{Labels: c.labels})
		require.Equal(t, []int{c.start, c.end}, []int{s, e}, "%v", c.labels)
	}
}
