package ia3_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/plugins/ia3"

	_ "github.com/peftkit/peftkit/formats/hfpeft"
)

// PEFT loads a file whose target_modules were written for several models; a new
// adapter with a name that fits nothing is a slip.
func TestNamesOfOtherModels(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	build := func() *model.Model {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		return m
	}
	_, err = ia3.Method.New(build(), peft.Options{"target_modules": "k_proj,v_proj,c_attn", "feedforward_modules": ""}, 1)
	require.ErrorIs(t, err, peft.ErrNoMatch)
	require.ErrorContains(t, err, "c_attn")

	ad, err := ia3.Method.New(build(), peft.Options{"target_modules": "k_proj,v_proj", "feedforward_modules": ""}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "adapter")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	path := filepath.Join(dir, "adapter_config.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(text, &config))
	config["target_modules"] = []string{"k_proj", "v_proj", "c_attn"}
	text, err = json.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o666))
	_, err = peft.Attach(build(), dir, 1)
	require.NoError(t, err)
}
