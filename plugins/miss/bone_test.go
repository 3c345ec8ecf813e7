package miss_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/plugins/miss"
)

// Adapters of type BONE are read as MISS, with the same numbers.
func TestBone(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	build := func() *model.Model {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		return m
	}
	for _, kind := range []string{"false", "bat"} {
		ad, err := miss.Method.New(build(), peft.Options{"rank": 8, "init_weights": kind}, 5)
		require.NoError(t, err)
		for _, p := range ad.Params() {
			for i := range p.V.Data {
				p.V.Data[i] += float32(i%7) * 0.01
			}
		}
		dir := filepath.Join(t.TempDir(), "a")
		require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
		a, err := formats.OpenAdapter(dir)
		require.NoError(t, err)
		defer a.Close()
		a.Config = json.RawMessage(strings.Replace(string(a.Config), `"MISS"`, `"BONE"`, 1))
		for _, x := range a.Tensors {
			x.Name = strings.Replace(x.Name, ".miss_block", ".bone_block", 1)
		}

		m, err := peft.MethodOf(a)
		require.NoError(t, err)
		require.Equal(t, "miss", m.Info().Name)
		loaded, err := m.Load(build(), a, 1)
		require.NoError(t, err)
		for i, p := range loaded.Params() {
			require.Equal(t, ad.Params()[i].Name, p.Name)
			require.Equal(t, ad.Params()[i].V.Data, p.V.Data)
		}
		cfg, err := loaded.Config()
		require.NoError(t, err)
		require.Contains(t, string(cfg), `"peft_type": "MISS"`)
		set, err := peft.Changes(a, ck, 1)
		require.NoError(t, err)
		require.Equal(t, len(a.Tensors), set.Matched)
	}
}
