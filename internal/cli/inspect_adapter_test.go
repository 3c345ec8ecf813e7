package cli

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testmodel"
	"github.com/peftkit/peftkit/peft"
)

func TestInspectAdapters(t *testing.T) {
	base, dir := bertFolder(t, "Model", 0), t.TempDir()
	file := write(t, filepath.Join(dir, "d.jsonl"), praise(8))
	for method, says := range map[string][]string{
		"lora+prompt-tuning": {"combination of 2 adapters", "lora+prompt-tuning", "1-lora", "2-prompt-tuning"},
		"houlsby":            {"adapter of the adapters library", "houlsby", "reduction_factor"},
		"lora":               {"peft adapter", "lora"},
	} {
		t.Run(method, func(t *testing.T) {
			out := filepath.Join(dir, method)
			o := cli(t, "train", "-m", base, "-d", file, "-o", out, "--method", method, "--max-steps", "1", "--save-steps", "0")
			require.Zero(t, o.code, o.errors)
			text := ok(t, "inspect", out)
			for _, s := range append(says, "text classification", "neg, pos", "base model") {
				require.Contains(t, text, s)
			}
			require.NotContains(t, text, "note:")
			var i inspection
			jsonOf(t, &i, "inspect", out)
			require.Equal(t, method, i.Method)
			require.Positive(t, i.Parameters)
			require.Positive(t, i.Bytes)
			if method == "lora+prompt-tuning" {
				require.Equal(t, "combination", i.Kind)
				require.Len(t, i.Parts, 2)
				require.Equal(t, i.Parameters, i.Parts[0].Parameters+i.Parts[1].Parameters)
			}
			ok(t, "inspect", out, "--tensors", "--modules", "--metadata")
		})
	}
	o := cli(t, "inspect", filepath.Dir(write(t, filepath.Join(dir, "bad", peft.IndexName), "{")))
	require.Equal(t, exitFormat, o.code)
	require.Contains(t, o.errors, peft.IndexName)
}

// What a file has and nothing computes is told, by inspect and by train.
func TestNotesOfModels(t *testing.T) {
	m := testmodel.Encoder{Family: "bert", Task: "Model", Seed: 2}.HF()
	head := *m.Tensors[0]
	head.Name = "cls.predictions.decoder.weight"
	m.Tensors = append(m.Tensors, &head)
	base := bertFolderOf(t, m)
	dir := t.TempDir()
	note := "head that no task here uses"
	require.Contains(t, ok(t, "inspect", base), note)
	o := cli(t, "train", "-m", base, "-d", write(t, filepath.Join(dir, "d.jsonl"), praise(8)), "-o", filepath.Join(dir, "a"), "--max-steps", "1", "--dry-run")
	require.Zero(t, o.code, o.errors)
	require.Contains(t, o.errors, note)
}
