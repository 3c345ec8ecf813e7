package decoder

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Rope is rope_scaling of older and rope_parameters of newer configurations.
type Rope struct {
	Type            string    `json:"rope_type"`
	OldType         string    `json:"type"`
	Theta           float64   `json:"rope_theta"`
	Factor          *float64  `json:"factor"`
	LowFreq         float64   `json:"low_freq_factor"`
	HighFreq        float64   `json:"high_freq_factor"`
	Original        float64   `json:"original_max_position_embeddings"`
	AttentionFactor *float64  `json:"attention_factor"`
	BetaFast        float64   `json:"beta_fast"`
	BetaSlow        float64   `json:"beta_slow"`
	MScale          float64   `json:"mscale"`
	MScaleAllDim    float64   `json:"mscale_all_dim"`
	Truncate        *bool     `json:"truncate"`
	ShortFactor     []float64 `json:"short_factor"`
	LongFactor      []float64 `json:"long_factor"`
	Partial         *float64  `json:"partial_rotary_factor"`
}

// The kinds of rotary scaling, in transformers' words.
const (
	ropeDefault  = "default"
	ropeLinear   = "linear"
	ropeLlama3   = "llama3"
	ropeYarn     = "yarn"
	ropeLongrope = "longrope"
	ropeDynamic  = "dynamic"
)

// ropes brings the places where configurations keep rotary parameters together
// (RotaryEmbeddingConfigMixin of transformers).
func (c *Config) ropes() error {
	full, sliding := c.RopeScaling, (*Rope)(nil)
	if len(c.RopeParameters) > 0 && string(c.RopeParameters) != "null" {
		nested := map[string]json.RawMessage{}
		if err := json.Unmarshal(c.RopeParameters, &nested); err != nil {
			return fmt.Errorf("config: rope_parameters: %w", err)
		}
		read := func(raw json.RawMessage) (*Rope, error) {
			r := &Rope{}
			if err := json.Unmarshal(raw, r); err != nil {
				return nil, fmt.Errorf("config: rope_parameters: %w", err)
			}
			return r, nil
		}
		var err error
		switch {
		case nested[fullAttention] != nil || nested[slidingAttention] != nil:
			if raw := nested[fullAttention]; raw != nil && full == nil {
				if full, err = read(raw); err != nil {
					return err
				}
			}
			if raw := nested[slidingAttention]; raw != nil {
				if sliding, err = read(raw); err != nil {
					return err
				}
			}
		case full == nil:
			if full, err = read(c.RopeParameters); err != nil {
				return err
			}
		default: // rope_scaling goes first, its theta may be here
			r, err := read(c.RopeParameters)
			if err != nil {
				return err
			}
			if full.Theta == 0 {
				full.Theta = r.Theta
			}
		}
	}
	c.global, c.local = c.complete(full, c.RopeTheta), c.complete(sliding, c.RopeLocalBaseFreq)
	c.RopeTheta = c.global.Theta
	return nil
}

// complete returns r with what the rest of the configuration says in its place.
func (c *Config) complete(r *Rope, theta float64) *Rope {
	out := Rope{}
	if r != nil {
		out = *r
	}
	if out.Type == "" {
		out.Type = out.OldType
	}
	switch out.Type {
	case "":
		out.Type = ropeDefault
	case "su":
		out.Type = ropeLongrope
	}
	if out.Theta == 0 {
		out.Theta = theta
	}
	if out.Partial == nil {
		out.Partial = c.PartialRotaryFactor
	}
	if c.OriginalMaxPositions != nil {
		out.Original = float64(*c.OriginalMaxPositions)
	}
	if out.Original == 0 && out.Type != ropeLlama3 {
		out.Original = float64(c.MaxPositionEmbeddings)
	}
	return &out
}

// ropeTables are the rotary tables of one kind of layer: long serves batches that
// reach beyond original positions, nil when there is no difference. With dynamic
// scaling it is made for the length of the batch.
type ropeTables struct {
	short, long *nn.RoPETable
	original    int

	dynamic func(length int) *nn.RoPETable
	grow    sync.Mutex
	length  int
}

// at returns the table for rows that reach up to position last. As in
// transformers the largest position of a batch decides for all of it.
func (r *ropeTables) at(last int32) *nn.RoPETable {
	length := int(last) + 1
	switch {
	case length <= r.original:
	case r.dynamic != nil:
		r.grow.Lock()
		defer r.grow.Unlock()
		if r.length != length {
			r.long, r.length = r.dynamic(length), length
		}
		return r.long
	case r.long != nil:
		return r.long
	}
	return r.short
}

// tables returns the rotary tables of full and of sliding layers.
func (c *Config) tables() ([2]*ropeTables, error) {
	var out [2]*ropeTables
	for i, r := range []*Rope{c.global, c.local} {
		t, err := r.tables(c)
		if err != nil {
			return out, err
		}
		out[i] = t
	}
	return out, nil
}

func (r *Rope) tables(c *Config) (*ropeTables, error) {
	short, scale, err := r.frequencies(c, false)
	if err != nil {
		return nil, err
	}
	t := &ropeTables{short: nn.NewRoPETable(short, scale), original: int(r.Original)}
	if r.Type == ropeDynamic {
		t.original = c.MaxPositionEmbeddings
		t.dynamic = func(length int) *nn.RoPETable { return nn.NewRoPETable(r.dynamic(c, length), 1) }
	}
	if r.Type == ropeLongrope {
		long, _, err := r.frequencies(c, true)
		if err != nil {
			return nil, err
		}
		t.long = nn.NewRoPETable(long, scale)
	}
	return t, nil
}

// rotated returns the number of features of a head that turn.
func (r *Rope) rotated(c *Config) int {
	if r.Partial == nil {
		return c.headDim()
	}
	return int(float64(c.headDim()) * *r.Partial)
}

// frequencies returns the inverse frequencies and the factor on cosines and sines,
// as transformers' modeling_rope_utils computes them, in float32 at the same
// points. long asks for the frequencies beyond the original context.
func (r *Rope) frequencies(c *Config, long bool) ([]float32, float32, error) {
	dim := r.rotated(c)
	if dim < 2 || dim%2 != 0 || dim > c.headDim() {
		return nil, 0, fmt.Errorf("config: %d of %d features of a head are rotated, expected an even number of them: %w", dim, c.headDim(), model.ErrMismatch)
	}
	if r.Theta <= 0 {
		return nil, 0, fmt.Errorf("config: rope_theta %g must be positive: %w", r.Theta, model.ErrMismatch)
	}
	freqs := make([]float32, dim/2) // base^(2i/dim)
	for i := range freqs {
		freqs[i] = float32(math.Pow(float64(float32(r.Theta)), float64(float32(2*i)/float32(dim))))
	}
	inv := make([]float32, dim/2)
	for i, f := range freqs {
		inv[i] = 1 / f
	}
	factor := 0.0
	if r.Factor != nil {
		factor = *r.Factor
	}
	switch r.Type {
	case ropeDefault:
	case ropeDynamic:
		if factor < 1 || dim < 4 {
			return nil, 0, fmt.Errorf("config: rope scaling dynamic: factor %g, expected 1 or more, and %d features, expected 4 or more: %w", factor, dim, model.ErrMismatch)
		}
	case ropeLinear:
		if !(factor > 0) {
			return nil, 0, fmt.Errorf("config: rope scaling linear: factor %g, expected more than 0: %w", factor, model.ErrMismatch)
		}
		for i := range inv {
			inv[i] /= float32(factor)
		}
	case ropeLlama3:
		if factor < 1 || r.LowFreq <= 0 || r.HighFreq <= r.LowFreq || r.Original < 1 {
			return nil, 0, fmt.Errorf("config: rope scaling llama3 needs factor, low_freq_factor < high_freq_factor and original_max_position_embeddings, found factor %g, %g, %g and %g: %w",
				factor, r.LowFreq, r.HighFreq, r.Original, model.ErrMismatch)
		}
		for i, f := range r.Llama3Factors(inv) {
			inv[i] /= f
		}
	case ropeYarn:
		return r.yarn(c, freqs)
	case ropeLongrope:
		return r.longrope(c, freqs, long)
	default:
		return nil, 0, fmt.Errorf("config: rope scaling type %q: %w", r.Type, model.ErrUnsupported)
	}
	return inv, 1, nil
}

// Llama3Factors returns by how much each frequency is lowered: what GGUF keeps
// as rope_freqs.weight.
func (r *Rope) Llama3Factors(inv []float32) []float32 {
	out := make([]float32, len(inv))
	for i, f := range inv {
		wavelen := 2 * math.Pi / float64(f)
		switch {
		case wavelen < r.Original/r.HighFreq:
			out[i] = 1
		case wavelen > r.Original/r.LowFreq:
			out[i] = float32(*r.Factor)
		default:
			s := (r.Original/wavelen - r.LowFreq) / (r.HighFreq - r.LowFreq)
			out[i] = float32(1 / ((1-s)/(*r.Factor) + s))
		}
	}
	return out
}

// dynamic returns the frequencies for a text that is longer than the model's
// context: the base grows with it ("NTK-aware").
func (r *Rope) dynamic(c *Config, length int) []float32 {
	dim := float64(r.rotated(c))
	base := r.Theta * math.Pow(*r.Factor*float64(length)/float64(c.MaxPositionEmbeddings)-(*r.Factor-1), dim/(dim-2))
	inv := make([]float32, int(dim)/2)
	for i := range inv {
		inv[i] = 1 / float32(math.Pow(float64(float32(base)), float64(float32(2*i)/float32(dim))))
	}
	return inv
}

// yarnFactor is how much longer than the original the context is.
func (r *Rope) yarnFactor(c *Config) float64 {
	if r.Factor != nil {
		return *r.Factor
	}
	return float64(c.MaxPositionEmbeddings) / r.Original
}

// yarnScale is the factor on cosines and sines that YaRN recommends.
func yarnScale(factor, m float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*m*math.Log(factor) + 1
}

// yarn is the interpolation of Peng et al. 2023.
func (r *Rope) yarn(c *Config, freqs []float32) ([]float32, float32, error) {
	factor := r.yarnFactor(c)
	if factor < 1 || r.Original < 1 {
		return nil, 0, fmt.Errorf("config: rope scaling yarn: factor %g of original_max_position_embeddings %g, expected 1 or more: %w", factor, r.Original, model.ErrMismatch)
	}
	mscale := func(m float64) float64 { return yarnScale(factor, m) }
	scale := mscale(1)
	switch {
	case r.AttentionFactor != nil:
		scale = *r.AttentionFactor
	case r.MScale != 0 && r.MScaleAllDim != 0:
		scale = mscale(r.MScale) / mscale(r.MScaleAllDim)
	}
	fast, slow := r.BetaFast, r.BetaSlow
	if fast == 0 {
		fast = 32
	}
	if slow == 0 {
		slow = 1
	}
	dim := float64(2 * len(freqs))
	at := func(rotations float64) float64 {
		return dim * math.Log(r.Original/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := at(fast), at(slow)
	if r.Truncate == nil || *r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, dim-1)
	if low == high {
		high += 0.001
	}
	inv := make([]float32, len(freqs))
	for i, f := range freqs {
		ramp := (float32(i) - float32(low)) / float32(high-low)
		keep := 1 - min(max(ramp, 0), 1)
		inv[i] = 1/(float32(factor)*f)*(1-keep) + 1/f*keep
	}
	return inv, float32(scale), nil
}

// longrope is the scaling of Ding et al. 2024, with a factor for each frequency.
func (r *Rope) longrope(c *Config, freqs []float32, long bool) ([]float32, float32, error) {
	if len(r.ShortFactor) != len(freqs) || len(r.LongFactor) != len(freqs) || r.Original < 2 {
		return nil, 0, fmt.Errorf("config: rope scaling longrope: %d short and %d long factors for %d frequencies, original_max_position_embeddings %g: %w",
			len(r.ShortFactor), len(r.LongFactor), len(freqs), r.Original, model.ErrMismatch)
	}
	factors := r.ShortFactor
	if long {
		factors = r.LongFactor
	}
	inv := make([]float32, len(freqs))
	for i, f := range freqs {
		inv[i] = 1 / (float32(factors[i]) * f)
	}
	return inv, float32(r.LongropeScale(c)), nil
}

// LongropeScale is the factor on cosines and sines of longrope.
func (r *Rope) LongropeScale(c *Config) float64 {
	if r.AttentionFactor != nil {
		return *r.AttentionFactor
	}
	factor := float64(c.MaxPositionEmbeddings) / r.Original
	if r.Factor != nil {
		factor = *r.Factor
	}
	if factor <= 1 {
		return 1
	}
	return math.Sqrt(1 + math.Log(factor)/math.Log(r.Original))
}

// Rope returns the rotary parameters of full attention.
func (c *Config) Rope() *Rope { return c.global }

// LocalTheta returns the base of layers with a window of their own parameters.
func (c *Config) LocalTheta() float64 { return c.local.Theta }

// Rotated returns the number of features of a head that full attention rotates.
func (c *Config) Rotated() int { return c.global.rotated(c) }
