package convert

import (
	"fmt"
	"strings"
)

// notebook collects notes; those of one kind about many tensors become one line.
type notebook struct {
	order []string
	names map[string][]string
}

// say adds a note that stands for itself.
func (n *notebook) say(format string, args ...any) { n.about(fmt.Sprintf(format, args...), "") }

// about adds a tensor to the note text.
func (n *notebook) about(text, tensor string) {
	if n.names == nil {
		n.names = map[string][]string{}
	}
	if _, ok := n.names[text]; !ok {
		n.order = append(n.order, text)
		n.names[text] = nil
	}
	if tensor != "" {
		n.names[text] = append(n.names[text], tensor)
	}
}

// lines returns the notes in the order in which they were first made.
func (n *notebook) lines() []string {
	out := []string{}
	for _, text := range n.order {
		switch names := n.names[text]; len(names) {
		case 0:
			out = append(out, text)
		case 1:
			out = append(out, names[0]+": "+text)
		default:
			out = append(out, fmt.Sprintf("%d tensors (%s): %s", len(names), some(names), text))
		}
	}
	return out
}

// some joins the first few names.
func some(names []string) string {
	if len(names) > 4 {
		return strings.Join(names[:3], ", ") + fmt.Sprintf(" and %d more", len(names)-3)
	}
	return strings.Join(names, ", ")
}
