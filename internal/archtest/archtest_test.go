// Package archtest holds the import rules of ARCHITECTURE.md as a test.
package archtest

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/peftkit/peftkit/"

// rules says which packages of this module a package may depend on, directly or
// not. A name ending in /... covers the folder and all below. The first rule
// that fits a package counts.
var rules = []struct {
	pkg   string
	allow []string
}{
	{"kernels/generic", nil},
	{"kernels/amd64", nil},
	{"kernels/arm64", nil},
	{"kernels/lanes", nil},
	{"kernels", []string{"kernels/..."}},
	{"tensor", []string{"kernels/..."}},
	{"nn", []string{"tensor", "kernels/..."}},
	{"formats/...", []string{"formats/...", "tensor", "kernels/..."}},
	{"tokenizer/...", []string{"tokenizer/...", "formats", "tensor", "kernels/..."}},
	{"model/...", []string{"model/...", "nn", "formats", "tensor", "kernels/..."}},
	{"peft", []string{"model", "nn", "formats", "tensor", "kernels/...", "internal/linalg"}},
	{"peft/tuner", []string{"peft", "internal/linalg", "internal/torchrng", "model", "nn", "formats", "tensor", "kernels/..."}},
	{"peft/hub", []string{"peft", "model", "nn", "formats", "tensor", "kernels/..."}},
	{"peft/selective", []string{"peft", "model", "nn", "formats", "tensor", "kernels/..."}},
	{"peft/prompts", []string{"peft", "model", "nn", "formats", "tensor", "kernels/..."}},
	{"plugins/standard", []string{"..."}},
	{"plugins/...", []string{"peft", "peft/tuner", "peft/hub", "peft/prompts", "peft/selective", "model", "nn", "formats/...", "tensor", "kernels/...", "internal/linalg", "internal/torchrng", "internal/numpyrng"}},
	{"data", []string{"tokenizer/...", "model", "nn", "formats", "tensor", "kernels/..."}},
	{"train", []string{"data", "peft", "tokenizer/...", "model", "nn", "formats/...", "tensor", "kernels/..."}},
	{"generate", []string{"data", "tokenizer/...", "model", "nn", "formats", "tensor", "kernels/..."}},
	{"compare", []string{"train", "generate", "data", "peft", "tokenizer/...", "model", "nn", "formats/...", "tensor", "kernels/..."}},
	{"convert", []string{"peft", "tokenizer/...", "model", "nn", "formats", "tensor", "kernels/..."}},
}

func fits(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Deps", module+"...")
	out, err := cmd.Output()
	require.NoError(t, err)
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasSuffix(name, "test") { // conformance suites sit on top of what they test
			continue
		}
		for _, r := range rules {
			if !fits(r.pkg, name) {
				continue
			}
			seen[r.pkg] = true
			for _, dep := range p.Deps {
				dep, own := strings.CutPrefix(dep, module)
				if !own {
					continue
				}
				// Files are mapped and written by whoever knows formats.
				ok := (dep == "internal/mmap" || dep == "internal/atomicfile") && len(r.allow) > 2 || dep == "internal/spell" && r.allow != nil
				for _, a := range r.allow {
					// What may use peft has its linear algebra below it.
					ok = ok || fits(a, dep) || a == "peft" && dep == "internal/linalg"
				}
				require.True(t, ok, "%s must not depend on %s", name, dep)
			}
			break
		}
		if !strings.HasPrefix(name, "plugins/") && !strings.HasPrefix(name, "cmd/") && name != "internal/demo/recipe" {
			for _, dep := range p.Deps {
				require.False(t, strings.HasPrefix(dep, module+"plugins/"), "%s must not depend on a plug-in: %s", name, dep)
			}
		}
	}
	for _, r := range rules {
		require.True(t, seen[r.pkg], "no package fits the rule for %s", r.pkg)
	}
}

// A method must be one folder: no other package may know its name or its files.
func TestMethodsStayInTheirFolders(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", module+"...").Output()
	require.NoError(t, err)
	for _, dir := range strings.Fields(string(out)) {
		for _, lower := range []string{"/kernels", "/nn", "/tensor", "/model", "/train", "/data"} {
			if i := strings.Index(dir, lower); i < 0 || strings.Contains(dir, "/plugins/") || strings.Contains(dir, "/internal/") {
				continue
			}
			found, _ := exec.Command("grep", "-rlE", "--include=*.go", "--exclude=*_test.go", `lora_[AB]|"lora"|use_rslora`, dir).Output()
			require.Empty(t, string(found), "a method's names belong in its folder below plugins")
		}
	}
}
