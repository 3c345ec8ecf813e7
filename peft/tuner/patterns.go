package tuner

import (
	"bytes"
	"encoding/json"

	"github.com/peftkit/peftkit/peft"
)

// Patterns are the numbers that a configuration gives to single modules.
type Patterns struct {
	key  string
	list []peft.Pattern
}

// NewPatterns returns the patterns of a list; key is named in errors.
func NewPatterns(key string, list []peft.Pattern) Patterns { return Patterns{key, list} }

// ReadPatterns reads a key such as rank_pattern: {"pattern": number}. Its errors
// wrap peft.ErrConfig.
func ReadPatterns(c *peft.Config, key string) (Patterns, error) {
	list, err := peft.Patterns(c.Raw(key))
	if err != nil {
		return Patterns{}, Invalid("%s: %w", key, err)
	}
	return Patterns{key, list}, nil
}

// List returns the patterns in file order. It is not a copy.
func (p Patterns) List() []peft.Pattern { return p.list }

// Value returns the number for a module, otherwise what holds for the rest.
func (p Patterns) Value(path string, otherwise float64) (float64, error) {
	v, ok, err := peft.PatternValue(p.list, path)
	if err != nil || !ok {
		return otherwise, err
	}
	return v, nil
}

// Count is Value for whole numbers from 1 to 65536.
func (p Patterns) Count(path string, otherwise int) (int, error) {
	v, err := p.Value(path, float64(otherwise))
	if err == nil && (v != float64(int(v)) || v < 1 || v > 1<<16) {
		err = Invalid("%s: %g for %s, expected a whole number from 1 to %d", p.key, v, path, 1<<16)
	}
	return int(v), err
}

// MarshalJSON writes the object that ReadPatterns reads, in order.
func (p Patterns) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range p.list {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(x.Key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(x.Value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// RankAlpha is what rank_pattern and alpha_pattern say of single modules.
type RankAlpha struct{ Ranks, Alphas Patterns }

// ReadRankAlpha reads both keys. Its errors wrap peft.ErrConfig.
func ReadRankAlpha(c *peft.Config) (p RankAlpha, err error) {
	if p.Ranks, err = ReadPatterns(c, "rank_pattern"); err != nil {
		return p, err
	}
	p.Alphas, err = ReadPatterns(c, "alpha_pattern")
	return p, err
}

// At returns rank and alpha of a module; r and alpha are those of the rest.
func (p RankAlpha) At(path string, r int, alpha float64) (int, float64, error) {
	r, err := p.Ranks.Count(path, r)
	if err != nil {
		return 0, 0, err
	}
	alpha, err = p.Alphas.Value(path, alpha)
	return r, alpha, err
}
