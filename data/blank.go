package data

import (
	"slices"
	"strings"
)

// blankAnswer reports an example whose answer says nothing: an empty completion, or
// a chat of which only tokens that end a generation are trained.
func blankAnswer(r *Record, examples []Example, ends []int32) bool {
	switch {
	case r.Kind == Completion && !r.spoken():
		return strings.TrimSpace(r.Completion) == ""
	case r.Kind == Instruction:
		return strings.TrimSpace(r.Output) == ""
	case r.Kind == Pairs:
		return strings.TrimSpace(r.Target) == ""
	case r.Messages == nil:
		return false
	}
	trained, more := 0, false
	for _, ex := range examples {
		for i, l := range ex.Labels {
			if l != Ignore {
				trained++
				more = more || !slices.Contains(ends, ex.Tokens[i])
			}
		}
	}
	return trained > 0 && !more
}
