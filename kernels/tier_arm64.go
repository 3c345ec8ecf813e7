//go:build arm64 && !noasm

package kernels

import (
	"github.com/klauspost/cpuid/v2"

	"github.com/peftkit/peftkit/kernels/arm64"
)

func detectLevels() []level { return []level{levelNEON} } // every ARMv8-A CPU has it

// Features lists the instruction sets that matter to the kernels and that this
// CPU has.
func Features() []string {
	var names []string
	for _, f := range []cpuid.FeatureID{
		cpuid.ASIMD, cpuid.ASIMDDP, cpuid.ASIMDHP, cpuid.SVE,
	} {
		if cpuid.CPU.Supports(f) {
			names = append(names, f.String())
		}
	}
	return names
}

// spinBackoff waits for a moment between two looks at shared state.
func spinBackoff() { arm64.Pause(8) }
