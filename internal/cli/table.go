package cli

import (
	"fmt"
	"strings"
)

// tableWidth is the widest that a table with a wrapped column becomes.
const tableWidth = 120

// table lays out rows in columns. Numbers go right, names left. On a terminal
// the column marked as flexible is shortened until a row fits the width; one
// marked as wrapped goes on in the next line, on a terminal or not.
type table struct {
	s      *stream
	indent string
	head   []string
	right  []bool
	flex   int // column that gives way, -1 for none
	wraps  bool
	rows   [][]string
	// titles stand in lines of their own before the row of their number.
	titles map[int]string
}

// newTable makes a table; a head that begins with ">" is a right-aligned
// column, one that begins with "~" gives way when the terminal is narrow, one
// that begins with "|" is wrapped.
func newTable(s *stream, head ...string) *table {
	t := &table{s: s, indent: "  ", flex: -1}
	for i, h := range head {
		right := strings.HasPrefix(h, ">")
		if strings.HasPrefix(h, "~") || strings.HasPrefix(h, "|") {
			t.flex, t.wraps = i, h[0] == '|'
		}
		t.head = append(t.head, strings.TrimLeft(h, ">~|"))
		t.right = append(t.right, right)
	}
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// title puts a line before the rows that follow.
func (t *table) title(text string) {
	if t.titles == nil {
		t.titles = map[int]string{}
	}
	t.titles[len(t.rows)] = text
}

// print writes the table.
func (t *table) print() {
	width := make([]int, len(t.head))
	for i, h := range t.head {
		width[i] = textLen(h)
	}
	for _, r := range t.rows {
		for i, c := range r {
			width[i] = max(width[i], textLen(c))
		}
	}
	if t.flex >= 0 && (t.s.tty || t.wraps) {
		sum := textLen(t.indent) + 2*(len(width)-1)
		for _, w := range width {
			sum += w
		}
		room := t.s.width()
		if t.wraps {
			if room = min(room, tableWidth); !t.s.tty {
				room = tableWidth
			}
		}
		if over := sum - room; over > 0 {
			width[t.flex] = max(12, width[t.flex]-over)
		}
	}
	var line func(cells []string, style string)
	line = func(cells []string, style string) {
		if t.wraps && textLen(cells[t.flex]) > width[t.flex] {
			parts := wrap(cells[t.flex], width[t.flex])
			for i, p := range parts {
				part := make([]string, len(cells))
				if i == 0 {
					copy(part, cells)
				}
				if part[t.flex] = p; textLen(p) > width[t.flex] {
					part[t.flex] = shortenMiddle(p, width[t.flex])
				}
				line(part, style)
			}
			return
		}
		var b strings.Builder
		for i, c := range cells {
			if i > 0 {
				b.WriteString("  ")
			}
			if i == t.flex && textLen(c) > width[i] {
				c = shortenMiddle(c, width[i])
			}
			switch {
			case t.right[i]:
				b.WriteString(padLeft(c, width[i]))
			case i == len(cells)-1:
				b.WriteString(c)
			default:
				b.WriteString(pad(c, width[i]))
			}
		}
		fmt.Fprintln(t.s, t.indent+t.s.paint(style, strings.TrimRight(b.String(), " ")))
	}
	if strings.Join(t.head, "") != "" {
		line(t.head, dim)
	}
	for i, r := range t.rows {
		if title, ok := t.titles[i]; ok {
			if i > 0 {
				fmt.Fprintln(t.s)
			}
			fmt.Fprintln(t.s, t.s.paint(bold, title))
		}
		line(r, "")
	}
}

// facts prints labelled values one below the other, values wrapped to the width.
type facts struct {
	s    *stream
	rows [][2]string
}

func (f *facts) add(label, format string, args ...any) {
	if v := fmt.Sprintf(format, args...); v != "" {
		f.rows = append(f.rows, [2]string{label, v})
	}
}

func (f *facts) print() {
	w := 0
	for _, r := range f.rows {
		w = max(w, textLen(r[0]))
	}
	for _, r := range f.rows {
		for i, l := range wrap(r[1], max(20, f.s.textWidth()-w-4)) {
			label := r[0]
			if i > 0 {
				label = ""
			}
			fmt.Fprintf(f.s, "  %s  %s\n", f.s.paint(dim, pad(label, w)), l)
		}
	}
}
