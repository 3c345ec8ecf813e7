package data

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the reader allocates of a hostile file, all garbage included, stays within a
// few times the file where it is refused.
func TestMemoryOfHostileFiles(t *testing.T) {
	const size = 2 << 20
	many := func(text string) string { return strings.Repeat(text, size/len(text)) }
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"open lists":            {"a.json", many("["), "exceeded max depth"},
		"lists in lists":        {"a.json", strings.Repeat("[", size/2) + strings.Repeat("]", size/2), "exceeded max depth"},
		"lists in a line":       {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": " + many("[") + "\n", "a.jsonl:2: cannot be read: invalid character '[' exceeded max depth"},
		"objects in a field":    {"a.jsonl", `{"text": ` + many(`{"a":`), "exceeded max depth"},
		"lists in a cell":       {"a.csv", "messages\n" + many("[") + "\n", `a.csv:2: wrong fields: "messages" is a string that is no JSON (`},
		"empty lists":           {"a.jsonl", `{"text": "a", "x": [` + strings.Repeat("[],", 3<<20) + `[]]}`, `field "x": 3145730 values in one, expected at most 1048576`},
		"empty lists in a cell": {"a.csv", "messages\n\"[" + strings.Repeat("[],", 3<<20) + "[]]\"\n", `"messages" is a string that is no JSON (3145730 values in one, expected at most 1048576)`},
		"a column of lists":     {"a.json", `{"text": {"0": [` + strings.Repeat("[],", 3<<20) + `[]]}}`, "columns and not records"},
		"one huge text":         {"a.jsonl", `{"text": "` + many("a"), "unexpected end of JSON input"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), c.file)
			require.NoError(t, os.WriteFile(file, []byte(c.text), 0o666))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Look(file, Options{})
			runtime.ReadMemStats(&after)
			require.ErrorContains(t, err, c.want)
			require.Less(t, len(err.Error()), 1000)
			times := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(c.text))
			t.Logf("%.1f times the file", times)
			// The buffers of file and decoder grow, and the decoder hands out copies: 2 to 12
			// times. Decoded, the empty lists alone are 50 times the file.
			require.Less(t, times, 16.0)
		})
	}
}
