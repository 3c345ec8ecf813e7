package hub

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// bnConfig is the library's BnConfig.
type bnConfig struct {
	MH           bool      `json:"mh_adapter"`
	Output       bool      `json:"output_adapter"`
	Cross        bool      `json:"cross_adapter"`
	Reduction    reduction `json:"reduction_factor"`
	NonLinearity string    `json:"non_linearity"`

	OriginalBefore  bool           `json:"original_ln_before"`
	OriginalAfter   bool           `json:"original_ln_after"`
	Before          bool           `json:"ln_before"`
	After           bool           `json:"ln_after"`
	ResidualBefore  residualBefore `json:"residual_before_ln"`
	AdapterResidual bool           `json:"adapter_residual_before_ln"`

	Init       string  `json:"init_weights"`
	Parallel   bool    `json:"is_parallel"`
	Scaling    scaling `json:"scaling"`
	Gating     bool    `json:"use_gating"`
	Invertible *string `json:"inv_adapter"`
	OldInv     fields  `json:"invertible_adapter"`
	LeaveOut   []int   `json:"leave_out"`
	Dropout    float32 `json:"dropout"`
	Depth      float32 `json:"stochastic_depth"`
	PHM        bool    `json:"phm_layer"`
	act        nn.Activation
	phmConfig
}

// reduction is one factor, or one per layer with a default.
type reduction struct {
	factor float64
	layers map[string]float64
}

// UnmarshalJSON accepts a number and an object.
func (r *reduction) UnmarshalJSON(b []byte) error {
	*r = reduction{}
	if json.Unmarshal(b, &r.factor) == nil {
		return nil
	}
	return json.Unmarshal(b, &r.layers)
}

// width returns the size of the bottleneck of a layer.
func (r reduction) width(hidden, layer int) (int, error) {
	f := r.factor
	if r.layers != nil {
		var ok bool
		if f, ok = r.layers[strconv.Itoa(layer)]; !ok {
			if f, ok = r.layers["default"]; !ok {
				return 0, fmt.Errorf("reduction_factor names neither layer %d nor a default: %w", layer, peft.ErrConfig)
			}
		}
	}
	if !(f > 0) {
		return 0, fmt.Errorf("reduction_factor is %g, expected more than 0: %w", f, peft.ErrConfig)
	}
	return int(min(max(1, math.Floor(float64(hidden)/f)), 1<<20)), nil
}

// residualBefore is true, false or "post_add".
type residualBefore struct {
	before  bool
	postAdd bool
}

// UnmarshalJSON accepts a boolean and the word post_add.
func (r *residualBefore) UnmarshalJSON(b []byte) error {
	*r = residualBefore{}
	if string(b) == `"post_add"` {
		r.postAdd = true
		return nil
	}
	return json.Unmarshal(b, &r.before)
}

// scaling is a number, "learned" or "channel".
type scaling struct {
	factor float32
	kind   string
}

// UnmarshalJSON accepts a number and a word.
func (s *scaling) UnmarshalJSON(b []byte) error {
	*s = scaling{factor: 1}
	if json.Unmarshal(b, &s.kind) == nil {
		return oneOf("scaling", s.kind, "learned", "channel")
	}
	s.kind = ""
	return json.Unmarshal(b, &s.factor)
}

// activation finds a non-linearity by the library's name.
func activation(name string, legacy bool) (nn.Activation, error) {
	name = strings.ToLower(name)
	if legacy {
		switch name {
		case "gelu":
			name = "gelu_new"
		case "gelu_orig":
			name = "gelu"
		}
	}
	switch name {
	case "leakyrelu":
		return leakyReLU, nil
	case "linear":
		return nn.Activation{Name: "linear", F: func(x float64) float64 { return x }, D: func(float64) float64 { return 1 }}, nil
	}
	a, ok := nn.ActivationByName(name)
	if !ok {
		return a, fmt.Errorf("non_linearity %q is not known: %w", name, peft.ErrConfig)
	}
	return a, nil
}

var leakyReLU = nn.Activation{
	Name: "leakyrelu",
	F:    func(x float64) float64 { return max(x, 0.01*x) },
	D: func(x float64) float64 {
		if x > 0 {
			return 1
		}
		return 0.01
	},
}

// check refuses what is not computed.
func (c *bnConfig) check(f *file) error {
	if c.Invertible != nil && *c.Invertible != "" || c.OldInv != nil {
		return fmt.Errorf("inv_adapter: invertible adapters at the embeddings are not computed; seq_bn and double_seq_bn go without: %w", peft.ErrConfig)
	}
	if err := oneOf("init_weights", c.Init, "bert", "mam_adapter", "houlsby"); err != nil {
		return err
	}
	if c.PHM && c.Init != "bert" {
		return fmt.Errorf("init_weights %s is for adapters without phm_layer: %w", c.Init, peft.ErrConfig)
	}
	if c.Dropout < 0 || c.Dropout >= 1 || c.Depth < 0 || c.Depth >= 1 {
		return fmt.Errorf("dropout and stochastic_depth lie in [0,1): %w", peft.ErrConfig)
	}
	if c.Depth > 0 && c.Parallel {
		c.Depth = 0 // the library's parallel adapters drop nothing
	}
	var err error
	c.act, err = activation(c.NonLinearity, f.legacy())
	return err
}

// places says whether the configuration wants an adapter at a kind of sublayer.
func (c *bnConfig) places(k model.SublayerKind) bool {
	switch k {
	case model.SelfAttention:
		return c.MH
	case model.CrossAttention:
		return c.Cross
	}
	return c.Output
}

// bottleneck builds the bottleneck adapters of a part.
func (a *Adapter) bottleneck(p part) error {
	c := &bnConfig{}
	if err := p.decode(c); err != nil {
		return err
	}
	if err := c.check(a.file); err != nil {
		return err
	}
	shared := &phmShared{}
	n, width := 0, 0
	for _, sub := range a.model.Sublayers {
		layer := a.layerIndex(sub.Stack, sub.Layer)
		if !c.places(sub.Kind) || slices.Contains(c.LeaveOut, layer) {
			continue
		}
		if c.ResidualBefore.postAdd && (!c.OriginalBefore || sub.Norm == nil) {
			return fmt.Errorf("residual_before_ln \"post_add\" is for layers that norm the sum and for original_ln_before; this is neither: %w", peft.ErrConfig)
		}
		w, err := c.Reduction.width(sub.Hidden, layer)
		if err != nil {
			return err
		}
		s := &bnSite{c: c, sub: sub, pass: a.pass(sub.Stack)}
		if err := s.declare(a, a.sublayerPath(sub)+".adapters."+a.name+".", w, shared); err != nil {
			return err
		}
		a.sites = append(a.sites, s)
		n, width = n+1, w
	}
	if n == 0 {
		return fmt.Errorf("no sublayer of this model is one of mh_adapter, output_adapter and cross_adapter that leave_out leaves: %w", peft.ErrNoFit)
	}
	kind := "sequential"
	if c.Parallel {
		kind = "parallel"
	}
	if c.PHM {
		kind += " PHM"
	}
	a.summary = append(a.summary, fmt.Sprintf("%s bottlenecks of width %d at %d sublayers", kind, width, n))
	return nil
}

// projection is one linear map of the bottleneck: full, or made of Kronecker
// products.
type projection struct {
	w    *nn.Weight
	bias *nn.Weight
	phm  *phm
}

// forward returns the map of x.
func (p *projection) forward(t *nn.Tape, x *nn.Var) *nn.Var {
	if p.phm != nil {
		return nn.LinearOp(t, x, nil, p.bias, nn.LowRank{X: x, B: p.phm.matrix(t), Scale: 1})
	}
	return nn.LinearOp(t, x, p.w, p.bias)
}

// bnSite is one adapter at one sublayer.
type bnSite struct {
	c    *bnConfig
	sub  *model.Sublayer
	pass *pass

	before, after *norm
	down, up      *projection
	scale         *nn.Param // learned or channel
	gate          *projection
}

// norm is a layer norm of the adapter's own.
type norm struct{ w, b *nn.Weight }

func (n *norm) forward(t *nn.Tape, x *nn.Var) *nn.Var { return nn.LayerNorm(t, x, n.w, n.b, 1e-5) }

func (a *Adapter) norm(name string, size int) *norm {
	n := &norm{vector(a.param(name+".weight", size)), vector(a.param(name+".bias", size))}
	a.ones = append(a.ones, n.w.P)
	return n
}

func (a *Adapter) linear(name string, out, in int) *projection {
	w, b := a.param(name+".weight", out, in), a.param(name+".bias", out)
	return &projection{w: &nn.Weight{Name: w.Name, Out: out, In: in, P: w}, bias: vector(b)}
}

// vector wraps a parameter of one dimension as the weight of a norm or a bias.
func vector(p *nn.Param) *nn.Weight {
	return &nn.Weight{Name: p.Name, Out: 1, In: len(p.V.Data), P: p}
}

// declare makes the parameters in the order of the library's module.
func (s *bnSite) declare(a *Adapter, path string, width int, shared *phmShared) error {
	c, hidden := s.c, s.sub.Hidden
	down := path + "adapter_down.0"
	if c.Before {
		s.before = a.norm(path+"adapter_norm_before", hidden)
		// The library lists the norm a second time, as the first of adapter_down.
		a.twin(path+"adapter_down.0.weight", s.before.w.P)
		a.twin(path+"adapter_down.0.bias", s.before.b.P)
		down = path + "adapter_down.1"
	}
	if c.PHM {
		var err error
		if s.down, err = a.phm(down, "down", width, hidden, c, shared); err != nil {
			return err
		}
		if s.up, err = a.phm(path+"adapter_up", "up", hidden, width, c, shared); err != nil {
			return err
		}
	} else {
		s.down = a.linear(down, width, hidden)
		s.up = a.linear(path+"adapter_up", hidden, width)
	}
	switch c.Scaling.kind {
	case "learned":
		s.scale = a.param(path+"scaling", 1)
	case "channel":
		s.scale = a.param(path+"scaling", hidden)
	}
	if s.scale != nil {
		a.ones = append(a.ones, s.scale)
	}
	if c.After {
		s.after = a.norm(path+"adapter_norm_after", hidden)
	}
	if c.Gating {
		s.gate = a.linear(path+"gate", 1, hidden)
		a.model.WholeText = true
	}
	return nil
}

// path is what the random start depends on.
func (s *bnSite) path() string { return s.sub.Path }

// init draws the weights as init_weights says; biases begin with zeros.
func (s *bnSite) init(rng *rand.Rand) {
	if s.gate != nil {
		normal(rng, s.gate.w.P, 0.02)
		if s.c.Init == "houlsby" { // left as PyTorch makes a linear layer
			uniform(rng, 1/math.Sqrt(float64(s.gate.w.In)), s.gate.w.P, s.gate.bias.P)
		}
	}
	if s.c.PHM {
		s.down.phm.init(rng)
		s.up.phm.init(rng)
		return
	}
	switch s.c.Init {
	case "bert":
		normal(rng, s.down.w.P, 0.02)
		normal(rng, s.up.w.P, 0.02)
	case "mam_adapter":
		uniform(rng, 1/math.Sqrt(float64(s.down.w.In)), s.down.w.P)
	case "houlsby":
		for _, p := range []*nn.Param{s.down.w.P, s.up.w.P} {
			for i := range p.V.Data {
				x := rng.NormFloat64()
				for math.Abs(x) > 2 {
					x = rng.NormFloat64()
				}
				p.V.Data[i] = float32(0.01 * x)
			}
		}
	}
}

// normal draws a parameter from a normal distribution.
func normal(rng *rand.Rand, p *nn.Param, sigma float64) {
	for i := range p.V.Data {
		p.V.Data[i] = float32(sigma * rng.NormFloat64())
	}
}

// uniform draws parameters from [-bound, bound).
func uniform(rng *rand.Rand, bound float64, params ...*nn.Param) {
	for _, p := range params {
		for i := range p.V.Data {
			p.V.Data[i] = float32(bound * (2*rng.Float64() - 1))
		}
	}
}

// attach puts the adapter around the end of its sublayer.
func (s *bnSite) attach(scale float32) error {
	c := s.c
	if scale != 1 && c.After && c.AdapterResidual {
		return fmt.Errorf("a scale of %g cannot apply where ln_after norms the residual stream: %w", scale, peft.ErrConfig)
	}
	s.sub.Wrap(func(t *nn.Tape, st nn.Stream, y *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		if c.Parallel {
			y = nn.Add(t, y, s.delta(t, st.Residual, nil, scale))
		} else {
			in, res := y, y
			if c.OriginalBefore {
				in = nn.Sum(t, st.Residual, y)
				if c.ResidualBefore.postAdd {
					res = in
				}
				if st.Norm != nil {
					in = st.Norm.Forward(t, in)
				}
			}
			if !c.ResidualBefore.before && !c.ResidualBefore.postAdd {
				res = in
			}
			y = s.delta(t, in, res, scale)
		}
		if !c.OriginalAfter {
			return y
		}
		return next(t, y)
	})
	return nil
}

// delta returns what the bottleneck computes of x, plus res unless it is nil.
func (s *bnSite) delta(t *nn.Tape, x, res *nn.Var, scale float32) *nn.Var {
	c := s.c
	in := x
	if s.before != nil {
		in = s.before.forward(t, x)
	}
	mid := s.down.forward(t, in)
	act := nn.Apply(t, mid, c.act)
	t.Discard(mid)
	out := s.up.forward(t, act)
	t.Discard(act)
	if c.Depth > 0 && !c.Parallel {
		out = s.dropPath(t, out)
	}
	switch c.Scaling.kind {
	case "learned":
		out = nn.ScaleBy(t, out, s.scale.V)
	case "channel":
		out = nn.MulRow(t, out, s.scale.V)
	}
	k := c.Scaling.factor
	if s.after == nil {
		k *= scale
	}
	if k != 1 {
		out = nn.Scale(t, out, k)
	}
	out = nn.Dropout(t, out, c.Dropout)
	if s.gate != nil {
		out = nn.MulCol(t, out, s.pass.spread(t, s.pass.mean(t, s.gate, x)))
	}
	if res != nil && c.AdapterResidual {
		out = nn.Add(t, res, out)
	}
	if s.after != nil {
		if out = s.after.forward(t, out); scale != 1 {
			out = nn.Scale(t, out, scale)
		}
	}
	if res != nil && !c.AdapterResidual {
		out = nn.Add(t, res, out)
	}
	return out
}

// dropPath drops the adapter's part of whole sequences in training, as
// torchvision's stochastic depth does by rows.
func (s *bnSite) dropPath(t *nn.Tape, x *nn.Var) *nn.Var {
	if !t.Train {
		return x
	}
	ones := t.New(len(s.pass.seqs()), 1)
	for i := range ones.Data {
		ones.Data[i] = 1
	}
	return nn.MulCol(t, x, s.pass.spread(t, nn.Dropout(t, ones, s.c.Depth)))
}
