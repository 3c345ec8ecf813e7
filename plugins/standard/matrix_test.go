package standard_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// small are ranks that fit models of 32 features, where a default cannot.
var small = map[string]peft.Options{
	"compacter":   {"reduction_factor": 2},
	"compacterpp": {"reduction_factor": 2},
	"fourierft":   {"n_frequency": 100},
	"miss":        {"r": 8},
	"olora":       {"r": 8},
	"psoft":       {"r": 8},
	"road":        {"group_size": 8},
	"shira":       {"r": 8},
	"waveft":      {"n_frequency": 100},
}

// unfit lists the pairs of method and family that are expected not to fit, by
// the reason; no family stands for all.
var unfit = []struct {
	method, why string
	families    []string
}{
	{"bitfit", "no layer has a bias", []string{"llama", "llama-classifier", "qwen3", "gemma2", "phi3", "t5", "t5-gated"}},
	{"adaption-prompt", "defined for the attention of Llama, Qwen 2 and GPT-2", []string{"qwen3", "gemma2", "phi3", "bert", "roberta", "distilbert", "bert-tokens",
		"bert-bare", "t5", "t5-gated", "bart", "marian"}},
	{"cpt", "defined for models that write text alone", []string{"llama-classifier", "bert", "roberta", "distilbert", "bert-tokens", "bert-bare", "t5", "t5-gated", "bart", "marian"}},
	{"shadow", "it follows the blocks of decoder-only models", []string{"bert", "roberta", "distilbert", "bert-tokens", "bert-bare", "t5", "t5-gated", "bart", "marian"}},
	{"xlora", "it weighs LoRA adapters that exist", nil},
	{"unipelt", "its gate reads what a query projection of its own reads", []string{"phi3"}},
}

// unmerged are the methods that merge into biases, by the families that have none there.
var unmerged = map[string][]string{
	"beft": {"llama", "llama-classifier", "qwen3", "gemma2", "phi3", "t5", "t5-gated"},
}

func unfitting(method, family string) (string, bool) {
	for _, u := range unfit {
		if u.method == method && (u.families == nil || slices.Contains(u.families, family)) {
			return u.why, true
		}
	}
	return "", false
}

// identities are the methods whose fresh adapter leaves every model as it is.
var identities = []string{
	"adalora", "adamss", "adaption-prompt", "beft", "bitfit", "deft", "delora", "dora", "frod", "full", "glora", "gralora", "hira", "ia3", "last-layer", "lily", "ln-tuning",
	"loha", "lokr", "lora", "lora-fa", "loraplus", "miss", "oft", "osf", "olora", "parallel", "peanut", "pissa", "poly", "psoft", "pvera", "randlora", "road", "rslora", "shadow", "shira",
	"supertuning", "tinylora", "trainabletokens", "vera", "waveft",
}

// constants are the methods that by definition take something they compute from
// their parameters as a constant of the gradient (DoRA's norms) or project it (OSF), which differences
// of the loss do not.
var constants = []string{"dora", "osf"}

// drawing are the methods that draw numbers while they train: the loss of a few steps says
// more of the draws than of what is learned.
var drawing = []string{"poly", "pvera"}

// wholeText are the methods whose effect on a token depends on the tokens after
// it (gates and mixtures that are means over a text), so that no cache gives the same.
var wholeText = []string{"lily", "unipelt"}

// Every method on every family with nothing but its defaults: it fits and does
// all that a method promises, or it says what would fit.
func TestMatrix(t *testing.T) {
	write(t, t.TempDir())
	for _, method := range peft.Methods() {
		info := method.Info()
		for _, f := range families {
			t.Run(info.Name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				cell(t, method, f)
			})
		}
	}
}

func cell(t *testing.T, method peft.Method, f family) {
	info := method.Info()
	m := f.load(t)
	before := logits(m)
	ad, err := method.New(m, small[info.Name], 42)
	why, expected := unfitting(info.Name, f.name)
	if err != nil {
		require.True(t, errors.Is(err, peft.ErrNoFit) || errors.Is(err, peft.ErrConfig), "an error of no kind: %v", err)
		require.True(t, useful(err, info), "the error does not say what would fit: %v", err)
		require.True(t, expected, "does not fit: %v", err)
		return
	}
	require.False(t, expected, "fits, although the table says: %s", why)
	if slices.Contains(identities, info.Name) {
		require.LessOrEqual(t, maxDiff(t, before, logits(m)), bound.Output, "a fresh adapter changes the output")
	}

	steps := 6
	if slices.Contains(drawing, info.Name) {
		steps = 40
	}
	seen := losses(t, m, ad, min(info.LearningRate, 0.02), info.WeightDecay, steps)
	require.Less(t, seen[len(seen)-1], seen[0], "training does not lower the loss: %v", seen)
	if !slices.Contains(wholeText, info.Name) {
		inPieces(t, m)
	}

	want := logits(m)
	require.Greater(t, maxDiff(t, before, want), bound.Output, "the adapter changes nothing")
	dir := filepath.Join(t.TempDir(), "adapter")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	again := f.load(t)
	_, err = peft.Attach(again, dir, 1)
	require.NoError(t, err)
	require.LessOrEqual(t, maxDiff(t, want, logits(again)), bound.Output, "saved and loaded")

	merged := filepath.Join(t.TempDir(), "merged")
	_, err = convert.Merge(context.Background(), f.folder(), []convert.AdapterRef{{Path: dir, Scale: 1}}, merged, convert.Options{})
	if info.NotMergeable != "" || slices.Contains(unmerged[info.Name], f.name) {
		require.ErrorIs(t, err, peft.ErrNotMergeable)
		require.ErrorContains(t, err, info.NotMergeable)
	} else {
		require.NoError(t, err)
		require.LessOrEqual(t, maxDiff(t, want, logits(load(t, merged, model.Options{}))), bound.Output, "merged")
	}

	if !slices.Contains(constants, info.Name) {
		stir(ad, 0.05)
		gradients(t, m, ad)
	}
}

// inPieces checks that tokens that come to a cache in two pieces give the logits
// that they give at once.
func inPieces(t *testing.T, m *model.Model) {
	t.Helper()
	if !m.Options.Task.Generates() {
		return
	}
	d := dataset(m)
	b := d.Batch([]int{1})
	tape := nn.NewTape()
	defer tape.Close()
	want := append([]float32(nil), m.Logits(tape, b, nil).Mat().Data...)
	cache := m.NewCache(1)
	var got []float32
	for _, piece := range [][2]int{{0, 3}, {3, len(b.Tokens)}} {
		p := model.Sequence(b.Tokens[piece[0]:piece[1]], piece[0])
		p.Source, p.Cache = b.Source, cache
		tape.Reset()
		got = append(got, m.Logits(tape, p, nil).Mat().Data...)
	}
	require.LessOrEqual(t, maxDiff(t, want, got), bound.Output, "with a cache")
}
