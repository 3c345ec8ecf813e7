package adapterhub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/formattest"
	_ "github.com/peftkit/peftkit/formats/hfpeft" // the other folder with an adapter_config.json
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/tensor"
)

const path = "bert.encoder.layer.0.output.adapters.sst2."

func small(head bool) *formats.OutAdapter {
	a := &formats.OutAdapter{
		Config: json.RawMessage(`{"config":{"reduction_factor":16},"model_type":"bert","name":"sst2","from_the_future":[1]}`),
		Files:  map[string][]byte{"README.md": []byte("adapter\n")},
		Tensors: []formats.OutTensor{
			formattest.Tensor(path+"adapter_down.0.weight", tensor.F32, 2, 3),
			formattest.Tensor(path+"adapter_up.weight", tensor.BF16, 3, 2),
			formattest.Tensor("bert.shared_parameters.sst2.phm_rule", tensor.F32, 2, 2, 2),
		},
	}
	if head {
		a.Files[headConfigName] = []byte(`{"config":null,"model_class":"BertForSequenceClassification"}`)
		a.Tensors = append(a.Tensors, formattest.Tensor("classifier.weight", tensor.F32, 2, 3))
	}
	return a
}

func TestConformance(t *testing.T) {
	formattest.Run(t, Format{}, formattest.Case{Path: "adapter", Adapter: small(true)})
}

func TestSharedPoolIsWrittenOnce(t *testing.T) {
	big := formattest.Tensor("bert.prefix_tuning.prefix_tunings.p.self_prefix.control_trans", tensor.F32, 4096)
	a := small(false)
	a.Config = json.RawMessage(`{"config":{"architecture":"prefix_tuning"},"model_type":"bert","name":"p"}`)
	a.Tensors = []formats.OutTensor{big}
	for _, l := range []string{"0", "1", "2"} {
		twin := big
		twin.Name = "bert.encoder.layer." + l + ".attention.self.prefix_tuning.pool.prefix_tunings.p.self_prefix.control_trans"
		a.Tensors = append(a.Tensors, twin)
	}
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, Format{}.WriteAdapter(t.Context(), dir, a))
	st, err := os.Stat(filepath.Join(dir, pickleName))
	require.NoError(t, err)
	require.Less(t, st.Size(), int64(2*4*4096))
	require.NoFileExists(t, filepath.Join(dir, weightsName))
	got, err := Format{}.OpenAdapter(dir)
	require.NoError(t, err)
	defer got.Close()
	require.Len(t, got.Tensors, 4)
	for _, x := range got.Tensors {
		require.Equal(t, got.Tensors[0].Data, x.Data)
	}

	// Weights of the other kind do not stay behind.
	require.NoError(t, Format{}.WriteAdapter(t.Context(), dir, small(false)))
	require.NoFileExists(t, filepath.Join(dir, pickleName))
	require.FileExists(t, filepath.Join(dir, "README.md"))
}

func TestRefuses(t *testing.T) {
	a := small(false)
	a.Tensors = append(a.Tensors, formattest.Tensor("classifier.weight", tensor.F32, 2, 3))
	err := Format{}.WriteAdapter(t.Context(), filepath.Join(t.TempDir(), "a"), a)
	require.ErrorIs(t, err, formats.ErrOutput, "a head without its description")
	a = small(false)
	a.Config = json.RawMessage(`{"peft_type":"LORA"}`)
	require.ErrorIs(t, Format{}.WriteAdapter(t.Context(), filepath.Join(t.TempDir(), "a"), a), formats.ErrOutput)
	a = small(false)
	a.Files[weightsName] = nil
	require.ErrorIs(t, Format{}.WriteAdapter(t.Context(), filepath.Join(t.TempDir(), "a"), a), formats.ErrOutput)
}

func TestRealAdapter(t *testing.T) {
	dir := testdata.Dir(t, "adapters", "adapterhub-roberta-sst2")
	for _, p := range []string{dir, filepath.Join(dir, configName), filepath.Join(dir, pickleName)} {
		a, err := formats.OpenAdapter(p)
		require.NoError(t, err)
		require.Equal(t, "adapters", a.Format)
		require.Len(t, a.Tensors, 12*4+4)
		require.Len(t, a.Sources, 4)
		for _, x := range a.Tensors {
			require.Same(t, tensor.F32, x.Type)
		}
		require.Equal(t, "roberta.encoder.layer.0.output.adapters.glue_sst2.adapter_down.0.weight", a.Tensors[0].Name)
		require.Equal(t, []int{48, 768}, a.Tensors[0].Shape)
		require.NoError(t, a.Close())
	}
	_, err := formats.OpenModel(dir)
	require.ErrorIs(t, err, formats.ErrIsAdapter)
}
