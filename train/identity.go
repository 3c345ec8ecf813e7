package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
)

// identity is everything that decides the bytes of a run's result. A checkpoint
// may only be continued by a run with the same one.
type identity struct {
	// Settings that matter, by their names on the command line.
	Settings map[string]any `json:"settings"`
	// Method is adapter_config.json without the path of the base model.
	Method map[string]any `json:"method"`
	// Data and Base are SHA-256 hashes; Examples and Parameters are their sizes.
	Data       string `json:"data_sha256"`
	Examples   int    `json:"examples"`
	Base       string `json:"base_sha256"`
	Parameters int64  `json:"base_parameters"`
}

func (t *Trainer) identify() (identity, error) {
	c := &t.Config
	id := identity{
		Settings: map[string]any{
			"lr": c.LearningRate, "weight-decay": c.WeightDecay, "beta1": c.Beta1, "beta2": c.Beta2, "eps": c.Eps,
			"clip": c.Clip, "schedule": string(c.Schedule), "warmup": c.Warmup, "min-lr": c.MinLR, "steps": t.Total,
			"batch-size": c.BatchSize, "grad-accum": c.GradAccum, "packing": c.Pack, "shuffle": c.Shuffle,
			"seed": fmt.Sprint(c.Seed), "base-dropout": c.BaseDropout && len(t.Model.Dropout.Active()) > 0, "max-seq-len": t.plan.MaxTokens,
		},
		Data: t.Data.Hash(), Examples: len(t.Data.Examples),
		Base: hashBase(t.Model.Checkpoint), Parameters: t.Model.Parameters(),
	}
	if !t.Data.Causal() {
		id.Settings["task"] = string(t.Data.Task)
		if t.Data.Problem != "" {
			id.Settings["problem"] = string(t.Data.Problem)
		}
	}
	raw, err := t.Adapter.Config()
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(raw, &id.Method); err != nil {
		return id, fmt.Errorf("adapter configuration: %w", err)
	}
	delete(id.Method, "base_model_name_or_path") // the hash knows better
	return id, nil
}

// hashBase returns the SHA-256 of the configuration and of all tensors. Tensors
// are hashed in parallel, each alone.
func hashBase(c *model.Checkpoint) string {
	sums := make([][sha256.Size]byte, len(c.Entries))
	kernels.Parallel(len(c.Entries), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			sums[i] = sha256.Sum256(c.Entries[i].T.Data)
		}
	})
	h := sha256.New()
	h.Write(c.Config)
	for i, e := range c.Entries {
		fmt.Fprintf(h, "\n%s %s %v %x ", e.HF, e.T.Type, e.T.Shape, sums[i])
		for _, p := range e.T.Perm {
			h.Write(binary.LittleEndian.AppendUint32(nil, uint32(p)))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// drift lists in words how now differs from what the checkpoint was made with.
func (then *identity) drift(now *identity) []string {
	out := differences("", then.Settings, now.Settings)
	out = append(out, differences("adapter ", then.Method, now.Method)...)
	if then.Data != now.Data {
		if then.Examples != now.Examples {
			out = append(out, fmt.Sprintf("the training data (%d examples then, %d now)", then.Examples, now.Examples))
		} else {
			out = append(out, "the training data (their content, tokenizer or chat template)")
		}
	}
	if then.Base != now.Base {
		if then.Parameters != now.Parameters {
			out = append(out, fmt.Sprintf("the base model (%d parameters then, %d now)", then.Parameters, now.Parameters))
		} else {
			out = append(out, "the base model (its weights or types)")
		}
	}
	return out
}

// differences compares two JSON objects key by key.
func differences(prefix string, then, now map[string]any) []string {
	keys := map[string]bool{}
	for k := range then {
		keys[k] = true
	}
	for k := range now {
		keys[k] = true
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		a, b := compact(then[k]), compact(now[k])
		if a != b {
			out = append(out, fmt.Sprintf("%s%s: %s then, %s now", prefix, k, a, b))
		}
	}
	return out
}

// compact writes a value as JSON, so that numbers that went through a file
// compare equal to those that did not.
func compact(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
