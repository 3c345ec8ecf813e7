// Package arm64 holds the NEON assembly of package kernels for ARMv8. Every
// ARMv8-A CPU has the instructions it uses.
//
// Functions trust their arguments. The comment of each is the loop it computes.
package arm64
