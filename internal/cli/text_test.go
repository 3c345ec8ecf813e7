package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.00 kB", 98362432: "98.4 MB", 999_600: "1.00 MB", 5e9: "5.00 GB", 25_300_000_000_000: "25.3 TB"} {
		require.Equal(t, want, bytesText(n))
	}
	for n, want := range map[int64]string{0: "0", 9999: "9999", 10000: "10.0 k", 134_515_008: "135 M", 4_884_480: "4.88 M", 7e9: "7.00 B"} {
		require.Equal(t, want, countText(n))
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 400 * time.Millisecond: "0.4s", 12 * time.Second: "12s", 192 * time.Second: "3m12s", 65 * time.Minute: "1h05m", 72 * time.Hour: "3.0 days",
	} {
		require.Equal(t, want, durationText(d))
	}
	for _, tt := range []struct {
		part, whole int64
		want        string
	}{{0, 5, "0 %"}, {5, 5, "100 %"}, {1, 3, "33.3 %"}, {1, 100, "1.00 %"}, {1, 100000, "0.001 %"}, {1, 0, "0 %"}, {9999, 10000, "99.99 %"}} {
		require.Equal(t, tt.want, percentText(tt.part, tt.whole))
	}
	for x, want := range map[float64]string{0: "0", 2e-4: "2e-4", 0.05: "0.05", 1: "1", 32: "32", 1e-10: "1e-10"} {
		require.Equal(t, want, floatText(x))
	}
	for x, want := range map[float64]string{0: "0", 2e-4: "2e-4", 1.9234e-4: "1.9e-4", 0.01: "1e-2"} {
		require.Equal(t, want, rateText(x))
	}
}

func TestWrap(t *testing.T) {
	require.Equal(t, []string{"one two", "three"}, wrap("one two three", 8))
	require.Equal(t, []string{"a", "", "b"}, wrap("a\n\nb", 8))
	require.Equal(t, []string{"averyveryverylongword", "x"}, wrap("averyveryverylongword x", 8))
	require.Equal(t, 3, textLen("\x1b[1mabc\x1b[0m"))
	require.Equal(t, "ab…", shorten("abcdef", 3))
	require.Equal(t, "model.…ernorm.weight", shortenMiddle("model.layers.0.input_layernorm.weight", 20))
	require.Equal(t, "a b\n\nc", reflow("a\nb\n\nc"))
}

func TestTable(t *testing.T) {
	var b strings.Builder
	tab := newTable(newStream(&b), "~name", ">n", "note")
	tab.row("x", "1", "first")
	tab.row("longer", "100", "")
	tab.print()
	require.Equal(t, "  name      n  note\n  x         1  first\n  longer  100\n", b.String())
}

func TestFacts(t *testing.T) {
	var b strings.Builder
	f := facts{s: newStream(&b)}
	f.add("a", "%d", 1)
	f.add("empty", "")
	f.add("long", "x")
	f.print()
	require.Equal(t, "  a     1\n  long  x\n", b.String())
}

func TestQuote(t *testing.T) {
	require.Equal(t, "a/b.gguf", quote("a/b.gguf"))
	require.Equal(t, "'my model.gguf'", quote("my model.gguf"))
	require.Equal(t, `'it'\''s'`, quote("it's"))
	require.Equal(t, "''", quote(""))
}

func TestLossCurve(t *testing.T) {
	var losses []float64
	for i := range 300 {
		losses = append(losses, 3-float64(i)/150)
	}
	for _, l := range strings.Split(lossCurve(losses, 80), "\n") {
		require.LessOrEqual(t, textLen(l), 80)
	}
}

// Nothing that is not a terminal gets colours or progress lines.
func TestPlainStreams(t *testing.T) {
	var b strings.Builder
	s := newStream(&b)
	s.setLine("progress")
	require.Equal(t, "x", s.paint(red, "x"))
	s.clearLine()
	require.Empty(t, b.String())
}

// Every help text fits into 80 columns but for commands, which are not broken.
func TestHelpFits(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"train", "--help"}, {"convert", "--help"}, {"merge-lora", "--help"}, {"generate", "--help"}, {"eval", "--help"},
		{"inspect", "--help"}, {"plugins", "--help"}, {"doctor", "--help"}, {"tokenize", "--help"}, {"version", "--help"}, {"demo", "--help"}, {"logits", "--help"}} {
		out := ok(t, args...)
		for _, l := range strings.Split(out, "\n") {
			if !strings.HasPrefix(l, "  peftkit ") {
				require.LessOrEqual(t, textLen(l), 80, "%v: %s", args, l)
			}
		}
		require.Contains(t, out, "Usage:")
	}
}

func TestWrapWriter(t *testing.T) {
	var b strings.Builder
	w := &wrapWriter{s: &stream{w: &b, tty: true}}
	fmt.Fprintf(w, "Label        %sx\n", strings.Repeat("word ", 15))
	fmt.Fprint(w, "  short   a   b")
	w.flush()
	require.Equal(t, "Label        "+strings.TrimSpace(strings.Repeat("word ", 13))+"\n             word word x\n  short   a   b\n", b.String())
}
