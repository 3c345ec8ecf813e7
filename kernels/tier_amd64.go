//go:build amd64 && !noasm

package kernels

import (
	"github.com/klauspost/cpuid/v2"

	"github.com/peftkit/peftkit/kernels/amd64"
)

func detectLevels() []level {
	var ls []level
	// cpuid looks at XCR0 too: a bit is set only if the system saves the registers.
	if cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C) {
		ls = append(ls, levelAVX2)
		if cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL) {
			ls = append(ls, levelAVX512)
		}
	}
	return ls
}

// Features lists the instruction sets that matter to the kernels and that this
// CPU has.
func Features() []string {
	var names []string
	for _, f := range []cpuid.FeatureID{
		cpuid.SSE42, cpuid.AVX, cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.AVXVNNI,
		cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI,
		cpuid.AVX512BF16, cpuid.AVX512FP16, cpuid.AMXTILE, cpuid.AMXBF16, cpuid.AMXINT8,
	} {
		if cpuid.CPU.Supports(f) {
			names = append(names, f.String())
		}
	}
	return names
}

// spinBackoff waits for a moment between two looks at shared state.
func spinBackoff() { amd64.Pause(1) }
