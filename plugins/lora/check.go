package lora

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

var (
	_ peft.ConfigChecker = method{}
	_ peft.FileChecker   = method{}
)

// aloraKey is llama.cpp's alora_invocation_tokens.
const aloraKey = "adapter.alora.invocation_tokens"

// CheckConfig implements peft.ConfigChecker.
func (m method) CheckConfig(a *formats.Adapter) error {
	if a.Naming != formats.GGUF {
		return m.Method.CheckConfig(a)
	}
	if v := a.Meta.Get(aloraKey); v != nil {
		return fmt.Errorf("%s: %s is %v: %s: %w", a.Path, aloraKey, v, tuner.RefusedALoRA, peft.ErrConfig)
	}
	return nil
}

// CheckFile implements peft.FileChecker: each A has its B and each B its A.
func (method) CheckFile(a *formats.Adapter) error {
	var names []string
	other := partner
	if a.Naming == formats.GGUF {
		other = partnerGGUF
		for _, t := range a.Tensors {
			names = append(names, t.Name)
		}
	} else {
		set, err := peft.NewTensorSet(a)
		if err != nil {
			return err
		}
		names = set.Rest()
	}
	have := map[string]bool{}
	for _, name := range names {
		have[name] = true
	}
	halves := 0
	for _, name := range names {
		p := other(name)
		if p == "" {
			continue
		}
		halves++
		if !have[p] {
			return fmt.Errorf("%s: %s has no partner %s: %w", a.Path, name, p, peft.ErrTensors)
		}
	}
	if halves == 0 {
		return fmt.Errorf("%s: none of its %d tensors is half of a pair of factors: %w", a.Path, len(names), peft.ErrNoMatch)
	}
	return nil
}

// partner is the other half of a factor, "" for what is none.
func partner(name string) string {
	return swap(name, "lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")
}

func partnerGGUF(name string) string { return swap(name, "weight.lora_a", "weight.lora_b") }

// swap replaces the ending that is one of a pair by the other.
func swap(name string, ends ...string) string {
	for i, end := range ends {
		if base, ok := strings.CutSuffix(name, "."+end); ok {
			return base + "." + ends[i^1]
		}
	}
	return ""
}
