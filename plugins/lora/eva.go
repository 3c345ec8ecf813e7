package lora

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// EVA (Paischer et al. 2024, arXiv 2410.07170) begins A as the principal
// components of each module's inputs on the training data, and gives the ranks to
// the modules where a component explains most of the variance. As in PEFT the
// components come from an incremental decomposition that runs until they stop
// turning; ours is exact where PEFT's is randomised, and gathers the rows of small
// batches until they are as many as the components.

// evaConfig is EvaConfig of PEFT.
type evaConfig struct {
	Rho       float64 `json:"rho"`
	Tau       float64 `json:"tau"`
	LabelMask bool    `json:"use_label_mask"`
	MaskValue int     `json:"label_mask_value"`
	Whiten    bool    `json:"whiten"`
	Adjust    bool    `json:"adjust_scaling_factors"`
}

// checkEVA reads eva_config and stores its defaults.
func (c *config) checkEVA() error {
	if c.initKind != initEVA {
		return nil
	}
	c.eva = evaConfig{Rho: 2, Tau: 0.99, LabelMask: true, MaskValue: -100, Adjust: true}
	if raw := c.common.Raw("eva_config"); raw != nil {
		if err := json.Unmarshal(raw, &c.eva); err != nil {
			return tuner.Invalid("eva_config: %w", err)
		}
	} else {
		c.common.Set("eva_config", c.eva)
	}
	if !(c.eva.Rho >= 1) || !(c.eva.Tau >= 0 && c.eva.Tau <= 1) {
		return tuner.Invalid("eva_config: rho %g and tau %g, expected rho from 1 and tau from 0 to 1", c.eva.Rho, c.eva.Tau)
	}
	return nil
}

var _ peft.Calibrator = (*adapter)(nil)

// evaBatches limits how long EVA waits for components that keep turning.
const evaBatches = 500

// Calibrate implements peft.Calibrator: EVA begins here.
func (a *adapter) Calibrate(ctx context.Context, m *model.Model, batches iter.Seq[*model.Batch]) error {
	c := a.cfg
	if !c.fresh || c.initKind != initEVA {
		return nil
	}
	var sites []*site
	for _, s := range c.sites {
		if s.at.Mod.Linear != nil {
			sites = append(sites, s)
		}
	}
	groups, err := a.components(ctx, m, batches, sites)
	if err != nil || len(sites) == 0 {
		return err
	}
	ranks := shares(sites, groups)
	for _, s := range sites {
		s.grow(groups[s], ranks[s])
	}
	a.redistribute(ranks)
	if c.FrozenA {
		for _, s := range c.sites {
			if err := s.project(); err != nil {
				return err
			}
		}
	}
	return nil
}

// inputs is what EVA knows of the inputs that some sites share.
type inputs struct {
	first   *site // the site whose input is looked at
	want    int   // components
	rows    []float32
	pca     pca
	settled []bool // components that stopped turning
	done    bool
}

// components runs the training data through the model until the components of
// all inputs have settled.
func (a *adapter) components(ctx context.Context, m *model.Model, batches iter.Seq[*model.Batch], sites []*site) (map[*site]*inputs, error) {
	groups := map[*site]*inputs{}
	seen := map[*nn.Var]*inputs{} // of this forward pass
	var keep []int32              // rows to look at, nil for all
	var total int
	first := true
	for _, s := range sites {
		s.observe = func(x *nn.Var) {
			g := groups[s]
			if first {
				if g = seen[x]; g == nil {
					g = &inputs{first: s}
					seen[x] = g
				}
				groups[s] = g
				g.want = max(g.want, min(int(math.RoundToEven(float64(s.rank)*a.cfg.eva.Rho)), s.at.In))
				return
			}
			if g.first == s && !g.done {
				g.take(x, keep, total, a.cfg.eva.Tau)
			}
		}
	}
	defer func() {
		for _, s := range sites {
			s.observe = nil
		}
	}()
	tape := nn.NewTape()
	defer tape.Close()
	run := func(b *model.Batch) {
		tape.Reset()
		m.Loss(tape, b, 0)
	}
	for n := 0; n < evaBatches; {
		before := n
		for b := range batches {
			if first {
				run(b)
				first = false
				for _, s := range sites {
					if groups[s] == nil {
						return nil, fmt.Errorf("%s: EVA saw no input of it in the training data: %w", s.at.Path, peft.ErrConfig)
					}
				}
			}
			keep, total = a.cfg.rowsOf(b), len(b.Tokens)
			run(b)
			ranks, ready := map[*site]int(nil), true
			for _, g := range groups {
				ready = ready && g.pca.components != nil
			}
			if ready {
				ranks = shares(sites, groups)
			}
			open := 0
			for _, g := range groups {
				k := g.want
				if ranks != nil {
					k = ranks[g.first]
				}
				g.done = len(g.settled) > 0 && !slices.Contains(g.settled[:k], false)
				if !g.done {
					open++
				}
			}
			if n++; open == 0 || n >= evaBatches || ctx.Err() != nil {
				break
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n == before {
			return nil, fmt.Errorf("EVA begins from data, and there is none: %w", peft.ErrConfig)
		}
		all := true
		for _, g := range groups {
			all = all && g.done
			if g.pca.components == nil && len(g.rows) == 0 {
				return nil, fmt.Errorf("%s: EVA found no row of the training data to look at: %w", g.first.at.Path, peft.ErrConfig)
			}
		}
		if all {
			break
		}
	}
	for _, g := range groups {
		if g.pca.components == nil {
			return nil, fmt.Errorf("%s: EVA wants at least %d tokens of training data for this rank: %w", g.first.at.Path, g.want, peft.ErrConfig)
		}
	}
	return groups, nil
}

// rowsOf lists the rows of a language model's batch whose own token is learned,
// nil for all rows.
func (c *config) rowsOf(b *model.Batch) []int32 {
	if !c.eva.LabelMask || len(b.Labels) != len(b.Tokens) || b.Source != nil {
		return nil
	}
	keep := []int32{}
	for k, q := range b.Seqs {
		for i := q.Start; i < q.End; i++ {
			learned := i > q.Start && b.Labels[i-1] >= 0
			if i == q.Start {
				learned = k < len(b.First) && b.First[k] >= 0
			}
			if learned {
				keep = append(keep, int32(i))
			}
		}
	}
	return keep
}

// take looks at the inputs of one batch.
func (g *inputs) take(x *nn.Var, keep []int32, total int, tau float64) {
	m := x.Mat()
	if keep == nil || m.Rows != total {
		g.rows = append(g.rows, m.Data[:m.Rows*m.Cols]...)
	} else {
		for _, i := range keep {
			g.rows = append(g.rows, m.Row(int(i))...)
		}
	}
	n := len(g.rows) / m.Cols
	if n < g.want {
		return
	}
	old := g.pca.components
	g.pca.fit(kernels.MatOf(g.rows, n, m.Cols), g.want)
	g.rows = g.rows[:0]
	if old == nil {
		return
	}
	g.settled = make([]bool, g.want)
	for k := range g.settled {
		a, b := old[k*m.Cols:(k+1)*m.Cols], g.pca.components[k*m.Cols:(k+1)*m.Cols]
		cos := float64(kernels.Dot(a, b)) / math.Max(1e-8, float64(norm(a))*float64(norm(b)))
		g.settled[k] = cos >= tau
	}
}

// pca is an incremental principal component analysis (Ross et al. 2008).
type pca struct {
	components []float32 // [k, features]
	values     []float32 // singular values
	share      []float64 // of the variance, by component
	mean, m2   []float64 // of all rows so far: mean and summed squared distance
	n          float64
}

// fit adds rows; x is overwritten.
func (p *pca) fit(x kernels.Mat, k int) {
	cols, n := x.Cols, float64(x.Rows)
	mean, m2 := make([]float64, cols), make([]float64, cols)
	for r := range x.Rows {
		for j, v := range x.Row(r) {
			mean[j] += float64(v)
		}
	}
	for j := range mean {
		mean[j] /= n
	}
	for r := range x.Rows {
		for j, v := range x.Row(r) {
			d := float64(v) - mean[j]
			m2[j] += d * d
			x.Row(r)[j] = float32(d)
		}
	}
	total := p.n + n
	all := x.Data[:x.Rows*cols]
	if p.components != nil {
		stack := make([]float32, 0, len(p.components)+len(all)+cols)
		for i, s := range p.values {
			for _, v := range p.components[i*cols : (i+1)*cols] {
				stack = append(stack, s*v)
			}
		}
		stack = append(stack, all...)
		f := math.Sqrt(p.n / total * n)
		for j := range mean {
			stack = append(stack, float32(f*(p.mean[j]-mean[j])))
			d := p.mean[j] - mean[j]
			m2[j] += p.m2[j] + d*d*p.n*n/total
			mean[j] = (p.mean[j]*p.n + mean[j]*n) / total
		}
		all = stack
	}
	_, s, vt, err := linalg.TruncatedSVD(all, len(all)/cols, cols, k)
	if err != nil {
		return // not finite: the loss of the first step says so
	}
	sum := 0.0
	for _, v := range m2 {
		sum += v
	}
	p.share = make([]float64, k)
	for i, v := range s {
		if sum > 0 {
			p.share[i] = float64(v) * float64(v) / sum
		}
		// The largest element is positive, so that components can be compared.
		row, at := vt[i*cols:(i+1)*cols], 0
		for j, w := range row {
			if math.Abs(float64(w)) > math.Abs(float64(row[at])) {
				at = j
			}
		}
		if row[at] < 0 {
			kernels.Scale(row, -1)
		}
	}
	p.components, p.values, p.mean, p.m2, p.n = vt, s, mean, m2, total
}

// shares gives the ranks, as many as there are, to the components that explain
// most. Of sites with the same input the first keeps the most.
func shares(sites []*site, groups map[*site]*inputs) map[*site]int {
	type entry struct {
		s     *site
		share float64
	}
	var list []entry
	budget := 0
	for _, s := range sites {
		budget += s.rank
		for _, v := range groups[s].pca.share {
			list = append(list, entry{s, v})
		}
	}
	slices.SortStableFunc(list, func(a, b entry) int {
		switch {
		case a.share > b.share:
			return -1
		case a.share < b.share:
			return 1
		}
		return 0
	})
	ranks := map[*site]int{}
	for _, e := range list[:min(budget, len(list))] {
		ranks[e.s]++
	}
	for _, s := range sites {
		if f := groups[s].first; ranks[f] < ranks[s] {
			ranks[f], ranks[s] = ranks[s], ranks[f]
		}
	}
	return ranks
}

// grow gives the site its rank and the components.
func (s *site) grow(g *inputs, rank int) {
	if rank == 0 {
		return
	}
	if rank != s.rank {
		if s.cfg.eva.Adjust {
			s.alpha *= float64(rank) / float64(s.rank)
		}
		s.rank = rank
		reshape(s.a, rank, s.at.In)
		reshape(s.b, s.at.Out, rank)
		s.scale = float32(scaleOf(s.alpha, rank, s.cfg.UseRSLoRA))
		s.effect = s.scale
	}
	copy(s.a.V.Data, g.pca.components[:rank*s.at.In])
	if s.cfg.eva.Whiten {
		for k := range rank {
			kernels.Scale(s.a.V.Mat().Row(k), float32(1/math.Sqrt(float64(g.pca.values[k]))))
		}
	}
	clear(s.b.V.Data)
}

// reshape gives a parameter another size; who holds it sees that.
func reshape(p *nn.Param, shape ...int) {
	needs := p.V.Needs
	q := nn.NewParam(p.Name, shape...)
	p.Shape, p.V = q.Shape, q.V
	p.V.Needs = needs
}

// redistribute writes the ranks to rank_pattern and alpha_pattern, and leaves the
// modules alone that got none.
func (a *adapter) redistribute(ranks map[*site]int) {
	c := a.cfg
	var rank, alpha []peft.Pattern
	var left []*site
	for _, s := range c.sites {
		if s.at.Mod.Linear != nil && ranks[s] == 0 {
			s.off = true
			for _, p := range []*nn.Param{s.a, s.b, s.bias, s.mag} {
				if p != nil {
					a.SetTrained(p, false)
					a.Drop(p)
				}
			}
			continue
		}
		left = append(left, s)
		if s.rank != c.R {
			rank = append(rank, peft.Pattern{Key: s.at.Path, Value: float64(s.rank)})
		}
		if s.alpha != c.Alpha {
			alpha = append(alpha, peft.Pattern{Key: s.at.Path, Value: s.alpha})
		}
	}
	if len(left) < len(c.sites) {
		c.sites = left
		c.common.SetTargets(peft.Targets{List: c.paths()})
	}
	c.single = tuner.RankAlpha{Ranks: tuner.NewPatterns("rank_pattern", rank), Alphas: tuner.NewPatterns("alpha_pattern", alpha)}
	c.common.Set("rank_pattern", c.single.Ranks)
	c.common.Set("alpha_pattern", c.single.Alphas)
}
