package model

import "github.com/peftkit/peftkit/nn"

// Input returns the place where the tokens of a stack enter, nil when the model
// has no such stack.
func (m *Model) Input(s Stack) *Input {
	for _, in := range m.Inputs {
		if in.Stack == s {
			return in
		}
	}
	return nil
}

// EncoderDecoder reports whether the model reads a source with one stack and
// writes with another.
func (m *Model) EncoderDecoder() bool { return m.Input(Encoder) != nil && m.Input(Decoder) != nil }

// Shift returns how many positions further on the tokens stand because of what
// methods put before them: so many fewer tokens fit.
func (in *Input) Shift() int {
	t := nn.NewTape()
	defer t.Close()
	r := in.Forward(t, Sequence([]int32{0}, 0))
	return int(r.Pos[len(r.Pos)-1])
}
