package xlora

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// layer is a linear layer that at least one adapter changes.
type layer struct {
	at      *nn.LinearLayer
	experts []expert
}

// expert is an adapter's part of a layer.
type expert struct {
	number  int
	a, b    *nn.Var // [r, in] and [out, r]
	scale   float32
	dropout float32
}

// loraConfig is what X-LoRA reads of a LoRA's configuration.
type loraConfig struct {
	R       int     `json:"r"`
	Alpha   float64 `json:"lora_alpha"`
	Dropout float64 `json:"lora_dropout"`
	RSLoRA  bool    `json:"use_rslora"`
}

// plain lists the keys that make a LoRA another one, with the values of a plain one.
var plain = map[string][]string{
	"use_dora": {"false"}, "lora_bias": {"false"}, "bias": {`"none"`}, "layer_replication": nil, "target_parameters": {"[]"}, "use_qalora": {"false"},
	"alora_invocation_tokens": nil, "arrow_config": nil, "kasa_config": nil, "use_bdlora": {"false"}, "monteclora_config": nil, "trainable_token_indices": nil,
}

// experts reads all adapters.
func (a *adapter) experts(m *model.Model) error {
	byPath := map[string]*layer{}
	for i, path := range a.c.paths {
		if err := readExpert(path, i, m, byPath); err != nil {
			return err
		}
	}
	for _, mod := range m.Modules {
		if l := byPath[mod.Path]; l != nil {
			a.layers = append(a.layers, l)
		}
	}
	return nil
}

func readExpert(path string, number int, m *model.Model, byPath map[string]*layer) error {
	f, err := peft.Open(path, m.Checkpoint)
	if err != nil {
		return fmt.Errorf("adapters: %w", err)
	}
	defer f.Close()
	if err := readFactors(f, number, m, byPath); err != nil {
		return fmt.Errorf("adapters: %s: %w", path, err)
	}
	return nil
}

func readFactors(f *formats.Adapter, number int, m *model.Model, byPath map[string]*layer) error {
	method, err := peft.MethodOf(f)
	if err != nil {
		return err
	}
	if t := method.Info().PeftType; t != "LORA" {
		return tuner.Invalid("it is of method %s, expected lora", method.Info().Name)
	}
	cfg, err := peft.ParseConfig(f.Config)
	if err != nil {
		return err
	}
	if err := tuner.Refuse(cfg, plain); err != nil {
		return err
	}
	c := loraConfig{R: 8, Alpha: 8}
	if err := cfg.Decode(&c); err != nil {
		return err
	}
	single, err := tuner.ReadRankAlpha(cfg)
	if err != nil {
		return err
	}
	set, err := peft.NewTensorSet(f)
	if err != nil {
		return err
	}
	var params []*nn.Param
	for _, mod := range m.Modules {
		name := peft.Prefix + mod.Path
		if mod.Linear == nil || !set.Has(name+".lora_A.weight") {
			continue // what is left over is an error below
		}
		r, alpha, err := single.At(mod.Path, c.R, c.Alpha)
		if err != nil {
			return err
		}
		w := mod.Linear.W
		pa, pb := nn.NewParam(name+".lora_A.weight", r, w.In), nn.NewParam(name+".lora_B.weight", w.Out, r)
		pa.V.Needs, pb.V.Needs = false, false
		params = append(params, pa, pb)
		e := expert{number: number, a: pa.V, b: pb.V, scale: float32(alpha / float64(r)), dropout: float32(c.Dropout)}
		if c.RSLoRA {
			e.scale = float32(alpha / math.Sqrt(float64(r)))
		}
		l := byPath[mod.Path]
		if l == nil {
			l = &layer{at: mod.Linear}
			byPath[mod.Path] = l
		}
		l.experts = append(l.experts, e)
	}
	return set.Fill(params...)
}
