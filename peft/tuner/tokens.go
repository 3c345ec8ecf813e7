package tuner

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// CheckTokens refuses a list of token numbers that is empty, or in which one is
// negative or stands twice.
func CheckTokens(key string, ids []int) error {
	seen := map[int]bool{}
	for _, id := range ids {
		if id < 0 || seen[id] {
			return Invalid("%s: token %d is negative or stands twice", key, id)
		}
		seen[id] = true
	}
	if len(ids) == 0 {
		return Invalid("%s: no tokens", key)
	}
	return nil
}

// Tokens is a Site that trains some rows of an embedding, which replace the base's,
// there and in the modules that share its weight.
type Tokens struct {
	// Delta holds the rows themselves, as in PEFT.
	Delta *nn.Param
	// Tied are the other modules that share the weight.
	Tied []*model.Module
	// Random starts from normal numbers instead of the base's rows.
	Random bool

	at     *Place
	ids    []int
	base   *nn.Var       // the base's rows
	hot    *nn.Var       // [vocabulary, tokens]: one where a row is the token's
	number map[int32]int // of a token among the rows
}

// Tokens declares the rows of tokens ids of an embedding, or of an output embedding
// without bias, as a parameter of that name; without ids none is trained until
// Choose. Modules that share the weight follow, but for those that own says are
// trained by themselves.
func (p *Place) Tokens(name string, ids []int, own func(path string) bool) (*Tokens, error) {
	w := p.Mod.Weight()
	if p.Mod.Norm != nil || p.Mod.Bias() != nil || w.Transposed || w.Conv1D {
		return nil, fmt.Errorf("it is no embedding, nor an output embedding without bias: %w", peft.ErrConfig)
	}
	if len(ids) > 0 && slices.Max(ids) >= w.Out {
		return nil, fmt.Errorf("token %d of %d: %w", slices.Max(ids), w.Out, peft.ErrConfig)
	}
	s := &Tokens{at: p, ids: ids, Delta: p.Param(name, len(ids), p.In)}
	for _, o := range p.Model.Modules {
		if o != p.Mod && o.Norm == nil && o.Weight() == w && !own(o.Path) {
			s.Tied = append(s.Tied, o)
		}
	}
	return s, nil
}

// Choose gives a site without tokens its tokens, which begin as the base's rows
// whatever Random says.
func (s *Tokens) Choose(ids []int) error {
	if last := slices.Max(ids); last >= s.at.Out {
		return fmt.Errorf("%s: token %d of %d: %w", s.at.Path, last, s.at.Out, peft.ErrConfig)
	}
	s.ids = ids
	s.look()
	q := nn.NewParam(s.Delta.Name, len(ids), s.at.In)
	q.V.Needs = s.Delta.V.Needs
	s.Delta.Shape, s.Delta.V = q.Shape, q.V
	copy(s.Delta.V.Data, s.base.Data)
	return nil
}

// look reads the base's rows and makes what depends on the tokens.
func (s *Tokens) look() {
	s.base = &nn.Var{Rows: len(s.ids), Cols: s.at.In, Data: make([]float32, len(s.ids)*s.at.In)}
	s.number = map[int32]int{}
	for k, id := range s.ids {
		s.at.Mod.Weight().Row(s.base.Mat().Row(k), id)
		s.number[int32(id)] = k
	}
	if !slices.ContainsFunc(s.modules(), func(m *model.Module) bool { return m.Linear != nil }) {
		return
	}
	s.hot = &nn.Var{Rows: s.at.Out, Cols: len(s.ids), Data: make([]float32, s.at.Out*len(s.ids))}
	for k, id := range s.ids {
		s.hot.Data[id*s.hot.Cols+k] = 1
	}
}

// modules are all that look the tokens up.
func (s *Tokens) modules() []*model.Module { return append([]*model.Module{s.at.Mod}, s.Tied...) }

// Init implements Site.
func (s *Tokens) Init(rng *rand.Rand) error {
	if s.Random {
		Normal(s.Delta.V.Data, 1, rng.NormFloat64)
		return nil
	}
	for k, id := range s.ids {
		s.at.Mod.Weight().Row(s.Delta.V.Mat().Row(k), id)
	}
	return nil
}

// Attach implements Site.
func (s *Tokens) Attach(scale float32) error {
	s.look()
	for _, m := range s.modules() {
		if m.Embedding != nil {
			m.Embedding.Wrap(s.lookup(m.Embedding, scale))
			continue
		}
		// x·Wᵀ of these tokens becomes x·deltaᵀ.
		m.Linear.AddLowRank(func(t *nn.Tape, _ *nn.Var) nn.LowRank {
			if len(s.ids) == 0 {
				return nn.LowRank{}
			}
			return nn.LowRank{A: nn.Minus(t, s.Delta.V, s.base), B: s.hot, Scale: scale}
		})
	}
	return nil
}

// lookup puts the trained rows in the place of the base's. The row of the layer's
// padding learns nothing from it, as in PEFT.
func (s *Tokens) lookup(layer *nn.EmbeddingLayer, scale float32) func(*nn.Tape, []int32, func(*nn.Tape, []int32) *nn.Var) *nn.Var {
	return func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
		y := next(t, ids)
		pad, from, hit, padded := layer.PaddingRow(), make([]int32, len(ids)), false, false
		for i, id := range ids {
			k, ok := s.number[id]
			switch {
			case !ok:
				from[i] = int32(i)
			case id == pad: // a copy of its row, behind the others
				from[i], hit, padded = int32(len(ids)+len(s.ids)), true, true
			default:
				from[i], hit = int32(len(ids)+k), true
			}
		}
		rows := s.Delta.V
		if !hit && !rows.Needs { // trained rows are part of every pass, as in PyTorch: their gradient is 0 without a hit, and an optimizer steps
			return y
		}
		if scale != 1 {
			rows = nn.Sum(t, nn.Scale(t, rows, scale), nn.Scale(t, s.base, 1-scale))
		}
		parts := []*nn.Var{y, rows}
		if padded {
			parts = append(parts, &nn.Var{Rows: 1, Cols: rows.Cols, Data: slices.Clone(rows.Mat().Row(s.number[pad]))})
		}
		all := nn.Concat(t, parts...)
		t.Discard(y)
		out := nn.GatherRows(t, all, from)
		t.Discard(all)
		return out
	}
}

// MergeRows implements RowMerging.
func (s *Tokens) MergeRows(w kernels.Mat, r0, r1 int, scale float32) {
	for k, id := range s.ids {
		if id < r0 || id >= r1 {
			continue
		}
		row, want := w.Row(id-r0), s.Delta.V.Mat().Row(k)
		if scale == 1 {
			copy(row, want)
			continue
		}
		for i := range row {
			row[i] += scale * (want[i] - row[i])
		}
	}
}

// MergesTied implements TiedMerging.
func (s *Tokens) MergesTied() bool { return len(s.Tied) > 0 }
