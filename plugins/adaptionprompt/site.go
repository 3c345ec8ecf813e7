package adaptionprompt

import (
	"fmt"
	"math"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// site is one layer with a prompt.
type site struct {
	at     *model.Attention
	end    *model.Sublayer
	fused  *nn.LinearLayer // GPT-2's c_attn, nil elsewhere
	prompt *nn.Param       // [1, length, hidden]
	gate   *nn.Param       // [1]
	// late says that the addition joins after the output projection: GPT-2's is not
	// projected, and a bias of Llama's projection is added a second time.
	late bool
}

func newSite(m *model.Model, at *model.Attention, length int) (*site, error) {
	s := &site{at: at}
	if at.K == nil || at.V == nil {
		mod := m.Module(at.Path + ".c_attn")
		if mod == nil || mod.Linear == nil {
			return nil, fmt.Errorf("%s has neither key and value projections nor c_attn: %w", at.Path, peft.ErrNoFit)
		}
		s.fused = mod.Linear
	}
	for _, sub := range m.Sublayers {
		if sub.Kind == model.SelfAttention && sub.Stack == at.Stack && sub.Layer == at.Layer {
			s.end = sub
		}
	}
	s.late = s.fused != nil || at.O == nil || at.O.Bias != nil
	if s.late && s.end == nil {
		return nil, fmt.Errorf("%s has no place where its output joins the stream: %w", at.Path, peft.ErrNoFit)
	}
	p := peft.Prefix + at.Path + "."
	s.prompt = nn.NewParam(p+"adaption_prompt", 1, length, m.HiddenSize)
	s.gate = nn.NewParam(p+"adaption_gate", 1)
	return s, nil
}

// keyValues sends the prompt through the layer's own projections. Keys are not
// rotated.
func (s *site) keyValues(t *nn.Tape) (k, v *nn.Var) {
	x := s.prompt.V
	if s.fused == nil {
		return s.at.K.Forward(t, x), s.at.V.Forward(t, x)
	}
	all := s.fused.Forward(t, x)
	w := s.at.Heads * s.at.HeadDim
	k, v = nn.Columns(t, all, w, 2*w), nn.Columns(t, all, 2*w, 3*w)
	t.Discard(all)
	return k, v
}

// look is the gated attention of queries to the prompt.
func (s *site) look(t *nn.Tape, q *nn.Var, seqs []nn.Span, scale float32) *nn.Var {
	k, v := s.keyValues(t)
	spec := nn.AttnSpec{
		Heads: s.at.Heads, KVHeads: s.at.KVHeads, HeadDim: s.at.HeadDim, Seqs: seqs,
		Scale: float32(1 / math.Sqrt(float64(s.at.HeadDim))), KeySeqs: make([]nn.Span, len(seqs)),
	}
	for i := range spec.KeySeqs {
		spec.KeySeqs[i] = nn.Span{Start: 0, End: k.Rows}
	}
	y := nn.Attention(t, q, k, v, spec)
	t.Discard(k)
	t.Discard(v)
	gate := s.gate.V
	if scale != 1 {
		gate = nn.Scale(t, gate, scale)
	}
	out := nn.ScaleBy(t, y, gate)
	t.Discard(y)
	return out
}

func (s *site) attach(scale float32) {
	var seen *nn.Var // from the attention to the end of its sublayer
	s.at.Wrap(func(t *nn.Tape, q, k, v *nn.Var, spec nn.AttnSpec, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
		seqs := spec.Seqs
		if seqs == nil {
			seqs = []nn.Span{{Start: 0, End: q.Rows}}
		}
		add := s.look(t, q, seqs, scale)
		out := next(t, q, k, v, spec)
		if s.late {
			seen = add
			return out
		}
		sum := nn.Sum(t, out, add)
		t.Discard(out)
		t.Discard(add)
		return sum
	})
	if !s.late {
		return
	}
	s.end.Wrap(func(t *nn.Tape, st nn.Stream, y *nn.Var, next func(*nn.Tape, *nn.Var) *nn.Var) *nn.Var {
		add := seen
		seen = nil
		if s.fused == nil && s.at.O != nil {
			in := add
			add = s.at.O.Forward(t, in)
			t.Discard(in)
		}
		sum := nn.Sum(t, y, add)
		t.Discard(add)
		t.Discard(y)
		return next(t, sum)
	})
}
