package tuner

import "github.com/peftkit/peftkit/peft"

// Lycoris are the keys that LoHa and LoKr share (LyCORIS, Yeh et al. 2024, arXiv
// 2309.14859). A configuration embeds it, with the defaults of a file that lacks
// the keys.
type Lycoris struct {
	R             int     `json:"r"`
	Alpha         float64 `json:"alpha"`
	RankDropout   float64 `json:"rank_dropout"`   // share of the update's rows that a step leaves out
	ModuleDropout float64 `json:"module_dropout"` // share of the modules that a step leaves out

	single RankAlpha
}

// Read refuses values that make no sense, and reads rank_pattern and
// alpha_pattern.
func (l *Lycoris) Read(c *peft.Config) (err error) {
	if err := CheckRank("r", l.R); err != nil {
		return err
	}
	if err := CheckShare("rank_dropout", l.RankDropout); err != nil {
		return err
	}
	if err := CheckShare("module_dropout", l.ModuleDropout); err != nil {
		return err
	}
	l.single, err = ReadRankAlpha(c)
	return err
}

// At returns the rank of a module and its scale, alpha over rank.
func (l *Lycoris) At(path string) (r int, scale float32, err error) {
	r, alpha, err := l.single.At(path, l.R, l.Alpha)
	return r, float32(alpha / float64(r)), err
}
