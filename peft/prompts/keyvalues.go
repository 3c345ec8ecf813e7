package prompts

import (
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// KeyValues returns keys and values, [n, KVHeads*HeadDim] each, that stand before
// those of every sequence; nil for none. It is called in every forward pass.
type KeyValues func(t *nn.Tape) (k, v *nn.Var)

// AttachKeyValues puts keys and values before an attention's own, those of a
// cache included: they are seen by every query of every sequence and get their
// gradient. They come as they meet the queries, that is, after any rotation.
//
// Attention with a relative bias counts them as positions, as transformers does
// with past_key_values; with unbiased their scores get no bias instead, as in the
// adapters library. Positions of tokens are the caller's affair
// ([model.Rows.Shift]).
func AttachKeyValues(a *model.Attention, kv KeyValues, unbiased bool) {
	a.Wrap(func(t *nn.Tape, q, k, v *nn.Var, s nn.AttnSpec, next func(*nn.Tape, *nn.Var, *nn.Var, *nn.Var, nn.AttnSpec) *nn.Var) *nn.Var {
		pk, pv := kv(t)
		if pk == nil {
			return next(t, q, k, v, s)
		}
		if unbiased && s.Bias != nil {
			bias := *s.Bias
			bias.Unbiased += pk.Rows
			s.Bias = &bias
		}
		if s.PastK == nil {
			s.PastK, s.PastV = pk, pv
			return next(t, q, k, v, s)
		}
		s.PastK, s.PastV = nn.Concat(t, pk, s.PastK), nn.Concat(t, pv, s.PastV)
		out := next(t, q, k, v, s)
		t.Discard(s.PastK)
		t.Discard(s.PastV)
		return out
	})
}
