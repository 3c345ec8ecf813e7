package adalora

import (
	"encoding/json"
	"io"
	"math"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
	"github.com/peftkit/peftkit/tensor"
)

// adapter is a tuner's adapter whose ranks are cut while it trains.
type adapter struct {
	*tuner.Adapter
	cfg   *config
	sites []*allocated
	// cut is 1 once a mask was made.
	cut *nn.Param
	// total is the number of steps of the run, initial and target the sums of ranks.
	total, initial, target int
}

var (
	_ peft.Stepper   = (*adapter)(nil)
	_ peft.Stateful  = (*adapter)(nil)
	_ peft.Penalizer = (*adapter)(nil)
	_ peft.Exporter  = (*adapter)(nil)
)

// allocated is a site with what is known about the importance of its parameters.
type allocated struct {
	*site
	// mean is the smoothed sensitivity |weight * gradient|, spread the smoothed
	// distance from it, of A, B and E.
	mean, spread [3]*nn.Param
	mask         *nn.Param // [r], 1 for a row that is kept
}

func (s *allocated) params() [3]*nn.Param { return [3]*nn.Param{s.a, s.b, s.e} }

func newAdapter(ad *tuner.Adapter) *adapter {
	a := &adapter{Adapter: ad, cfg: ad.Tuner.(*config), cut: nn.NewParam("adalora.cut", 1)}
	for _, s := range ad.Sites {
		s := &allocated{site: s.(*site)}
		for i, p := range s.params() {
			s.mean[i] = nn.NewParam(stateName(p, "mean"), p.Shape...)
			s.spread[i] = nn.NewParam(stateName(p, "spread"), p.Shape...)
		}
		s.mask = nn.NewParam(stateName(s.e, "mask"), len(s.kept))
		a.sites = append(a.sites, s)
		a.initial += len(s.kept)
	}
	a.target = min(a.cfg.TargetR*len(a.sites), a.initial)
	return a
}

// State implements peft.Stateful.
func (a *adapter) State() []*nn.Param {
	out := []*nn.Param{a.cut}
	for _, s := range a.sites {
		out = append(append(out, s.mean[:]...), s.spread[:]...)
		out = append(out, s.mask)
	}
	return out
}

// Penalty implements peft.Penalizer: the mean over all A and B of how far their
// rows and columns are from orthonormal, in the Frobenius norm.
func (a *adapter) Penalty() float64 {
	if a.cfg.Orth == 0 {
		return 0
	}
	weight := a.cfg.Orth / float64(2*len(a.sites))
	sum := 0.0
	for _, s := range a.sites {
		r := len(s.kept)
		if r == 0 {
			continue
		}
		for _, p := range []*nn.Param{s.a, s.b} {
			rows := p == s.a
			m, v := kernels.NewMat(r, r), p.V.Mat()
			kernels.Gemm(m, false, kernels.Term{A: v, TransA: !rows, B: v, TransB: rows})
			for i := range r {
				m.Row(i)[i]--
			}
			norm := 0.0
			for _, x := range m.Data {
				norm += float64(x) * float64(x)
			}
			if norm = math.Sqrt(norm); norm == 0 {
				continue
			}
			sum += norm
			g := kernels.MatOf(p.V.Grad, p.V.Rows, p.V.Cols)
			term := kernels.Term{A: m, B: v, Scale: float32(2 * weight / norm)}
			if !rows {
				term.A, term.B = v, m
			}
			kernels.Gemm(g, true, term)
		}
	}
	return weight * sum
}

// rows lists the rows of a site that are in the file.
func (a *adapter) rows(s *allocated) []int {
	var out []int
	for i := range s.kept {
		if a.cut.V.Data[0] == 0 || s.mask.V.Data[i] != 0 {
			out = append(out, i)
		}
	}
	return out
}

// Config implements peft.Adapter: rank_pattern tells the rows that are kept.
func (a *adapter) Config() (json.RawMessage, error) {
	if a.cut.V.Data[0] != 0 {
		pattern := map[string][]bool{}
		for _, s := range a.sites {
			list := make([]bool, a.cfg.InitR)
			for _, i := range a.rows(s) {
				list[s.kept[i]] = true
			}
			pattern[patternKey(s.path)] = list
		}
		a.Cfg.Set("rank_pattern", pattern)
	}
	return a.Adapter.Config()
}

// Export implements peft.Exporter: rows that were cut are left out.
func (a *adapter) Export() ([]formats.OutTensor, error) {
	out, err := a.Adapter.Export()
	if err != nil || a.cut.V.Data[0] == 0 {
		return out, err
	}
	at := map[string]int{}
	for i, t := range out {
		at[t.Name] = i
	}
	for _, s := range a.sites {
		rows := a.rows(s)
		for _, p := range s.params() {
			out[at[p.Name]] = selected(p, rows, p == s.b)
		}
	}
	return out, nil
}

// selected is a parameter with some of its rows or columns.
func selected(p *nn.Param, keep []int, columns bool) formats.OutTensor {
	var data []float32
	shape := []int{len(keep), p.V.Cols}
	if columns {
		shape = []int{p.V.Rows, len(keep)}
		for r := range p.V.Rows {
			for _, c := range keep {
				data = append(data, p.V.Data[r*p.V.Cols+c])
			}
		}
	} else {
		for _, r := range keep {
			data = append(data, p.V.Data[r*p.V.Cols:(r+1)*p.V.Cols]...)
		}
	}
	return formats.OutTensor{Name: p.Name, Type: tensor.F32, Shape: shape, WriteTo: func(w io.Writer) error {
		return peft.WriteFloats(w, tensor.F32, data)
	}}
}
