package lora

import (
	"encoding/json"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

var _ peft.FactorWriter = method{}

// FromFactors implements peft.FactorWriter: a LoRA of scale 1 whose rank is the
// largest of the changes'; rank_pattern and alpha_pattern tell the others.
func (method) FromFactors(path string, list []peft.Factors) (*formats.Adapter, error) {
	out := &formats.Adapter{Path: path, Format: "memory", Naming: formats.HF}
	rank := 0
	for _, f := range list {
		rank = max(rank, f.Rank)
	}
	pattern := map[string]int{}
	var paths []string
	for _, f := range list {
		paths = append(paths, f.Path)
		if f.Rank != rank {
			pattern[f.Path] = f.Rank
		}
		name := peft.Prefix + f.Path
		if !f.Embedding {
			out.Tensors = append(out.Tensors, tensor.FromFloats(name+".lora_A.weight", []int{f.Rank, f.In}, f.A),
				tensor.FromFloats(name+".lora_B.weight", []int{f.Out, f.Rank}, f.B))
			continue
		}
		// An embedding's weight is (B A)ᵀ: its A has the tokens.
		out.Tensors = append(out.Tensors,
			tensor.FromFloats(name+".lora_embedding_A", []int{f.Rank, f.Out}, transpose(f.B, f.Out, f.Rank)),
			tensor.FromFloats(name+".lora_embedding_B", []int{f.In, f.Rank}, transpose(f.A, f.Rank, f.In)))
	}
	cfg, err := json.MarshalIndent(map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": true, "base_model_name_or_path": nil,
		"r": rank, "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none", "use_rslora": false, "use_dora": false,
		"fan_in_fan_out": false, "init_lora_weights": true, "target_modules": paths, "modules_to_save": nil,
		"rank_pattern": pattern, "alpha_pattern": pattern,
	}, "", "  ")
	if err != nil {
		return nil, formats.At(path, err)
	}
	out.Config = append(cfg, '\n')
	return out, nil
}
