package peft

var _ TextStarter = (*Combination)(nil)

// StartTexts implements TextStarter: those of all parts.
func (c *Combination) StartTexts() []string {
	var out []string
	for _, a := range c.Parts {
		if s, ok := a.(TextStarter); ok {
			out = append(out, s.StartTexts()...)
		}
	}
	return out
}

// StartTokens implements TextStarter.
func (c *Combination) StartTokens(tokens [][]int32) error {
	for _, a := range c.Parts {
		s, ok := a.(TextStarter)
		if !ok {
			continue
		}
		n := len(s.StartTexts())
		if n == 0 {
			continue
		}
		if err := s.StartTokens(tokens[:n]); err != nil {
			return err
		}
		tokens = tokens[n:]
	}
	return nil
}
