package kernels

import (
	"fmt"
	"os"
	"strings"

	"github.com/peftkit/peftkit/kernels/lanes"
)

// level is an instruction tier. Dispatch is a switch on active: calls through
// function variables would make every slice argument escape.
type level int

const (
	levelGeneric level = iota
	levelAVX2
	levelAVX512
	levelNEON
)

var levelNames = map[level]string{
	levelGeneric: "generic",
	levelAVX2:    "avx2",
	levelAVX512:  "avx512",
	levelNEON:    "neon",
}

// models are the vector tiers in plain Go: the same bits on any CPU, slowly.
var models = []struct {
	name string
	tier *lanes.Tier
}{{"avx2-model", lanes.AVX2}, {"avx512-model", lanes.AVX512}, {"neon-model", lanes.NEON}}

// EnvTier is the environment variable that forces a tier by name.
const EnvTier = "PEFTKIT_KERNELS"

var (
	available = append([]level{levelGeneric}, detectLevels()...)
	active    = available[len(available)-1]
	model     *lanes.Tier // not nil: it computes, and active is levelGeneric
	tierErr   error
)

func init() {
	if name := os.Getenv(EnvTier); name != "" {
		l, m, err := parseTier(name)
		if err != nil {
			tierErr = fmt.Errorf("%s: %w", EnvTier, err)
			return
		}
		active, model = l, m
	}
}

// TierError reports that PEFTKIT_KERNELS named a tier that does not exist or
// that this CPU or build lacks; the best available tier is in use then.
func TierError() error { return tierErr }

// Tier returns the name of the tier in use: generic, avx2, avx512, neon, or one of [Models].
func Tier() string {
	for _, m := range models {
		if m.tier == model {
			return m.name
		}
	}
	return levelNames[active]
}

// Models lists the tiers in plain Go: each gives the bits of the vector tier that it is
// named after, on every CPU. They are slow and there for tests.
func Models() []string {
	var names []string
	for _, m := range models {
		names = append(names, m.name)
	}
	return names
}

// Tiers lists the tiers that this CPU and build can run, slowest first.
func Tiers() []string {
	names := make([]string, len(available))
	for i, l := range available {
		names[i] = levelNames[l]
	}
	return names
}

// Force switches to the named tier until restore is called. It must not run
// while other goroutines compute; it is meant for tests and diagnosis.
func Force(tier string) (restore func(), err error) {
	l, m, err := parseTier(tier)
	if err != nil {
		return func() {}, err
	}
	old, oldModel := active, model
	active, model = l, m
	return func() { active, model = old, oldModel }, nil
}

func parseTier(name string) (level, *lanes.Tier, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, l := range available {
		if levelNames[l] == name {
			return l, nil, nil
		}
	}
	for _, m := range models {
		if m.name == name {
			return levelGeneric, m.tier, nil
		}
	}
	for _, known := range levelNames {
		if known == name {
			return 0, nil, fmt.Errorf("kernel tier %q is not available on this CPU or in this build (available: %s)",
				name, strings.Join(Tiers(), ", "))
		}
	}
	return 0, nil, fmt.Errorf("unknown kernel tier %q (available: %s)", name, strings.Join(Tiers(), ", "))
}
