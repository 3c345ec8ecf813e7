package hub

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// prefixConfig is the library's PrefixTuningConfig (Li and Liang 2021).
type prefixConfig struct {
	Encoder      bool    `json:"encoder_prefix"`
	Cross        bool    `json:"cross_prefix"`
	LeaveOut     []int   `json:"leave_out"`
	Flat         bool    `json:"flat"`
	Length       int     `json:"prefix_length"`
	Bottleneck   int     `json:"bottleneck_size"`
	NonLinearity string  `json:"non_linearity"`
	Dropout      float32 `json:"dropout"`
	Gating       bool    `json:"use_gating"`
	SharedGating bool    `json:"shared_gating"`
	act          nn.Activation
}

// prefixPool holds the keys and values that are learned for all attentions of one
// kind: encoder, decoder (self) or cross.
type prefixPool struct {
	c    *prefixConfig
	key  string
	n    int // attentions
	cols int // features of a key

	flat             *nn.Param // or:
	wte              *nn.Param
	reduce, increase *projection

	kv *nn.Var // of this pass: [length, 2 n cols]
}

// prefix builds prefix tuning in the library's form.
func (a *Adapter) prefix(p part) error {
	c := &prefixConfig{}
	if err := p.decode(c); err != nil {
		return err
	}
	if c.Length < 1 || c.Length > 1<<20 || c.Bottleneck < 1 || c.Bottleneck > 1<<20 || c.Dropout < 0 || c.Dropout >= 1 {
		return fmt.Errorf("prefix_length %d, bottleneck_size %d, dropout %g: out of range: %w", c.Length, c.Bottleneck, c.Dropout, peft.ErrConfig)
	}
	var err error
	if c.act, err = activation(c.NonLinearity, a.file.legacy()); err != nil {
		return err
	}
	pools := map[string]*prefixPool{}
	var order []string
	var sites []*prefixSite
	for _, at := range a.model.Attentions {
		key := a.location(at)
		if at.Cross && !c.Cross || strings.HasPrefix(key, "encoder") && !c.Encoder || slices.Contains(c.LeaveOut, a.layerIndex(at.Stack, at.Layer)) {
			continue
		}
		if pools[key] == nil {
			pools[key] = &prefixPool{c: c, key: key, cols: at.KVHeads * at.HeadDim}
			order = append(order, key)
			pass := a.pass(at.Stack)
			pool := pools[key]
			pass.begin = append(pass.begin, func() { pool.kv = nil })
		}
		if pools[key].cols != at.KVHeads*at.HeadDim {
			return fmt.Errorf("prefix tuning needs attentions of one size, %s differs: %w", at.Path, peft.ErrNoFit)
		}
		sites = append(sites, &prefixSite{a: a, at: at, pool: pools[key], id: pools[key].n, pass: a.pass(at.Stack)})
		pools[key].n++
	}
	if len(sites) == 0 {
		return fmt.Errorf("prefix tuning: encoder_prefix, cross_prefix and leave_out leave no attention of this model: %w", peft.ErrNoFit)
	}
	for _, key := range order {
		pools[key].declare(a)
		a.sites = append(a.sites, pools[key])
	}
	for _, s := range sites {
		if c.Gating {
			if err := s.gated(); err != nil {
				return err
			}
			a.model.WholeText = true
		}
		a.sites = append(a.sites, s)
	}
	a.summary = append(a.summary, fmt.Sprintf("prefixes of %d keys and values at %d attentions", c.Length, len(sites)))
	return nil
}

// location is the library's name for a kind of attention.
func (a *Adapter) location(at *model.Attention) string {
	switch {
	case at.Cross:
		return "cross_prefix"
	case at.Stack == model.Encoder && len(a.model.Inputs) > 1:
		return "encoder_prefix"
	case a.model.Type() == "distilbert":
		return "self"
	}
	return "self_prefix"
}

func (p *prefixPool) declare(a *Adapter) {
	pool := "prefix_tunings." + a.name + "." + p.key + "."
	path := a.base() + "prefix_tuning." + pool
	width := 2 * p.n * p.cols
	from := len(a.saved)
	defer func() {
		// The library lists its pool a second time in every attention.
		for _, at := range a.model.Attentions {
			for _, q := range a.saved[from:] {
				a.twins = append(a.twins, twin{at.Path + ".prefix_tuning.pool." + pool + strings.TrimPrefix(q.Name, path), q, true})
			}
		}
	}()
	if p.c.Flat {
		p.flat = a.param(path+"control_trans", p.c.Length*width)
		return
	}
	p.wte = a.param(path+"wte.weight", p.c.Length, a.model.HiddenSize)
	p.reduce = a.linear(path+"control_trans.0", p.c.Bottleneck, a.model.HiddenSize)
	p.increase = a.linear(path+"control_trans.2", width, p.c.Bottleneck)
}

func (p *prefixPool) path() string { return p.key }

// init draws what PyTorch draws for an embedding and linear layers.
func (p *prefixPool) init(rng *rand.Rand) {
	if p.flat != nil {
		normal(rng, p.flat, 1)
		return
	}
	normal(rng, p.wte, 1)
	for _, l := range []*projection{p.reduce, p.increase} {
		uniform(rng, 1/math.Sqrt(float64(l.w.In)), l.w.P, l.bias.P)
	}
}

func (p *prefixPool) attach(float32) error { return nil }

// keysValues returns the keys and values of attention id, each [length, cols].
func (p *prefixPool) keysValues(t *nn.Tape, id int) (k, v *nn.Var) {
	if p.kv == nil {
		if p.flat != nil {
			p.kv = nn.View(t, p.flat.V, p.c.Length, 2*p.n*p.cols)
		} else {
			p.kv = p.increase.forward(t, nn.Apply(t, p.reduce.forward(t, p.wte.V), p.c.act))
		}
		p.kv = nn.Dropout(t, p.kv, p.c.Dropout)
	}
	at := 2 * id * p.cols
	return nn.Columns(t, p.kv, at, at+p.cols), nn.Columns(t, p.kv, at+p.cols, at+2*p.cols)
}

// prefixSite puts the learned keys and values before those of one attention.
type prefixSite struct {
	a    *Adapter
	at   *model.Attention
	pool *prefixPool
	id   int
	pass *pass

	gate  *projection
	reads *nn.LinearLayer // whose input the gate reads
	gates *nn.Var         // of this pass: [sequences, 1 or 2]
}

func (s *prefixSite) path() string { return s.at.Path + ".prefix_tuning" }

// gated declares the gate.
func (s *prefixSite) gated() error {
	n := 2
	if s.pool.c.SharedGating {
		n = 1
	}
	s.gate = s.a.linear(s.path()+".prefix_gates."+s.a.name, n, s.a.model.HiddenSize)
	if s.reads = s.at.Q; s.reads == nil {
		for _, mod := range s.a.model.Modules {
			if mod.Linear != nil && mod.Path == s.at.Path+".c_attn" {
				s.reads = mod.Linear
			}
		}
	}
	if s.reads == nil {
		return fmt.Errorf("use_gating: %s has no query projection to read: %w", s.at.Path, peft.ErrNoFit)
	}
	return nil
}

func (s *prefixSite) init(rng *rand.Rand) {
	if s.gate != nil {
		normal(rng, s.gate.w.P, 0.02)
		uniform(rng, 1/math.Sqrt(float64(s.gate.w.In)), s.gate.bias.P)
	}
}

func (s *prefixSite) attach(scale float32) error {
	if scale != 1 {
		return fmt.Errorf("a scale of %g cannot apply to keys and values: %w", scale, peft.ErrConfig)
	}
	if s.gate != nil {
		s.reads.Wrap(func(t *nn.Tape, x *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
			s.gates = s.pass.mean(t, s.gate, x)
			return next(t, x)
		})
	}
	s.at.Wrap(func(t *nn.Tape, q, k, v *nn.Var, spec nn.AttnSpec, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
		pk, pv := s.pool.keysValues(t, s.id)
		if spec.Bias != nil {
			// The library counts the prefix among the keys but not among the queries.
			b := *spec.Bias
			b.Offset -= s.pool.c.Length
			spec.Bias = &b
		}
		if s.gate == nil {
			return next(t, q, k, v, before(t, spec, pk, pv))
		}
		return s.bySequence(t, q, k, v, spec, pk, pv, next)
	})
	return nil
}

// before puts keys and values before those of the past.
func before(t *nn.Tape, spec nn.AttnSpec, pk, pv *nn.Var) nn.AttnSpec {
	if spec.PastK != nil {
		pk, pv = nn.Concat(t, pk, spec.PastK), nn.Concat(t, pv, spec.PastV)
	}
	spec.PastK, spec.PastV = pk, pv
	return spec
}

// bySequence runs the attention once per sequence, whose gates scale its prefix.
func (s *prefixSite) bySequence(t *nn.Tape, q, k, v *nn.Var, spec nn.AttnSpec, pk, pv *nn.Var, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
	outs := make([]*nn.Var, len(spec.Seqs))
	for i, sp := range spec.Seqs {
		g := nn.GatherRows(t, s.gates, []int32{int32(i)})
		last := g.Cols - 1
		one := before(t, spec, nn.ScaleBy(t, pk, nn.Columns(t, g, 0, 1)), nn.ScaleBy(t, pv, nn.Columns(t, g, last, last+1)))
		keys := sp
		if spec.KeySeqs != nil {
			keys = spec.KeySeqs[i]
			one.KeySeqs = []nn.Span{{Start: 0, End: keys.End - keys.Start}}
		}
		one.Seqs = []nn.Span{{Start: 0, End: sp.End - sp.Start}}
		outs[i] = next(t, span(t, q, sp), span(t, k, keys), span(t, v, keys), one)
	}
	if len(outs) == 1 {
		return outs[0]
	}
	return nn.Concat(t, outs...)
}

// span returns the rows of one sequence.
func span(t *nn.Tape, x *nn.Var, s nn.Span) *nn.Var {
	if s.Start == 0 && s.End == x.Rows {
		return x
	}
	rows := make([]int32, s.End-s.Start)
	for i := range rows {
		rows[i] = int32(s.Start + i)
	}
	return nn.GatherRows(t, x, rows)
}
