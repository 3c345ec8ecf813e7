package cli

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the prints of docs/data.md anew")

// Every record of docs/data.md is what tokenize --mask prints of it.
// go test ./internal/cli -run DataDoc -update writes the prints.
func TestDataDoc(t *testing.T) {
	m := os.Getenv("PEFTKIT_SMOLLM2")
	if m == "" {
		t.Skip("PEFTKIT_SMOLLM2 is not set")
	}
	const doc = "../../docs/data.md"
	text, err := os.ReadFile(doc)
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)<!-- mask: ?(.*?) ?-->\n```json\n(.*?)```\n\n```text\n(.*?)```\n")
	found := 0
	tools, err := filepath.Abs("testdata/tools.jinja")
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	out := example.ReplaceAllFunc(text, func(b []byte) []byte {
		found++
		part := example.FindSubmatch(b)
		require.NoError(t, os.WriteFile("train.jsonl", part[2], 0o666))
		args := []string{"tokenize", "-m", m, "-d", "train.jsonl", "--mask"}
		for _, f := range strings.Fields(string(part[1])) {
			args = append(args, strings.Replace(f, "tools.jinja", tools, 1))
		}
		out := ok(t, args...)
		if !*update {
			require.Equal(t, string(part[3]), out, "%s", part[2])
		}
		return []byte(strings.Replace(string(b), "```text\n"+string(part[3]), "```text\n"+out, 1))
	})
	require.GreaterOrEqual(t, found, 13)
	if *update {
		t.Chdir(filepath.Dir(tools) + "/..")
		require.NoError(t, os.WriteFile(doc, out, 0o666))
	}
}
