package main

import (
	"bytes"
	"fmt"
	"strings"
)

// The element-wise routines are described once, in terms of vector registers,
// and written for every tier. On x86 the last few elements go through the same
// instructions under a mask; on ARM the caller pads them to a vector.

// vecOp is one routine over n elements.
type vecOp struct {
	name    string
	ptrs    []string // pointer arguments, each advanced with the loop
	scalars []string // float32 arguments, broadcast
	table   string   // name of a pointer to float32 constants, "" for none
	tableN  int
	reduce  string // "", "sum" or "max": the result
	unroll  int
	body    func(e emitter)
}

// emitter writes instructions for one tier. Registers are names; an operand
// called c or b may also be what constant returns.
type emitter interface {
	r(i int) string            // work register i
	acc() string               // the register that is reduced
	scalar(name string) string // a broadcast argument
	entry(i int) string        // a broadcast constant of the table
	constant(name string) string
	fixed(name string) string // a constant that must be in a register
	load(d, ptr string)
	store(s, ptr string)
	add(d, a, b string)
	sub(d, a, b string)
	mul(d, a, b string)
	div(d, a, b string)
	sqrt(d, a string)
	max(d, a, b string) // NaN in b is kept
	min(d, a, b string)
	fma(d, a, b string)                // d += a*b
	fnma(d, a, b string)               // d -= a*b
	horner(d, m, c, tmp string) string // d*m+c, in the register returned (d or tmp)
	round(d, a string)                 // to the nearest integer
	scale2(d, n, p, t1, t2 string)     // d = p * 2^n, n integral
	zeroTail(d string)                 // lanes beyond the end become 0
	negInfTail(d string)               // lanes beyond the end become -Inf
}

var constants = []struct {
	name string
	bits uint32
}{
	{"log2e", 0x3fb8aa3b},
	{"ln2hi", 0x3f318000}, // 0.693359375
	{"ln2lo", 0xb95e8083}, // -2.12194440e-4
	{"c6", 0x39506967},    // 1.9875691500e-4
	{"c5", 0x3ab743ce},    // 1.3981999507e-3
	{"c4", 0x3c088908},    // 8.3334519073e-3
	{"c3", 0x3d2aa9c1},    // 4.1665795894e-2
	{"c2", 0x3e2aaaaa},    // 1.6666665459e-1
	{"c1", 0x3f000000},    // 5.0000001201e-1
	{"one", 0x3f800000},
	{"expmin", 0xc2d00000}, // -104: below it exp is 0
	{"expmax", 0x42b20000}, // 89: above it exp is infinite
	{"i127", 127},
	{"neginf", 0xff800000},
	{"zero", 0},
	{"erf1", 0x3e027906},    // 0.254829592/2
	{"erf2", 0xbe11a98e},    // -0.284496736/2
	{"erf3", 0x3f35f0e3},    // 1.421413741/2
	{"erf4", 0xbf3a00e3},    // -1.453152027/2
	{"erf5", 0x3f07dc22},    // 1.061405429/2
	{"erfp", 0x3e6d3388},    // 0.3275911/sqrt(2)
	{"density", 0x3ecc422a}, // 1/sqrt(2*pi)
	{"neghalf", 0xbf000000},
	{"gelua", 0x3fcc422a},  // 2*sqrt(2/pi)
	{"gelub", 0x3d922279},  // 2*sqrt(2/pi)*0.044715
	{"gelu3b", 0x3e5b33b6}, // three times that
	{"huge", 0x7149f2ca},   // 1e30
}

// exp emits d = exp(x) (the polynomial of Cephes' expf); it uses the other
// registers.
func exp(e emitter, d, x, t1, t2, t3 string) {
	e.max(x, e.fixed("expmin"), x)
	e.min(x, e.fixed("expmax"), x)
	e.mul(t1, x, e.constant("log2e"))
	e.round(t1, t1)
	e.fnma(x, t1, e.constant("ln2hi"))
	e.fnma(x, t1, e.constant("ln2lo"))
	p, free := t2, t3
	e.mul(p, x, e.constant("c6"))
	e.add(p, p, e.constant("c5"))
	for _, c := range []string{"c4", "c3", "c2", "c1"} {
		if q := e.horner(p, x, e.constant(c), free); q != p {
			p, free = q, p
		}
	}
	e.mul(free, x, x)
	e.fma(x, p, free)
	e.add(p, x, e.constant("one"))
	e.scale2(d, t1, p, free, x)
}

// normal loads x and emits the distribution function of the standard normal there,
// by formula 7.1.26 of Abramowitz and Stegun for the error function (absolute error
// below 1.5e-7), and exp(-x*x/2). It uses registers 0 to 6.
func normal(e emitter) (x, below, density string) {
	x, density = e.r(4), e.r(0)
	t, p, free, step := e.r(5), e.r(1), e.r(2), e.r(6)
	e.load(x, "x")
	e.mul(density, x, x)
	e.mul(density, density, e.constant("neghalf"))
	exp(e, density, density, e.r(1), e.r(2), e.r(3))
	e.sub(t, e.fixed("zero"), x)
	e.max(t, t, x)
	e.mul(t, t, e.constant("erfp"))
	e.add(t, t, e.constant("one"))
	e.div(t, e.fixed("one"), t)
	e.mul(p, t, e.constant("erf5"))
	e.add(p, p, e.constant("erf4"))
	for _, c := range []string{"erf3", "erf2", "erf1"} {
		if q := e.horner(p, t, e.constant(c), free); q != p {
			p, free = q, p
		}
	}
	e.mul(p, p, t)
	e.mul(p, p, density) // the share beyond |x|
	e.mul(step, x, e.constant("huge"))
	e.max(step, e.fixed("zero"), step)
	e.min(step, e.fixed("one"), step)
	e.sub(free, e.fixed("one"), p)
	e.sub(free, free, p)
	e.fma(p, step, free) // p, or 1-p where x is positive
	return x, p, density
}

// tanhGate loads x and emits the gate of GELU's tanh approximation, (1+tanh(z))/2 =
// sigmoid(2z) with 2z = x*(gelua + gelub*x*x), and x*x. It uses registers 0 to 5.
func tanhGate(e emitter) (x, gate, square string) {
	x, gate, square = e.r(4), e.r(0), e.r(5)
	e.load(x, "x")
	e.mul(square, x, x)
	e.mul(gate, square, e.constant("gelub"))
	e.add(gate, gate, e.constant("gelua"))
	e.mul(gate, gate, x)
	e.sub(gate, e.fixed("zero"), gate)
	exp(e, gate, gate, e.r(1), e.r(2), e.r(3))
	e.add(gate, gate, e.constant("one"))
	e.div(gate, e.fixed("one"), gate)
	return x, gate, square
}

var vecOps = []vecOp{
	{name: "Dot", ptrs: []string{"a", "b"}, reduce: "sum", unroll: 4, body: func(e emitter) {
		e.load(e.r(0), "a")
		e.load(e.r(1), "b")
		e.fma(e.acc(), e.r(0), e.r(1))
	}},
	{name: "Max", ptrs: []string{"x"}, reduce: "max", unroll: 4, body: func(e emitter) {
		e.load(e.r(0), "x")
		e.negInfTail(e.r(0))
		e.max(e.acc(), e.acc(), e.r(0))
	}},
	{name: "Axpy", ptrs: []string{"x", "y"}, scalars: []string{"alpha"}, unroll: 2, body: func(e emitter) {
		e.load(e.r(0), "x")
		e.load(e.r(1), "y")
		e.fma(e.r(1), e.r(0), e.scalar("alpha"))
		e.store(e.r(1), "y")
	}},
	{name: "Add", ptrs: []string{"dst", "a", "b"}, unroll: 2, body: func(e emitter) {
		e.load(e.r(0), "a")
		e.load(e.r(1), "b")
		e.add(e.r(0), e.r(0), e.r(1))
		e.store(e.r(0), "dst")
	}},
	{name: "Mul", ptrs: []string{"dst", "a", "b"}, unroll: 2, body: func(e emitter) {
		e.load(e.r(0), "a")
		e.load(e.r(1), "b")
		e.mul(e.r(0), e.r(0), e.r(1))
		e.store(e.r(0), "dst")
	}},
	{name: "MulAdd", ptrs: []string{"dst", "a", "b"}, unroll: 2, body: func(e emitter) {
		e.load(e.r(0), "a")
		e.load(e.r(1), "b")
		e.load(e.r(2), "dst")
		e.fma(e.r(2), e.r(0), e.r(1))
		e.store(e.r(2), "dst")
	}},
	{name: "Scale", ptrs: []string{"dst"}, scalars: []string{"s"}, unroll: 2, body: func(e emitter) {
		e.load(e.r(0), "dst")
		e.mul(e.r(0), e.r(0), e.scalar("s"))
		e.store(e.r(0), "dst")
	}},
	{name: "Exp", ptrs: []string{"dst", "x"}, unroll: 1, body: func(e emitter) {
		e.load(e.r(0), "x")
		exp(e, e.r(0), e.r(0), e.r(1), e.r(2), e.r(3))
		e.store(e.r(0), "dst")
	}},
	{name: "Sigmoid", ptrs: []string{"dst", "x"}, unroll: 1, body: func(e emitter) {
		e.load(e.r(0), "x")
		e.sub(e.r(0), e.fixed("zero"), e.r(0))
		exp(e, e.r(0), e.r(0), e.r(1), e.r(2), e.r(3))
		e.add(e.r(0), e.r(0), e.constant("one"))
		e.div(e.r(0), e.fixed("one"), e.r(0))
		e.store(e.r(0), "dst")
	}},
	{name: "ExpSum", ptrs: []string{"x"}, scalars: []string{"shift"}, reduce: "sum", unroll: 1, body: func(e emitter) {
		e.load(e.r(0), "x")
		e.sub(e.r(0), e.r(0), e.scalar("shift"))
		exp(e, e.r(0), e.r(0), e.r(1), e.r(2), e.r(3))
		e.store(e.r(0), "x")
		e.zeroTail(e.r(0))
		e.add(e.acc(), e.acc(), e.r(0))
	}},
	{name: "SumExp", ptrs: []string{"x"}, scalars: []string{"shift"}, reduce: "sum", unroll: 1, body: func(e emitter) {
		e.load(e.r(0), "x")
		e.sub(e.r(0), e.r(0), e.scalar("shift"))
		exp(e, e.r(0), e.r(0), e.r(1), e.r(2), e.r(3))
		e.zeroTail(e.r(0))
		e.add(e.acc(), e.acc(), e.r(0))
	}},
	{name: "SoftmaxScale", ptrs: []string{"x"}, scalars: []string{"lse", "s"}, unroll: 1, body: func(e emitter) {
		e.load(e.r(0), "x")
		e.sub(e.r(0), e.r(0), e.scalar("lse"))
		exp(e, e.r(0), e.r(0), e.r(1), e.r(2), e.r(3))
		e.mul(e.r(0), e.r(0), e.scalar("s"))
		e.store(e.r(0), "x")
	}},
	{name: "GELU", ptrs: []string{"dst", "x"}, unroll: 1, body: func(e emitter) {
		x, below, _ := normal(e)
		e.mul(x, x, below)
		e.store(x, "dst")
	}},
	{name: "GELUSlope", ptrs: []string{"dst", "x"}, unroll: 1, body: func(e emitter) {
		x, below, density := normal(e)
		e.mul(x, x, density)
		e.mul(x, x, e.constant("density"))
		e.add(x, x, below)
		e.store(x, "dst")
	}},
	{name: "GELUTanh", ptrs: []string{"dst", "x"}, unroll: 1, body: func(e emitter) {
		x, gate, _ := tanhGate(e)
		e.mul(x, x, gate)
		e.store(x, "dst")
	}},
	{name: "GELUTanhSlope", ptrs: []string{"dst", "x"}, unroll: 1, body: func(e emitter) {
		x, gate, d := tanhGate(e)
		e.mul(d, d, e.constant("gelu3b"))
		e.add(d, d, e.constant("gelua"))
		e.mul(d, d, x)
		e.mul(d, d, gate)
		e.sub(x, e.fixed("one"), gate)
		e.fma(gate, d, x) // gate + x*gate*(1-gate)*(gelua + 3*gelub*x*x)
		e.store(gate, "dst")
	}},
	{name: "SwiGLU", ptrs: []string{"dst", "gate", "up"}, unroll: 1, body: func(e emitter) {
		e.load(e.r(4), "gate")
		e.sub(e.r(0), e.fixed("zero"), e.r(4))
		exp(e, e.r(0), e.r(0), e.r(1), e.r(2), e.r(3))
		e.add(e.r(0), e.r(0), e.constant("one"))
		e.div(e.r(0), e.r(4), e.r(0))
		e.load(e.r(1), "up")
		e.mul(e.r(0), e.r(0), e.r(1))
		e.store(e.r(0), "dst")
	}},
	{name: "SwiGLUBackward", ptrs: []string{"dGate", "dUp", "dOut", "gate", "up"}, unroll: 1, body: func(e emitter) {
		g, s := e.r(4), e.r(0)
		e.load(g, "gate")
		e.sub(s, e.fixed("zero"), g)
		exp(e, s, s, e.r(1), e.r(2), e.r(3))
		e.add(s, s, e.constant("one"))
		e.div(s, e.fixed("one"), s)
		e.load(e.r(5), "dOut")
		e.mul(e.r(1), g, s) // silu
		e.load(e.r(2), "dUp")
		e.fma(e.r(2), e.r(5), e.r(1))
		e.store(e.r(2), "dUp")
		e.sub(e.r(2), e.fixed("one"), s)
		e.mul(e.r(2), e.r(2), g)
		e.add(e.r(2), e.r(2), e.constant("one"))
		e.mul(e.r(2), e.r(2), s)
		e.load(e.r(3), "up")
		e.mul(e.r(5), e.r(5), e.r(3))
		e.load(e.r(1), "dGate")
		e.fma(e.r(1), e.r(5), e.r(2))
		e.store(e.r(1), "dGate")
	}},
	{name: "AdamW", ptrs: []string{"p", "grad", "m", "v"}, table: "c", tableN: 7, unroll: 1, body: func(e emitter) {
		p, g, m, v, t := e.r(0), e.r(1), e.r(2), e.r(3), e.r(4)
		e.load(g, "grad")
		e.load(m, "m")
		e.sub(t, g, m)
		e.mul(t, t, e.entry(1))
		e.add(m, m, t)
		e.store(m, "m")
		e.load(v, "v")
		e.mul(v, v, e.entry(2))
		e.mul(t, g, e.entry(3))
		e.mul(t, t, g)
		e.add(v, v, t)
		e.store(v, "v")
		e.sqrt(v, v)
		e.div(v, v, e.entry(4))
		e.add(v, v, e.entry(5))
		e.mul(m, m, e.entry(6))
		e.div(m, m, v)
		e.load(p, "p")
		e.mul(p, p, e.entry(0))
		e.add(p, p, m)
		e.store(p, "p")
	}},
}

func (o *vecOp) signature(tier string) string {
	s := fmt.Sprintf("func %s%s(n int, %s *float32", o.name, tier, strings.Join(o.ptrs, ", "))
	if o.table != "" {
		s += fmt.Sprintf(", %s *[%d]float32", o.table, o.tableN)
	}
	if len(o.scalars) > 0 {
		s += ", " + strings.Join(o.scalars, ", ") + " float32"
	}
	s += ")"
	if o.reduce != "" {
		s += " float32"
	}
	return s
}

// frame returns the offset of the first scalar, of the result, and the size.
func (o *vecOp) frame() (scalars, result, size int) {
	scalars = 8 + 8*len(o.ptrs)
	if o.table != "" {
		scalars += 8
	}
	size = scalars + 4*len(o.scalars)
	if o.reduce != "" {
		size = (size + 7) &^ 7
		result = size
		size += 4
	}
	return scalars, result, size
}

// stubs writes the Go declarations.
func stubs(tier, arch string) []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%s//go:build %s && !noasm\n\npackage %s\n\n", header, arch, arch)
	fmt.Fprintf(&w, "// Each routine is the one of that name in package generic, on n elements")
	if tier == "NEON" {
		fmt.Fprintf(&w, ";\n// n is a multiple of 4.\n")
	} else {
		fmt.Fprintf(&w, ".\n")
	}
	for i := range vecOps {
		fmt.Fprintf(&w, "\n//go:noescape\n%s\n", vecOps[i].signature(tier))
	}
	return w.Bytes()
}
