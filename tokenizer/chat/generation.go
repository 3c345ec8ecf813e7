package chat

import (
	"fmt"
	"io"

	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Around what a {% generation %} block writes go two noncharacters, which no
// text may hold, so that the block is found again in the result.
const (
	markStart = "\uFDD0"
	markEnd   = "\uFDD1"
)

// generation is transformers' {% generation %} ... {% endgeneration %}, by which a
// template marks the answers of the assistant.
type generation struct {
	at   *tokens.Token
	body *nodes.Wrapper
}

func (g *generation) Position() *tokens.Token { return g.at }
func (g *generation) String() string {
	return fmt.Sprintf("generation(Line=%d Col=%d)", g.at.Line, g.at.Col)
}

func (g *generation) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	if _, err := io.WriteString(r.Output, markStart); err != nil {
		return err
	}
	if err := r.ExecuteWrapper(g.body); err != nil {
		return err
	}
	_, err := io.WriteString(r.Output, markEnd)
	return err
}

func generationParser(marked *bool) parser.ControlStructureParser {
	return func(p, args *parser.Parser) (nodes.ControlStructure, error) {
		g := &generation{at: p.Current()}
		body, end, err := p.WrapUntil("endgeneration")
		if err != nil {
			return nil, err
		}
		if !args.End() || !end.End() {
			return nil, args.Error("generation takes no arguments", nil)
		}
		g.body = body
		*marked = true
		return g, nil
	}
}
