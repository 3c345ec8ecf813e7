package osf

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/dlclark/regexp2"

	"github.com/peftkit/peftkit/peft/tuner"
)

// rank is a number of singular vectors. PEFT takes a number with a point from 0 to 1 for
// a share of a weight's smaller side: 1 is one vector, and 1.0 are all.
type rank struct {
	value float64
	share bool
	given bool // otherwise half of the smaller side
}

// UnmarshalJSON reads a number or null.
func (r *rank) UnmarshalJSON(b []byte) error {
	*r = rank{}
	if string(b) == "null" {
		return nil
	}
	if err := json.Unmarshal(b, &r.value); err != nil {
		return err
	}
	r.given = true
	r.share = bytes.ContainsAny(b, ".eE") && r.value > 0 && r.value <= 1
	return nil
}

// String is the number.
func (r rank) String() string { return strconv.FormatFloat(r.value, 'g', -1, 64) }

// of is the number of vectors where the smaller side is least.
func (r rank) of(least int) int {
	switch {
	case !r.given:
		return least / 2
	case r.share:
		return int(float64(least) * r.value)
	}
	return int(max(0, min(r.value, float64(least))))
}

// ranks are effective_rank and rank_pattern.
type ranks struct {
	rest     rank
	patterns []pattern
}

type pattern struct {
	find *regexp2.Regexp
	rank rank
}

func readRanks(rest, patterns json.RawMessage) (ranks, error) {
	var out ranks
	if rest != nil {
		if err := json.Unmarshal(rest, &out.rest); err != nil {
			return out, tuner.Invalid("effective_rank is %.40s, expected a number or a share: %w", rest, err)
		}
	}
	if patterns == nil {
		return out, nil
	}
	d := json.NewDecoder(bytes.NewReader(patterns)) // the first pattern that fits counts
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return out, tuner.Invalid("rank_pattern is %.40s, expected an object of numbers", patterns)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return out, tuner.Invalid("rank_pattern: %w", err)
		}
		var p pattern
		if err := d.Decode(&p.rank); err != nil {
			return out, tuner.Invalid("rank_pattern: %v: %w", key, err)
		}
		if p.find, err = regexp2.Compile(key.(string), regexp2.None); err != nil {
			return out, tuner.Invalid("rank_pattern: %q: %w", key, err)
		}
		out.patterns = append(out.patterns, p)
	}
	return out, nil
}

// of returns how many vectors of a module are frozen, which may be all. A pattern is
// looked for anywhere in the path (Python's re.search), unlike those of other methods.
func (r ranks) of(path string, least int) (int, error) {
	use, key := r.rest, "effective_rank"
	for _, p := range r.patterns {
		hit, err := p.find.MatchString(path)
		if err != nil {
			return 0, tuner.Invalid("rank_pattern: %w", err)
		}
		if hit {
			use, key = p.rank, "rank_pattern"
			break
		}
	}
	n := use.of(least)
	switch {
	case n < 1 && !use.given:
		return 0, tuner.Invalid("the smaller side of the weight is %d, of which half cannot stay frozen: leave the module out (exclude_modules)", least)
	case n < 1:
		return 0, tuner.Invalid("%s %s freezes none of the %d singular vectors, expected 1 or more", key, use, least)
	}
	return n, nil
}
