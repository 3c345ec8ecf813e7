package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// bytesText writes a size in decimal units with three or four digits: 91.7 MB.
func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if v /= 1000; v < 999.5 || u == "TB" {
			return digits(v) + " " + u
		}
	}
	return ""
}

// countText writes a number of parameters or tokens: 134.5 M.
func countText(n int64) string {
	if n < 10000 {
		return strconv.FormatInt(n, 10)
	}
	v := float64(n)
	for _, u := range []string{"k", "M", "B", "T"} {
		if v /= 1000; v < 999.5 || u == "T" {
			return digits(v) + " " + u
		}
	}
	return ""
}

// digits writes v with three significant digits, or the whole part if longer.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// percentText writes a share of a whole.
func percentText(part, whole int64) string {
	if whole == 0 {
		return "0 %"
	}
	p := 100 * float64(part) / float64(whole)
	switch {
	case part == 0 || part == whole:
		return fmt.Sprintf("%.0f %%", p)
	case p < 0.1:
		return fmt.Sprintf("%.2g %%", p)
	case p < 10 || p > 99:
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// durationText writes a time as people say it: 0.4s, 12s, 3m12s, 1h05m.
func durationText(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()+0.5))
	case d < time.Hour:
		s := int(d.Seconds() + 0.5)
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case d < 48*time.Hour:
		m := int(d.Minutes() + 0.5)
		return fmt.Sprintf("%dh%02dm", m/60, m%60)
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

// plural writes a count with its noun: 1 tensor, 2 tensors.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// floatText writes a small number with few digits: 0.0002 as 2e-4, 0.05 as 0.05.
func floatText(v float64) string {
	if v != 0 && (math.Abs(v) < 1e-2 || math.Abs(v) >= 1e6) {
		s := strconv.FormatFloat(v, 'e', -1, 64)
		if len(s) > 8 {
			s = strconv.FormatFloat(v, 'e', 2, 64)
		}
		return trimExponent(s)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// trimExponent turns 2e-04 into 2e-4.
func trimExponent(s string) string {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == 'e' && s[i+2] == '0' {
			return s[:i+2] + s[i+3:]
		}
	}
	return s
}
