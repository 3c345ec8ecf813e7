package chat

import (
	"fmt"
	"strings"
	"time"
)

// strftime writes a time by the directives of C that templates use; others stay
// as they are.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'B': "January", 'b': "Jan", 'A': "Monday", 'a': "Mon",
		'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		c, pad := format[i], true
		if c == '-' && i+1 < len(format) {
			i++
			c, pad = format[i], false
		}
		switch layout, ok := layouts[c]; {
		case ok:
			s := t.Format(layout)
			if !pad && len(s) > 1 && strings.IndexByte("mdHIMS", c) >= 0 {
				s = strings.TrimPrefix(s, "0")
			}
			b.WriteString(s)
		case c == 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case c == '%':
			b.WriteByte('%')
		default:
			b.WriteByte('%')
			b.WriteByte(c)
		}
	}
	return b.String()
}
