package hub

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// phmConfig are the keys of Compacter (Mahabadi et al. 2021).
type phmConfig struct {
	Dim            int     `json:"phm_dim"`
	FactorizedW    bool    `json:"factorized_phm_W"`
	SharedW        bool    `json:"shared_W_phm"`
	SharedRule     bool    `json:"shared_phm_rule"`
	FactorizedRule bool    `json:"factorized_phm_rule"`
	CInit          string  `json:"phm_c_init"`
	InitRange      float64 `json:"phm_init_range"`
	Learn          bool    `json:"learn_phm"`
	WInit          string  `json:"hypercomplex_nonlinearity"`
	Rank           int     `json:"phm_rank"`
	Bias           bool    `json:"phm_bias"`
}

// phmShared are the parameters that all layers of an adapter have in common.
type phmShared struct {
	rule     *rule
	down, up *kroneckerW
}

// rule is the sum's left factor of the Kronecker products: n matrices n x n, one
// below the other, whole or of rank one.
type rule struct {
	n                  int
	whole, left, right *nn.Param
	sigma              float64
	uniform            float64
}

// kroneckerW is the right factor: n matrices in/n x out/n, whole or factorised.
type kroneckerW struct {
	n, in, out, rank   int // in and out of one of the n
	whole, left, right *nn.Param
}

// phm is the matrix sum_i kron(rule_i, W_i) of [in, out].
type phm struct {
	n, in, out int
	rule       *rule
	w          *kroneckerW
	fresh      []interface{ init(*rand.Rand) } // own factors, in drawing order
	index      []int32
}

func (c *phmConfig) check(in, out int) error {
	if c.Dim < 1 || c.Rank < 1 {
		return fmt.Errorf("phm_dim %d and phm_rank %d: expected at least 1: %w", c.Dim, c.Rank, peft.ErrConfig)
	}
	if in%c.Dim != 0 || out%c.Dim != 0 {
		return fmt.Errorf("phm_dim %d does not divide %d and %d, the sizes of the bottleneck: choose another phm_dim or reduction_factor: %w", c.Dim, in, out, peft.ErrConfig)
	}
	if c.SharedW && !c.FactorizedW {
		return fmt.Errorf("shared_W_phm needs factorized_phm_W: %w", peft.ErrConfig)
	}
	if err := oneOf("phm_c_init", c.CInit, "normal", "uniform"); err != nil {
		return err
	}
	return oneOf("hypercomplex_nonlinearity", c.WInit, "phm", "glorot-normal", "glorot-uniform", "normal")
}

// unused names a given option of Compacter that other options leave without a
// use. Files may hold such keys, for the library writes all of them.
func (c *bnConfig) unused(given peft.Options) error {
	_, ranged := given["phm_init_range"]
	_, ranked := given["phm_rank"]
	switch {
	case !c.PHM:
	case ranged && !c.SharedRule:
		return fmt.Errorf("phm_init_range has no use with shared_phm_rule=false, where rules begin with a deviation of 0.01 as in the adapters library: leave it out: %w", peft.ErrConfig)
	case ranged && c.CInit == "uniform":
		return fmt.Errorf("phm_init_range has no use with phm_c_init=uniform: leave it out: %w", peft.ErrConfig)
	case ranked && !c.FactorizedW:
		return fmt.Errorf("phm_rank has no use with factorized_phm_W=false: leave it out: %w", peft.ErrConfig)
	}
	return nil
}

// fitOptions refuses given options without a use, and changes the default
// reduction_factor of a part whose phm_dim does not divide the width that it
// gives: 576 features by 32 are 18, of which the multiple of 4 below is 16.
func fitOptions(p part, given peft.Options, hidden int) error {
	c := &bnConfig{}
	if p.arch != bottleneckArch {
		return nil
	}
	if err := p.decode(c); err != nil {
		return err
	}
	if err := c.unused(given); err != nil {
		return err
	}
	if _, chosen := given["reduction_factor"]; chosen {
		return nil
	}
	width, err := c.Reduction.width(hidden, 0)
	if err != nil || !c.PHM || c.Dim < 1 || width%c.Dim == 0 {
		return err
	}
	width = max(c.Dim, width-width%c.Dim)
	// Rounded down, so that the division gives the width and not one less.
	factor := math.Floor(float64(hidden)/float64(width)*1e4) / 1e4
	p.raw["reduction_factor"] = json.RawMessage(strconv.FormatFloat(factor, 'f', -1, 64))
	return nil
}

// phm declares one projection of in to out features; position is down or up.
func (a *Adapter) phm(path, position string, out, in int, c *bnConfig, shared *phmShared) (*projection, error) {
	if err := c.phmConfig.check(in, out); err != nil {
		return nil, err
	}
	p := &phm{n: c.Dim, in: in, out: out}
	sharedPath := a.base() + "shared_parameters." + a.name + "."
	if p.rule = shared.rule; !c.SharedRule {
		// Layers of their own begin with 0.01 whatever phm_init_range says.
		p.rule = a.rule(path+".", &c.phmConfig, 0.01, 0.01)
		p.fresh = append(p.fresh, p.rule)
	} else if p.rule == nil {
		p.rule = a.rule(sharedPath, &c.phmConfig, c.InitRange, 1)
		shared.rule = p.rule
		p.fresh = append(p.fresh, p.rule)
	}
	slot := &shared.down
	if position == "up" {
		slot = &shared.up
	}
	switch {
	case !c.SharedW:
		p.w = a.kroneckerW(path+".W", &c.phmConfig, out, in)
		p.fresh = append(p.fresh, p.w)
	case *slot == nil:
		p.w = a.kroneckerW(sharedPath+"W_"+position, &c.phmConfig, out, in)
		*slot = p.w
		p.fresh = append(p.fresh, p.w)
	default:
		if p.w = *slot; p.w.in*p.n != in || p.w.out*p.n != out {
			return nil, fmt.Errorf("shared_W_phm: the layers are of different sizes: %w", peft.ErrConfig)
		}
	}
	p.index = p.transposed()
	proj := &projection{phm: p}
	if c.Bias {
		proj.bias = vector(a.param(path+".b", out))
	}
	return proj, nil
}

func (a *Adapter) rule(path string, c *phmConfig, sigma, bound float64) *rule {
	n := c.Dim
	r := &rule{n: n, sigma: sigma}
	if c.CInit == "uniform" {
		r.uniform = bound
	}
	if c.FactorizedRule {
		r.left, r.right = a.param(path+"phm_rule_left", n, n, 1), a.param(path+"phm_rule_right", n, 1, n)
	} else {
		r.whole = a.param(path+"phm_rule", n, n, n)
	}
	if !c.Learn {
		for _, p := range r.params() {
			a.freeze(p)
		}
	}
	return r
}

func (r *rule) params() []*nn.Param {
	if r.whole != nil {
		return []*nn.Param{r.whole}
	}
	return []*nn.Param{r.left, r.right}
}

func (r *rule) init(rng *rand.Rand) {
	for _, p := range r.params() {
		if r.uniform > 0 {
			uniform(rng, r.uniform, p)
		} else {
			normal(rng, p, r.sigma)
		}
	}
}

// matrix returns the rules as [n, n*n].
func (r *rule) matrix(t *nn.Tape) *nn.Var {
	v := (*nn.Var)(nil)
	if r.whole != nil {
		v = r.whole.V
	} else {
		v = nn.BatchMatMul(t, r.left.V, r.right.V, r.n, false, false)
	}
	return nn.View(t, v, r.n, r.n*r.n)
}

func (a *Adapter) kroneckerW(path string, c *phmConfig, out, in int) *kroneckerW {
	n := c.Dim
	w := &kroneckerW{n: n, in: in / n, out: out / n, rank: c.Rank}
	if c.FactorizedW {
		w.left, w.right = a.param(path+"_left", n, w.in, c.Rank), a.param(path+"_right", n, c.Rank, w.out)
	} else {
		w.whole = a.param(path, n, w.in, w.out)
	}
	return w
}

// init draws normal numbers of Glorot's deviation. The library does so whatever
// hypercomplex_nonlinearity says.
func (w *kroneckerW) init(rng *rand.Rand) {
	glorot := func(p *nn.Param, a, b int) { normal(rng, p, math.Sqrt(2/float64(a+b))) }
	if w.whole != nil {
		glorot(w.whole, w.in, w.out)
		return
	}
	glorot(w.left, w.in, w.rank)
	glorot(w.right, w.rank, w.out)
}

// matrix returns the factors as [n, in*out].
func (w *kroneckerW) matrix(t *nn.Tape) *nn.Var {
	v := (*nn.Var)(nil)
	if w.whole != nil {
		v = w.whole.V
	} else {
		v = nn.BatchMatMul(t, w.left.V, w.right.V, w.n, false, false)
	}
	return nn.View(t, v, w.n, w.in*w.out)
}

func (p *phm) init(rng *rand.Rand) {
	for _, f := range p.fresh {
		f.init(rng)
	}
}

// transposed lists, for each element of the transposed sum [out, in], where it
// lies in ruleᵀ·W, [n*n, in/n * out/n].
func (p *phm) transposed() []int32 {
	n, in, out := p.n, p.in/p.n, p.out/p.n
	index := make([]int32, p.in*p.out)
	for row := range p.out { // r*out + s
		for col := range p.in { // q*in + k
			r, s, q, k := row/out, row%out, col/in, col%in
			index[row*p.in+col] = int32((q*n+r)*in*out + k*out + s)
		}
	}
	return index
}

// matrix returns the transposed sum of Kronecker products, [out, in]: one small
// product, put in order.
func (p *phm) matrix(t *nn.Tape) *nn.Var {
	m := nn.MatMul(t, nn.Transpose(t, p.rule.matrix(t)), p.w.matrix(t))
	h := nn.Gather(t, m, p.index, p.out, p.in)
	t.Discard(m)
	return h
}
