package convert

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// folder writes a model in memory as a Hugging Face folder.
func folder(t *testing.T, m *formats.Model) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "base")
	f, err := formats.ByName("safetensors")
	require.NoError(t, err)
	require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), dir, &formats.OutModel{Config: m.Config, Tensors: formats.Copy(m.Tensors)}))
	return dir
}

// combined trains nothing: it moves the parameters of a fresh combination and
// saves it; want are the model's logits with it.
func combined(t *testing.T, base, word string, o model.Options, options peft.Options) (dir string, want []float32) {
	t.Helper()
	m, err := model.Load(base, o)
	require.NoError(t, err)
	defer m.Close()
	methods, err := peft.ParseMethods(word)
	require.NoError(t, err)
	parts, err := peft.SplitOptions(methods, options)
	require.NoError(t, err)
	ad, err := peft.New(m, parts, 7)
	require.NoError(t, err)
	for k, p := range ad.Params() {
		for i := range p.V.Data {
			p.V.Data[i] += 0.02 * float32((i*5+k)%9-4)
		}
	}
	dir = filepath.Join(t.TempDir(), "adapter")
	require.NoError(t, peft.Save(context.Background(), dir, ad, nil))
	return dir, outputs(m)
}

func outputs(m *model.Model) []float32 {
	return append([]float32(nil), m.Logits(nn.NewTape(), model.Sequence([]int32{3, 1, 4, 1, 5, 9}, 0), nil).Mat().Data...)
}

func TestMergeCombinationWithHead(t *testing.T) {
	base := folder(t, testmodel.Encoder{Family: "bert", Task: "Model", Seed: 2}.HF())
	o := model.Options{Task: model.SequenceClassification, Labels: []string{"no", "maybe", "yes"}, Seed: 3}
	dir, want := combined(t, base, "lora+bitfit", o, nil)
	require.NoError(t, os.WriteFile(filepath.Join(dir, labelFile), []byte(`{"id2label":{"0":"no","1":"maybe","2":"yes"},"label2id":{"no":0,"maybe":1,"yes":2},"problem_type":"single_label_classification"}`), 0o666))

	merged := filepath.Join(t.TempDir(), "merged")
	r, err := Merge(context.Background(), base, []AdapterRef{{dir, 1}}, merged, Options{})
	require.NoError(t, err)
	require.Len(t, r.Adapters, 2)
	require.Empty(t, r.Left)
	m, err := model.Load(merged, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, model.SequenceClassification, m.Options.Task)
	require.Equal(t, []string{"no", "maybe", "yes"}, m.Options.Labels)
	require.Empty(t, m.Fresh)
	require.InDeltaSlice(t, want, outputs(m), bound.Output)
}

func TestMergeLeavesPromptsAsAdapters(t *testing.T) {
	base := folder(t, testmodel.Default().HF())
	dir, want := combined(t, base, "lora+prompt-tuning", model.Options{}, peft.Options{"num_virtual_tokens": 4})
	merged := filepath.Join(t.TempDir(), "merged")
	r, err := Merge(context.Background(), base, []AdapterRef{{dir, 1}}, merged, Options{})
	require.NoError(t, err)
	require.Len(t, r.Adapters, 1)
	left := filepath.Join(dir, "2-prompt-tuning")
	require.Equal(t, []string{left}, r.Left)
	m, err := model.Load(merged, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	_, err = peft.Attach(m, left, 1)
	require.NoError(t, err)
	require.InDeltaSlice(t, want, outputs(m), bound.Output)

	_, err = Merge(context.Background(), base, []AdapterRef{{left, 1}}, filepath.Join(t.TempDir(), "x"), Options{})
	require.ErrorIs(t, err, peft.ErrNotMergeable)
}
