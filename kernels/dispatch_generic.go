//go:build noasm || !(amd64 || arm64)

package kernels

import "github.com/peftkit/peftkit/kernels/generic"

func dot(a, b []float32) float32                { return generic.Dot(a, b) }
func axpy(alpha float32, x, y []float32)        { generic.Axpy(alpha, x, y) }
func add(dst, a, b []float32)                   { generic.Add(dst, a, b) }
func mul(dst, a, b []float32)                   { generic.Mul(dst, a, b) }
func mulAdd(dst, a, b []float32)                { generic.MulAdd(dst, a, b) }
func scale(dst []float32, s float32)            { generic.Scale(dst, s) }
func maxOf(x []float32) float32                 { return generic.Max(x) }
func expTo(dst, x []float32)                    { generic.Exp(dst, x) }
func sigmoid(dst, x []float32)                  { generic.Sigmoid(dst, x) }
func gelu(dst, x []float32)                     { generic.GELU(dst, x) }
func geluSlope(dst, x []float32)                { generic.GELUSlope(dst, x) }
func geluTanh(dst, x []float32)                 { generic.GELUTanh(dst, x) }
func geluTanhSlope(dst, x []float32)            { generic.GELUTanhSlope(dst, x) }
func expSum(x []float32, shift float32) float32 { return generic.ExpSum(x, shift) }
func sumExp(x []float32, shift float32) float32 { return generic.SumExp(x, shift) }
func softmaxScale(x []float32, lse, s float32)  { generic.SoftmaxScale(x, lse, s) }
func swiGLU(dst, gate, up []float32)            { generic.SwiGLU(dst, gate, up) }
func swiGLUBackward(dGate, dUp, dOut, gate, up []float32) {
	generic.SwiGLUBackward(dGate, dUp, dOut, gate, up)
}
func adamW(p, g, m, v []float32, c *[7]float32) { generic.AdamW(p, g, m, v, c) }
