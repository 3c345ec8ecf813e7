package convert

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// withAdapter returns the logits of a model with an adapter.
func withAdapter(t *testing.T, base, adapter string) []float32 {
	t.Helper()
	m, err := model.Load(base, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	_, err = peft.Attach(m, adapter, 1)
	require.NoError(t, err)
	return outputs(m)
}

func TestFactors(t *testing.T) {
	base := folder(t, testmodel.Default().HF())
	for name, c := range map[string]struct {
		word    string
		options peft.Options
		rank    int
		exact   bool
	}{
		"lora of the same rank": {"lora", peft.Options{"rank": 2}, 2, true},
		"ia3 at full rank":      {"ia3", nil, 64, true},
		"ia3 at rank 4":         {"ia3", nil, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, want := combined(t, base, c.word, model.Options{}, c.options)
			lora := filepath.Join(t.TempDir(), "lora")
			r, err := Adapter(context.Background(), dir, lora, Options{Base: base, Rank: c.rank})
			require.NoError(t, err)
			if c.exact {
				require.Less(t, r.Residual, 1e-3) // a safety factor of 8 over the 1.3e-4 measured
				require.InDeltaSlice(t, want, withAdapter(t, base, lora), bound.Output)
			} else {
				require.Greater(t, r.Residual, 0.1)
				require.Less(t, r.Residual, 1.0)
			}
			require.NotEmpty(t, r.Notes)
		})
	}
	norms, _ := combined(t, base, "ln-tuning", model.Options{}, nil)
	_, err := Adapter(context.Background(), norms, filepath.Join(t.TempDir(), "x"), Options{Base: base, Rank: 4})
	require.ErrorIs(t, err, peft.ErrNotMergeable)
}
