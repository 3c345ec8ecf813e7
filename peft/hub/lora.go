package hub

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// loraConfig is the library's LoRAConfig.
type loraConfig struct {
	SelfAttn     bool     `json:"selfattn_lora"`
	Intermediate bool     `json:"intermediate_lora"`
	Output       bool     `json:"output_lora"`
	LeaveOut     []int    `json:"leave_out"`
	R            int      `json:"r"`
	Alpha        float32  `json:"alpha"`
	Dropout      float32  `json:"dropout"`
	Matrices     []string `json:"attn_matrices"`
	Mode         string   `json:"composition_mode"`
	Init         string   `json:"init_weights"`
	Gating       bool     `json:"use_gating"`
	DoRA         bool     `json:"use_dora"`
	VeraD        *float64 `json:"vera_d"`
	VeraB        *float64 `json:"vera_b"`
}

// feedForward names the projections that intermediate_lora and output_lora mean,
// below a layer. In Llama and Mistral the library counts the last one as
// intermediate.
var feedForward = map[string][2]string{
	"llama": {"mlp.down_proj", "mlp.up_proj"}, "mistral": {"mlp.down_proj", "mlp.up_proj"},
	"qwen2": {"mlp.up_proj", "mlp.down_proj"}, "qwen3": {"mlp.up_proj", "mlp.down_proj"},
	"gpt2": {"mlp.c_fc", "mlp.c_proj"}, "bert": {"intermediate.dense", "output.dense"}, "roberta": {"intermediate.dense", "output.dense"},
	"xlm-roberta": {"intermediate.dense", "output.dense"}, "distilbert": {"ffn.lin1", "ffn.lin2"}, "bart": {"fc1", "fc2"}, "mbart": {"fc1", "fc2"},
}

func (c *loraConfig) check() error {
	if c.R < 1 || c.Dropout < 0 || c.Dropout >= 1 {
		return fmt.Errorf("lora: r %d, dropout %g: out of range: %w", c.R, c.Dropout, peft.ErrConfig)
	}
	if c.Mode != "add" || c.DoRA || c.VeraD != nil || c.VeraB != nil {
		return fmt.Errorf("lora: composition_mode %q, use_dora, vera_d and vera_b are not computed from files of the adapters library: %w", c.Mode, peft.ErrConfig)
	}
	for _, m := range c.Matrices {
		if err := oneOf("attn_matrices", m, "q", "k", "v"); err != nil {
			return err
		}
	}
	return oneOf("init_weights", c.Init, "lora", "bert")
}

// lora builds LoRA in the library's form.
func (a *Adapter) lora(p part) error {
	c := &loraConfig{}
	if err := p.decode(c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	n := 0
	add := func(l *nn.LinearLayer, stack model.Stack, groups []bool) {
		s := &loraSite{c: c, layer: l, pass: a.pass(stack), groups: groups}
		s.declare(a)
		a.sites = append(a.sites, s)
		n++
	}
	for _, at := range a.model.Attentions {
		if !c.SelfAttn || len(c.Matrices) == 0 || slices.Contains(c.LeaveOut, a.layerIndex(at.Stack, at.Layer)) {
			continue
		}
		if at.Q == nil {
			mod := a.model.Module(at.Path + ".c_attn")
			if mod == nil {
				return fmt.Errorf("lora: %s has no projections of its own for q, k and v: %w", at.Path, peft.ErrNoFit)
			}
			add(mod.Linear, at.Stack, []bool{slices.Contains(c.Matrices, "q"), slices.Contains(c.Matrices, "k"), slices.Contains(c.Matrices, "v")})
			continue
		}
		source := at.Stack
		if at.Cross {
			source = model.Encoder
		}
		for i, l := range []*nn.LinearLayer{at.Q, at.K, at.V} {
			if slices.Contains(c.Matrices, "qkv"[i:i+1]) {
				stack := source
				if i == 0 {
					stack = at.Stack
				}
				add(l, stack, nil)
			}
		}
	}
	if err := a.loraFeedForward(c, add); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("lora: attn_matrices, intermediate_lora and output_lora choose nothing: %w", peft.ErrConfig)
	}
	a.summary = append(a.summary, fmt.Sprintf("LoRA rank %d on %d modules", c.R, n))
	return nil
}

func (a *Adapter) loraFeedForward(c *loraConfig, add func(*nn.LinearLayer, model.Stack, []bool)) error {
	for i, want := range []bool{c.Intermediate, c.Output} {
		if !want {
			continue
		}
		names, ok := feedForward[a.model.Type()]
		if !ok {
			return fmt.Errorf("lora: intermediate_lora and output_lora have no known projections in a %s: %w", a.model.Type(), peft.ErrNoFit)
		}
		for _, s := range a.model.Sublayers {
			if s.Kind != model.FeedForward || slices.Contains(c.LeaveOut, a.layerIndex(s.Stack, s.Layer)) {
				continue
			}
			mod := a.model.Module(s.LayerPath() + "." + names[i])
			if mod == nil || mod.Linear == nil {
				return fmt.Errorf("lora: %s has no %s: %w", s.LayerPath(), names[i], peft.ErrNoFit)
			}
			add(mod.Linear, s.Stack, nil)
		}
	}
	return nil
}

// loraSite is LoRA on one projection. A fused projection of q, k and v has groups:
// each chosen one has its own A and B, one below the other.
type loraSite struct {
	c      *loraConfig
	layer  *nn.LinearLayer
	pass   *pass
	groups []bool
	a, b   *nn.Param
	gate   *projection
}

func (s *loraSite) path() string { return s.layer.Path + ".loras" }

// count returns the number of groups with parameters.
func (s *loraSite) count() int {
	if s.groups == nil {
		return 1
	}
	n := 0
	for _, g := range s.groups {
		if g {
			n++
		}
	}
	return n
}

func (s *loraSite) declare(a *Adapter) {
	path, n := s.path()+"."+a.name+".", s.count()
	out := s.layer.W.Out
	if s.groups != nil {
		out = out / 3 * n
	}
	s.a, s.b = a.param(path+"lora_A", s.c.R*n, s.layer.W.In), a.param(path+"lora_B", out, s.c.R)
	if s.c.Gating {
		s.gate = a.linear(path+"gate", n, s.layer.W.In)
		a.model.WholeText = true
	}
}

func (s *loraSite) init(rng *rand.Rand) {
	if s.c.Init == "bert" {
		normal(rng, s.a, 0.02)
		normal(rng, s.b, 0.02)
	} else {
		uniform(rng, 1/math.Sqrt(float64(s.layer.W.In)), s.a)
	}
	if s.gate != nil {
		normal(rng, s.gate.w.P, 0.02)
		uniform(rng, 1/math.Sqrt(float64(s.gate.w.In)), s.gate.bias.P)
	}
}

func (s *loraSite) attach(scale float32) error {
	k := scale
	if s.gate == nil { // the library's gate takes the place of alpha/r
		k *= s.c.Alpha / float32(s.c.R)
	}
	if s.groups == nil {
		s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
			in := x
			if s.c.Dropout > 0 && t.Train {
				in = nn.Dropout(t, x, s.c.Dropout)
			}
			if s.gate == nil {
				return nn.LowRank{X: in, A: s.a.V, B: s.b.V, Scale: k}
			}
			z := nn.LinearOp(t, in, &nn.Weight{Out: s.c.R, In: s.layer.W.In, P: s.a}, nil)
			z = nn.MulCol(t, z, s.pass.spread(t, s.pass.mean(t, s.gate, x)))
			return nn.LowRank{X: z, B: s.b.V, Scale: k}
		})
		return nil
	}
	third, at := s.layer.W.Out/3, 0
	for g, on := range s.groups {
		if !on {
			continue
		}
		i := at
		at++
		rows := func(from, n int) []int32 {
			out := make([]int32, n)
			for j := range out {
				out[j] = int32(from + j)
			}
			return out
		}
		aRows, bRows, target := rows(i*s.c.R, s.c.R), rows(i*third, third), rows(g*third, third)
		s.layer.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
			in := x
			if s.c.Dropout > 0 && t.Train {
				in = nn.Dropout(t, x, s.c.Dropout)
			}
			b := nn.ScatterRows(t, nn.GatherRows(t, s.b.V, bRows), target, s.layer.W.Out)
			low := nn.LowRank{X: in, A: nn.GatherRows(t, s.a.V, aRows), B: b, Scale: k}
			if s.gate != nil {
				gates := s.pass.spread(t, s.pass.mean(t, s.gate, x))
				low.X, low.A = nn.MulCol(t, nn.MatMulT(t, in, low.A), nn.Columns(t, gates, i, i+1)), nil
			}
			return low
		})
	}
	return nil
}
