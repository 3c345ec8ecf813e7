//go:build noasm || !(amd64 || arm64)

package kernels

func detectLevels() []level { return nil }

// Features lists the instruction sets that matter to the kernels and that this
// CPU has; none are known without assembly.
func Features() []string { return nil }
