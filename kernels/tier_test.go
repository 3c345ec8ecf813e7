package kernels

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForce(t *testing.T) {
	before := Tier()
	require.Contains(t, append(Tiers(), Models()...), before)
	require.Equal(t, "generic", Tiers()[0])
	for _, name := range Tiers() {
		restore, err := Force(strings.ToUpper(name))
		require.NoError(t, err)
		require.Equal(t, name, Tier())
		restore()
		require.Equal(t, before, Tier())
	}
	_, err := Force("sse9")
	require.ErrorContains(t, err, `unknown kernel tier "sse9" (available: generic`)
	for _, name := range levelNames {
		if !slices.Contains(Tiers(), name) {
			_, err := Force(name)
			require.ErrorContains(t, err, "is not available on this CPU or in this build")
		}
	}
	require.Equal(t, before, Tier())
}

func TestEnvTier(t *testing.T) {
	if os.Getenv("PEFTKIT_TIER_CHILD") == "1" {
		os.Stdout.WriteString("tier " + Tier() + "\n")
		if err := TierError(); err != nil {
			os.Stdout.WriteString("error " + err.Error() + "\n")
		}
		return
	}
	run := func(value string) string {
		exe, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.Command(exe, "-test.run=^TestEnvTier$")
		cmd.Env = append(os.Environ(), "PEFTKIT_TIER_CHILD=1", EnvTier+"="+value)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Skipf("the test cannot start itself here: %v", err)
		}
		return string(out)
	}
	best := Tiers()[len(Tiers())-1]
	require.Contains(t, run(""), "tier "+best+"\n")
	require.Contains(t, run("generic"), "tier generic\n")
	require.NotContains(t, run("generic"), "error")
	out := run("quantum")
	require.Contains(t, out, "tier "+best+"\n")
	require.Contains(t, out, `error PEFTKIT_KERNELS: unknown kernel tier "quantum"`)
}
