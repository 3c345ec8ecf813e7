package hira_test

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
	"github.com/peftkit/peftkit/peft/pefttest"
	"github.com/peftkit/peftkit/plugins/hira"
)

func TestConformance(t *testing.T) {
	untied := testmodel.Default()
	untied.Untied = true
	pefttest.Run(t, hira.Method, []pefttest.Case{
		{Name: "llama", Identity: true, Options: peft.Options{"rank": 4}},
		{Name: "gaussian", Identity: true, Options: peft.Options{"rank": 4, "init_weights": "gaussian"}},
		{Name: "many rows", Options: peft.Options{"rank": 2, "init_weights": false}, Batch: pefttest.Many},
		{Name: "random", Options: peft.Options{"rank": 2, "init_weights": false}},
		{Name: "embedding", Identity: true, Model: untied, Options: peft.Options{"rank": 3, "target_modules": "embed_tokens,q_proj"}},
		{Name: "head", Identity: true, Model: untied, Options: peft.Options{"rank": 3, "target_modules": "lm_head"}},
		{Name: "dropout", Identity: true, Options: peft.Options{"rank": 3, "dropout": 1e-9}},
		{Name: "gpt2", Identity: true, Model: testmodel.GPT2(), Options: peft.Options{"rank": 4}},
		{Name: "bert", Identity: true, Model: testmodel.BERT(2), Build: model.Options{Task: model.SequenceClassification}, Options: peft.Options{"rank": 4}},
	})
}

func TestRefuses(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	for _, o := range []peft.Options{{"rank": 0}, {"dropout": 1}, {"init_weights": "svd"}, {"rank_pattern": `{"q_proj": 2}`}, {"target_modules": "norm"}} {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		_, err = hira.Method.New(m, o, 1)
		require.ErrorIs(t, err, peft.ErrConfig, "%v", o)
	}
}

// A file with a rank_pattern has the ranks of its tensors.
func TestRankPattern(t *testing.T) {
	ck, err := model.FromFile(testmodel.Default().HF())
	require.NoError(t, err)
	build := func() *model.Model {
		m, err := model.Build(ck, model.Options{})
		require.NoError(t, err)
		return m
	}
	ad, err := hira.Method.New(build(), peft.Options{"rank": 3, "init_weights": false}, 1)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	a, err := formats.OpenAdapter(dir)
	require.NoError(t, err)
	defer a.Close()
	a.Config = json.RawMessage(strings.Replace(string(a.Config), `"r": 3`, `"r": 2`, 1))
	_, err = hira.Method.Load(build(), a, 1)
	require.ErrorIs(t, err, peft.ErrTensors)
	a.Config = json.RawMessage(strings.Replace(string(a.Config), `"r": 2`, `"r": 2, "rank_pattern": {".*_proj": 3}`, 1))
	loaded, err := hira.Method.Load(build(), a, 1)
	require.NoError(t, err)
	for i, p := range loaded.Params() {
		require.Equal(t, ad.Params()[i].V.Data, p.V.Data)
	}
}
