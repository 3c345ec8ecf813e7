package miss

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// method reads the files of Bone too, as MiSS was called in PEFT before 0.18.
type method struct{ *tuner.Method }

var _ peft.Merger = method{}

// Load implements peft.Method.
func (m method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	a, err := renamed(a)
	if err != nil {
		return nil, err
	}
	return m.Method.Load(mod, a, scale)
}

// Changes implements peft.Merger.
func (m method) Changes(a *formats.Adapter, c *model.Checkpoint, scale float32) (*peft.ChangeSet, error) {
	a, err := renamed(a)
	if err != nil {
		return nil, err
	}
	return m.Method.Changes(a, c, scale)
}

// renamed gives an adapter of type BONE the names of MISS; the numbers are the
// same.
func renamed(a *formats.Adapter) (*formats.Adapter, error) {
	var cfg map[string]json.RawMessage
	if err := json.Unmarshal(a.Config, &cfg); err != nil {
		return nil, fmt.Errorf("%s: adapter_config.json: %w: %w", a.Path, err, peft.ErrConfig)
	}
	if string(cfg["peft_type"]) != `"BONE"` {
		return a, nil
	}
	cfg["peft_type"] = json.RawMessage(`"MISS"`)
	if strings.EqualFold(string(cfg["bias"]), `"bone_only"`) {
		cfg["bias"] = json.RawMessage(`"miss_only"`)
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	out := &formats.Adapter{Path: a.Path, Format: a.Format, Naming: a.Naming, Config: raw, Meta: a.Meta}
	for _, t := range a.Tensors {
		u := *t
		u.Name = strings.Replace(t.Name, ".bone_block", ".miss_block", 1)
		out.Tensors = append(out.Tensors, &u)
	}
	return out, nil
}
