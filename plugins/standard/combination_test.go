package standard_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// combinations are methods of all groups, two and three at once.
var combinations = []string{
	"lora+prompt-tuning", "bitfit+houlsby+prompt-tuning", "lora+ia3", "prefix-tuning+parallel", "lora+bitfit", "ln-tuning+pfeiffer",
	"prompt-tuning+prefix-tuning", "p-tuning+lora", "compacter+bitfit+ia3", "houlsby+parallel", "oft+lora", "full+prompt-tuning",
	"last-layer+lora", "vera+lokr+prefix-tuning", "attention-prefix+lora", "frod+lora",
}

// A combination is one thing: trained, saved in one folder, loaded, and merged as
// far as its parts can be; the rest stays adapters that fit the merged model.
func TestCombinations(t *testing.T) {
	write(t, t.TempDir())
	for _, word := range combinations {
		for _, name := range []string{"llama", "gpt2", "bert", "bert-bare", "t5-gated", "bart"} {
			t.Run(word+"/"+name, func(t *testing.T) {
				t.Parallel()
				combine(t, word, familyOf(t, name))
			})
		}
	}
}

func combine(t *testing.T, word string, f family) {
	methods, err := peft.ParseMethods(word)
	require.NoError(t, err)
	var parts []peft.Part
	var merges, stays []string
	for _, m := range methods {
		info := m.Info()
		if _, no := unfitting(info.Name, f.name); no {
			t.Skipf("%s does not fit", info.Name)
		}
		o := small[info.Name]
		if strings.HasSuffix(info.Name, "tuning") && info.Group == peft.PromptBased {
			o = peft.Options{"num_virtual_tokens": 5} // two of them share 40 positions
		}
		parts = append(parts, peft.Part{Method: m, Options: o})
		if info.NotMergeable == "" {
			merges = append(merges, info.Name)
		} else {
			stays = append(stays, info.Name)
		}
	}
	m := f.load(t)
	ad, err := peft.New(m, parts, 42)
	require.NoError(t, err)
	seen := losses(t, m, ad, 2e-3, 0, 6)
	require.Less(t, seen[len(seen)-1], seen[0], "training does not lower the loss: %v", seen)
	want := logits(m)

	dir := filepath.Join(t.TempDir(), "adapter")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	again := f.load(t)
	_, err = peft.Attach(again, dir, 1)
	require.NoError(t, err)
	require.LessOrEqual(t, maxDiff(t, want, logits(again)), bound.Output, "saved and loaded")
	stir(ad, 0.02)
	gradients(t, m, ad)

	merged := filepath.Join(t.TempDir(), "merged")
	r, err := convert.Merge(context.Background(), f.folder(), []convert.AdapterRef{{Path: dir, Scale: 1}}, merged, convert.Options{})
	if len(merges) == 0 {
		require.ErrorIs(t, err, peft.ErrNotMergeable)
		return
	}
	require.NoError(t, err)
	require.Len(t, r.Adapters, len(merges))
	require.Len(t, r.Left, len(stays))
	back := load(t, merged, model.Options{})
	for i, left := range r.Left {
		require.True(t, strings.HasSuffix(left, "-"+stays[i]), left)
		_, err := peft.Attach(back, left, 1)
		require.NoError(t, err, left)
	}
	require.LessOrEqual(t, maxDiff(t, want, logits(back)), bound.Output, "merged, with %v attached", stays)
}

// The order in which parts are attached must not matter to what the whole can do:
// prompts leave each other room.
func TestCombinationsReserve(t *testing.T) {
	write(t, t.TempDir())
	f := familyOf(t, "gpt2")
	m := f.load(t)
	all := m.MaxPositions
	var parts []peft.Part
	for _, name := range []string{"prompt-tuning", "prefix-tuning"} {
		p, err := peft.ByName(name)
		require.NoError(t, err)
		parts = append(parts, peft.Part{Method: p, Options: peft.Options{"num_virtual_tokens": 10}})
	}
	_, err := peft.New(m, parts, 1)
	require.NoError(t, err)
	require.Equal(t, all-20, m.MaxPositions)
	tape := nn.NewTape()
	defer tape.Close()
	tokens := slices.Repeat([]int32{3}, m.MaxPositions)
	require.Equal(t, len(tokens), m.Logits(tape, model.Sequence(tokens, 0), nil).Rows)
}
