package lora

import (
	"slices"

	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// The variants that have a name of their own: LoRA with other defaults, in the
// same files. Learning rates, ranks and alphas are those of the paper or example
// that is named; where it names none, LoRA's stay.
var presets = []preset{
	{"dora", nil, "LoRA that trains the length of each output feature apart from its direction",
		"Liu et al. 2024, arXiv 2402.09353", 2e-4, peft.Options{"use_dora": true}},
	{"rslora", nil, "LoRA scaled by alpha/sqrt(rank), so that high ranks learn too",
		"Kalajdzievski 2023, arXiv 2312.03732", 5e-5, peft.Options{"use_rslora": true, "lora_alpha": 16.0}},
	{"pissa", nil, "LoRA that begins as the principal singular vectors of each weight and leaves the rest frozen",
		"Meng et al. 2024, arXiv 2404.02948", 2e-5, peft.Options{"init_lora_weights": initPiSSA + "_niter_4", "lora_alpha": 16.0}},
	{"olora", nil, "LoRA that begins as the QR decomposition of each weight",
		"Büyükakyüz 2024, arXiv 2406.01775", 3e-4, peft.Options{"init_lora_weights": initOLoRA, "r": 32, "lora_alpha": 16.0}},
	{"eva", nil, "LoRA that begins as the principal components of each module's inputs on the data, more rank where they explain more",
		"Paischer et al. 2024, arXiv 2410.07170; rate and alpha of PEFT's example", 5e-4,
		peft.Options{"init_lora_weights": initEVA, "lora_alpha": 1.0}},
	{"loftq", nil, "LoRA on quantised weights that begins with what quantisation took from each",
		"Li et al. 2023, arXiv 2310.08659; rate of its example", 3e-4,
		peft.Options{"init_lora_weights": initLoftQ, "lora_alpha": 16.0}},
	{"loraplus", nil, "LoRA whose B learns 16 times as fast as its A (LoRA+)",
		"Hayou et al. 2024, arXiv 2402.12354; rate of PEFT's guide", 5e-5,
		peft.Options{"loraplus_lr_ratio": 16.0, "loraplus_embedding_ratio": 0.02}},
	{"lora-fa", []string{"lorafa"}, "LoRA that trains B alone, along the projected gradient (LoRA-FA)",
		"Zhang et al. 2023, arXiv 2308.03303; rate of PEFT's benchmark", 1e-4, peft.Options{"lora_fa": true}},
}

type preset struct {
	name    string
	aliases []string
	doc     string
	ref     string
	lr      float64
	options peft.Options
}

// method is LoRA with the preset's defaults.
func (p preset) method(base *tuner.Method) peft.Method {
	m := *base
	m.Facts.Name, m.Facts.Aliases, m.Facts.Preset = p.name, p.aliases, base.Facts.Name
	m.Facts.Doc, m.Facts.Reference, m.Facts.LearningRate = p.doc, p.ref, p.lr
	m.Facts.Options = slices.Clone(base.Facts.Options)
	for i, o := range m.Facts.Options {
		if v, ok := p.options[o.Key]; ok {
			m.Facts.Options[i].Default = v
		}
	}
	return method{&m}
}
