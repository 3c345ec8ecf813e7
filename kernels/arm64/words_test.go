package arm64

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every instruction written as a WORD must be what its comment says, according
// to the GNU assembler (Debian: binutils-aarch64-linux-gnu).
func TestWords(t *testing.T) {
	as, err := exec.LookPath("aarch64-linux-gnu-as")
	if err != nil {
		t.Skip("aarch64-linux-gnu-as is not installed")
	}
	files, err := filepath.Glob("*.s")
	require.NoError(t, err)
	word := regexp.MustCompile(`^\s*WORD\s+\$0x([0-9A-F]{8})\s*(?://\s*(.*))?$`)
	var source bytes.Buffer
	var want []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.Contains(line, "WORD $") {
				continue
			}
			m := word.FindStringSubmatch(line)
			require.NotNil(t, m, "%s:%d: %s", f, i+1, line)
			require.NotEmpty(t, m[2], "%s:%d: a WORD without its instruction", f, i+1)
			fmt.Fprintln(&source, m[2])
			want = append(want, strings.ToLower(m[1]))
		}
	}
	obj := filepath.Join(t.TempDir(), "words.o")
	cmd := exec.Command(as, "-march=armv8-a", "-o", obj, "-")
	cmd.Stdin = &source
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	dump, err := exec.Command("aarch64-linux-gnu-objdump", "-d", obj).Output()
	require.NoError(t, err)
	got := regexp.MustCompile(`(?m)^\s+[0-9a-f]+:\s+([0-9a-f]{8})\s`).FindAllStringSubmatch(string(dump), -1)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, got[i][1], want[i], "instruction %d", i)
	}
}
