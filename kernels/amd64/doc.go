// Package amd64 holds the assembly of package kernels for x86-64: AVX2 with FMA
// and F16C, and AVX-512 (F, BW, DQ, VL). A function may only be called on a CPU
// that has the instructions its name ends with; package kernels sees to that.
//
// Functions trust their arguments. The comment of each is the loop it computes.
package amd64
