package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dryRun returns the header of a run with a configuration file and flags.
func dryRun(t *testing.T, yaml string, args ...string) outputs {
	t.Helper()
	dir := t.TempDir()
	data := write(t, filepath.Join(dir, "d.jsonl"), evenOdd(40))
	config := write(t, filepath.Join(dir, "run.yaml"), strings.NewReplacer("MODEL", tiny(t), "DATA", data).Replace(yaml))
	return cli(t, append([]string{"train", "--dry-run", "-c", config}, args...)...)
}

const baseYAML = "model: MODEL\ndata: DATA\n"

func TestConfigFile(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		args       []string
		want       []string
	}{
		{"keys are flag names", baseYAML + "rank: 4\nlr: 3e-4\nmax_steps: 7\n", nil, []string{"rank 4 ", "learning rate 3e-4", "7 steps"}},
		{"hyphens and capitals", baseYAML + "Max-Steps: 7\nGRAD_ACCUM: 2\n", nil, []string{"1 × 2 sequences", "7 steps"}},
		{"names of other tools", "model_name_or_path: MODEL\ndataset: DATA\nlora_r: 4\nlora_alpha: 8\nlearning_rate: 1e-3\nnum_train_epochs: 2\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 3\nlr_scheduler_type: linear\ncutoff_len: 64\n",
			nil, []string{"rank 4 ", "learning rate 1e-3, linear", "2 × 3 sequences of up to 64"}},
		{"MLX", baseYAML + "lora_parameters:\n  rank: 3\n  dropout: 0.1\niters: 5\n", nil, []string{"rank 3 ", "5 steps"}},
		{"lists", baseYAML + "target_modules: [q_proj, v_proj]\n", nil, []string{"on 4 modules (q_proj, v_proj)"}},
		{"all", baseYAML + "lora_target: all\n", nil, []string{"on 14 modules"}},
		{"axolotl's switch", baseYAML + "lora_target_linear: true\n", nil, []string{"on 14 modules"}},
		{"booleans of two kinds", baseYAML + "packing: false\nno_shuffle: true\n", nil, []string{"of up to 256 tokens; "}},
		{"nothing and null", baseYAML + "rank:\nalpha: null\n", nil, []string{"rank 16 "}},
		{"method options", baseYAML + "rank_pattern: {q_proj: 2}\nset:\n  use_rslora: true\n", nil, []string{"mixed ranks"}},
		{"flags beat the file", baseYAML + "rank: 4\nmax_steps: 7\n", []string{"--rank", "2", "--max-steps", "3"}, []string{"rank 2 ", "3 steps"}},
		{"flags beat it under another name", baseYAML + "r: 4\n", []string{"--lora-rank", "2"}, []string{"rank 2 "}},
		{"--set beats a key", baseYAML + "set: {r: 4}\n", []string{"--rank", "2"}, []string{"rank 2 "}},
		{"the file beats defaults", baseYAML + "seed: 1\nval_split: 0.5\n", nil, []string{"20 examples"}},
		{"column map", baseYAML + "map: ['prompt={prompt}\\n', 'completion=completion']\n", nil, []string{"40 examples"}},
		{"JSON is YAML", `{"model": "MODEL", "data": "DATA", "rank": 5}`, nil, []string{"rank 5 "}},
		{"comments", "# a run\n" + baseYAML + "rank: 5 # small\n", nil, []string{"rank 5 "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := dryRun(t, tt.yaml, tt.args...)
			require.Zero(t, o.code, o.errors)
			for _, w := range tt.want {
				require.Contains(t, o.out, w)
			}
		})
	}
}

func TestConfigFileErrors(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		want       []string
	}{
		{"unknown key", baseYAML + "rnak: 4\n", []string{"run.yaml:3", `unknown key "rnak"`, "rank"}},
		{"value of another type", baseYAML + "max_steps: many\n", []string{"run.yaml:3", `"many"`, "whole number"}},
		{"given twice", baseYAML + "rank: 4\nlora_r: 8\n", []string{"run.yaml:4", "line 3"}},
		{"repeated key", baseYAML + "rank: 4\nrank: 8\n", []string{"run.yaml", "rank"}},
		{"mapping where a word belongs", baseYAML + "rank: {a: 1}\n", []string{"run.yaml:3", "plain value"}},
		{"no mapping", "- a\n- b\n", []string{"run.yaml:1", "KEY: VALUE"}},
		{"syntax", baseYAML + "rank: [1\n", []string{"run.yaml"}},
		{"boolean", baseYAML + "packing: perhaps\n", []string{"run.yaml:3", "true or false"}},
		{"unknown choice", baseYAML + "schedule: zigzag\n", []string{"run.yaml:3", "cosine"}},
		{"unknown method option", baseYAML + "set: {nonesuch: 1}\n", []string{"nonesuch"}},
		{"two documents", baseYAML + "---\nrank: 2\n", []string{"second document"}},
		{"no nested configuration", baseYAML + "config: other.yaml\n", []string{"run.yaml:3", "unknown key"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := dryRun(t, tt.yaml)
			require.Equal(t, exitUsage, o.code, o.out+o.errors)
			for _, w := range tt.want {
				require.Contains(t, o.errors, w)
			}
		})
	}
	require.Equal(t, exitUsage, cli(t, "train", "-c", filepath.Join(t.TempDir(), "none.yaml")).code)
}
