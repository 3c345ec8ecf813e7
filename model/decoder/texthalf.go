package decoder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
)

// Wrapper is a class of transformers that holds the family's network as the text
// half of a model that also sees.
type Wrapper struct {
	Class, Model string
}

// names reports whether config.json is of the wrapper.
func (w Wrapper) names(architectures []string, modelType string) bool {
	if w.Class == "" {
		return false
	}
	return slices.Contains(architectures, w.Class) || len(architectures) == 0 && modelType == w.Model
}

// textHalf returns the text half of a wrapped model: text_config is its
// configuration, and its tensors get the names of the model for text alone. Any
// other model comes back as it is.
func (f *Family) textHalf(m *formats.Model) (*formats.Model, map[string]string, []string, error) {
	var outer struct {
		Architectures []string                   `json:"architectures"`
		ModelType     string                     `json:"model_type"`
		Text          map[string]json.RawMessage `json:"text_config"`
	}
	var all map[string]json.RawMessage
	if m.Naming != formats.HF || json.Unmarshal(m.Config, &outer) != nil || !f.Wrapper.names(outer.Architectures, outer.ModelType) {
		return m, nil, nil, nil
	}
	if outer.Text == nil {
		return nil, nil, nil, fmt.Errorf("%s: config.json: %s without text_config: %w", m.Path, f.Wrapper.Class, model.ErrMismatch)
	}
	if err := json.Unmarshal(m.Config, &all); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: config.json: %w", m.Path, err)
	}
	config := outer.Text
	for _, k := range []string{"bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype", "tie_word_embeddings", "transformers_version"} {
		if config[k] == nil && all[k] != nil {
			config[k] = all[k]
		}
	}
	config["architectures"], _ = json.Marshal([]string{f.Class + causalClass})
	config["model_type"], _ = json.Marshal(f.Model)
	raw, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: config.json: %w", m.Path, err)
	}
	half := *m
	half.Config, half.Tensors = append(raw, '\n'), nil
	stored := map[string]string{}
	others := 0
	for _, t := range m.Tensors {
		name, ok := textName(t.Name)
		if !ok {
			others++
			continue
		}
		u := *t
		u.Name = name
		stored[name] = t.Name
		half.Tensors = append(half.Tensors, &u)
	}
	notes := []string{fmt.Sprintf("%s: only the text half is read; %d tensors of what it sees with are left out", f.Wrapper.Class, others)}
	return &half, stored, notes, nil
}

// textName is the name of a tensor of the text half in the model for text alone.
// Two layouts are in use: that of transformers up to 4.51, and the one since.
func textName(name string) (string, bool) {
	for old, now := range map[string]string{
		"language_model.model.": "model.", "language_model.lm_head.": headPath + ".", "model.language_model.": "model.", headPath + ".": headPath + ".",
	} {
		if rest, ok := strings.CutPrefix(name, old); ok {
			return now + rest, true
		}
	}
	return "", false
}
