package kernels

import (
	"fmt"
	"os"
	"strings"
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

// EnvTier is the environment variable that forces a tier by name.
const EnvTier = "PEFTKIT_KERNELS"

var (
	available = append([]level{levelGeneric}, detectLevels()...)
	active    = available[len(available)-1]
	tierErr   error
)

func init() {
	if name := os.Getenv(EnvTier); name != "" {
		l, err := parseTier(name)
		if err != nil {
			tierErr = fmt.Errorf("%s: %w", EnvTier, err)
			return
		}
		active = l
	}
}

// TierError reports that PEFTKIT_KERNELS named a tier that does not exist or
// that this CPU or build lacks; the best available tier is in use then.
func TierError() error { return tierErr }

// Tier returns the name of the tier in use: generic, avx2, avx512 or neon.
func Tier() string { return levelNames[active] }

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
	l, err := parseTier(tier)
	if err != nil {
		return func() {}, err
	}
	old := active
	active = l
	return func() { active = old }, nil
}

func parseTier(name string) (level, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, l := range available {
		if levelNames[l] == name {
			return l, nil
		}
	}
	for _, known := range levelNames {
		if known == name {
			return 0, fmt.Errorf("kernel tier %q is not available on this CPU or in this build (available: %s)",
				name, strings.Join(Tiers(), ", "))
		}
	}
	return 0, fmt.Errorf("unknown kernel tier %q (available: %s)", name, strings.Join(Tiers(), ", "))
}
