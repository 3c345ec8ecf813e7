package main

import (
	"bytes"
	"fmt"
	"slices"
)

// x86Emitter writes AVX2 (Y registers, mask in Y15) or AVX-512 (Z, mask in K1).
// Work registers count up from 0, kept values down from 14 (or 31).
type x86Emitter struct {
	w     *bytes.Buffer
	op    *vecOp
	z     bool
	tail  bool
	lane  int // which copy of the unrolled body
	base  int // first work register of this copy
	kept  []string
	regOf map[string]string
}

func (e *x86Emitter) p(format string, args ...any) { fmt.Fprintf(e.w, "\t"+format+"\n", args...) }

func (e *x86Emitter) reg(i int) string {
	if e.z {
		return fmt.Sprintf("Z%d", i)
	}
	return fmt.Sprintf("Y%d", i)
}

func (e *x86Emitter) width() int {
	if e.z {
		return 16
	}
	return 8
}

// keep returns the register that holds a value for the whole call.
func (e *x86Emitter) keep(key string) string {
	if r, ok := e.regOf[key]; ok {
		return r
	}
	top := 14
	if e.z {
		top = 31
	}
	r := e.reg(top - len(e.kept))
	e.kept = append(e.kept, key)
	e.regOf[key] = r
	return r
}

func ptrReg(i int) string { return []string{"SI", "DI", "R8", "R9", "R10"}[i] }

func (e *x86Emitter) mem(ptr string) string {
	i := slices.Index(e.op.ptrs, ptr)
	return fmt.Sprintf("%d(%s)", e.lane*e.width()*4, ptrReg(i))
}

func constOffset(name string) int {
	for i, c := range constants {
		if c.name == name {
			return i * 64
		}
	}
	panic(name)
}

func (e *x86Emitter) r(i int) string            { return e.reg(e.base + i) }
func (e *x86Emitter) acc() string               { return e.keep(fmt.Sprintf("acc%d", e.lane)) }
func (e *x86Emitter) scalar(name string) string { return e.keep("scalar " + name) }
func (e *x86Emitter) entry(i int) string        { return e.keep(fmt.Sprintf("entry %d", i)) }
func (e *x86Emitter) fixed(name string) string  { return e.keep("const " + name) }
func (e *x86Emitter) constant(name string) string {
	return fmt.Sprintf("vecconst<>+%d(SB)", constOffset(name))
}

func (e *x86Emitter) load(d, ptr string) {
	switch {
	case !e.tail:
		e.p("VMOVUPS %s, %s", e.mem(ptr), d)
	case e.z:
		e.p("VMOVUPS.Z %s, K1, %s", e.mem(ptr), d)
	default:
		e.p("VMASKMOVPS %s, Y15, %s", e.mem(ptr), d)
	}
}

func (e *x86Emitter) store(s, ptr string) {
	switch {
	case !e.tail:
		e.p("VMOVUPS %s, %s", s, e.mem(ptr))
	case e.z:
		e.p("VMOVUPS %s, K1, %s", s, e.mem(ptr))
	default:
		e.p("VMASKMOVPS %s, Y15, %s", s, e.mem(ptr))
	}
}

func (e *x86Emitter) three(op, d, a, b string) { e.p("%s %s, %s, %s", op, b, a, d) }
func (e *x86Emitter) add(d, a, b string)       { e.three("VADDPS", d, a, b) }
func (e *x86Emitter) sub(d, a, b string)       { e.three("VSUBPS", d, a, b) }
func (e *x86Emitter) mul(d, a, b string)       { e.three("VMULPS", d, a, b) }
func (e *x86Emitter) div(d, a, b string)       { e.three("VDIVPS", d, a, b) }
func (e *x86Emitter) max(d, a, b string)       { e.three("VMAXPS", d, a, b) }
func (e *x86Emitter) min(d, a, b string)       { e.three("VMINPS", d, a, b) }
func (e *x86Emitter) fma(d, a, b string)       { e.three("VFMADD231PS", d, a, b) }
func (e *x86Emitter) fnma(d, a, b string)      { e.three("VFNMADD231PS", d, a, b) }
func (e *x86Emitter) sqrt(d, a string)         { e.p("VSQRTPS %s, %s", a, d) }

func (e *x86Emitter) horner(d, m, c, _ string) string {
	e.three("VFMADD213PS", d, m, c)
	return d
}

func (e *x86Emitter) round(d, a string) {
	if e.z {
		e.p("VRNDSCALEPS $8, %s, %s", a, d)
	} else {
		e.p("VROUNDPS $8, %s, %s", a, d)
	}
}

func (e *x86Emitter) scale2(d, n, p, t1, t2 string) {
	if e.z {
		e.three("VSCALEFPS", d, p, n)
		return
	}
	// In two steps, so that neither power overflows and a subnormal is rounded once.
	bias := e.constant("i127")
	e.p("VCVTPS2DQ %s, %s", n, n)
	e.p("VPSRAD $1, %s, %s", n, t1)
	e.p("VPSUBD %s, %s, %s", t1, n, t2)
	for _, t := range []string{t1, t2} {
		e.p("VPADDD %s, %s, %s", bias, t, t)
		e.p("VPSLLD $23, %s, %s", t, t)
	}
	e.mul(p, p, t1)
	e.mul(d, p, t2)
}

func (e *x86Emitter) zeroTail(d string) {
	if !e.tail {
		return
	}
	if e.z {
		e.p("VMOVAPS.Z %s, K1, %s", d, d)
	} else {
		e.p("VANDPS Y15, %s, %s", d, d)
	}
}

func (e *x86Emitter) negInfTail(d string) {
	inf := e.fixed("neginf")
	if !e.tail {
		return
	}
	if e.z {
		e.p("VBLENDMPS %s, %s, K1, %s", d, inf, d)
	} else {
		e.p("VBLENDVPS Y15, %s, %s, %s", d, inf, d)
	}
}

// vecX86 writes all routines of a tier.
func vecX86(tier string) []byte {
	var w bytes.Buffer
	w.WriteString(header + "//go:build amd64 && !noasm\n\n#include \"textflag.h\"\n")
	z := tier == "AVX512"
	for i := range vecOps {
		vecOpX86(&w, &vecOps[i], tier, z)
	}
	words := 16
	w.WriteString("\n")
	for i, c := range constants {
		for j := range words {
			fmt.Fprintf(&w, "DATA vecconst<>+%d(SB)/4, $0x%08x\n", i*64+j*4, c.bits)
		}
	}
	fmt.Fprintf(&w, "GLOBL vecconst<>(SB), RODATA|NOPTR, $%d\n", len(constants)*64)
	if !z {
		w.WriteString("\n// The first 8-n words from word n are ones.\n")
		for j := range 16 {
			v := uint32(0)
			if j < 8 {
				v = 0xffffffff
			}
			fmt.Fprintf(&w, "DATA vecmask<>+%d(SB)/4, $0x%08x\n", j*4, v)
		}
		w.WriteString("GLOBL vecmask<>(SB), RODATA|NOPTR, $64\n")
	}
	return w.Bytes()
}

func vecOpX86(w *bytes.Buffer, o *vecOp, tier string, z bool) {
	// The bodies are written first: they say which values the prologue must keep.
	e := &x86Emitter{op: o, z: z, regOf: map[string]string{}}
	perCopy := 2
	body := func(copies int, tail bool) []byte {
		var b bytes.Buffer
		e.w, e.tail = &b, tail
		for i := range copies {
			e.lane, e.base = i, 0
			if copies > 1 {
				e.base = i * perCopy
			}
			o.body(e)
		}
		return b.Bytes()
	}
	wide := body(o.unroll, false)
	single := body(1, false)
	last := body(1, true)

	scalars, result, size := o.frame()
	fmt.Fprintf(w, "\n// %s\nTEXT ·%s%s(SB), NOSPLIT, $0-%d\n", o.signature(tier), o.name, tier, size)
	e.w = w
	e.lane = 0
	e.p("MOVQ n+0(FP), CX")
	for i, p := range o.ptrs {
		e.p("MOVQ %s+%d(FP), %s", p, 8+8*i, ptrReg(i))
	}
	if o.table != "" {
		e.p("MOVQ %s+%d(FP), BX", o.table, 8+8*len(o.ptrs))
	}
	for _, k := range e.kept {
		r := e.regOf[k]
		var name string
		var idx int
		switch {
		case scan(k, "acc%d", &idx):
			if o.reduce == "max" {
				e.p("VMOVUPS %s, %s", e.constant("neginf"), r)
			} else {
				e.p("VMOVUPS %s, %s", e.constant("zero"), r)
			}
		case scan(k, "scalar %s", &name):
			e.p("VBROADCASTSS %s+%d(FP), %s", name, scalars+4*slices.Index(o.scalars, name), r)
		case scan(k, "entry %d", &idx):
			e.p("VBROADCASTSS %d(BX), %s", 4*idx, r)
		case scan(k, "const %s", &name):
			e.p("VMOVUPS %s, %s", e.constant(name), r)
		}
	}
	advance := func(copies int) {
		for i := range o.ptrs {
			e.p("ADDQ $%d, %s", copies*e.width()*4, ptrReg(i))
		}
	}
	loop := func(label, next string, copies int, code []byte) {
		fmt.Fprintf(w, "\n%s:\n", label)
		e.p("SUBQ $%d, CX", copies*e.width())
		e.p("JLT  %s", next)
		w.Write(code)
		advance(copies)
		e.p("JMP  %s", label)
		fmt.Fprintf(w, "\n%s:\n", next)
		e.p("ADDQ $%d, CX", copies*e.width())
	}
	if o.unroll > 1 {
		loop("wide", "single", o.unroll, wide)
		fmt.Fprintf(w, "\n")
	}
	loop("one", "last", 1, single)
	e.p("JZ   done")
	if z {
		e.p("MOVL $1, AX")
		e.p("SHLL CX, AX")
		e.p("DECL AX")
		e.p("KMOVW AX, K1")
	} else {
		e.p("LEAQ vecmask<>+32(SB), AX")
		e.p("SHLQ $2, CX")
		e.p("SUBQ CX, AX")
		e.p("VMOVUPS (AX), Y15")
	}
	w.Write(last)
	fmt.Fprintf(w, "\ndone:\n")
	if o.reduce != "" {
		op := "VADDPS"
		if o.reduce == "max" {
			op = "VMAXPS"
		}
		a := make([]string, o.unroll)
		for i := range a {
			a[i] = e.regOf[fmt.Sprintf("acc%d", i)]
		}
		for n := len(a); n > 1; n /= 2 {
			for i := range n / 2 {
				e.p("%s %s, %s, %s", op, a[i+n/2], a[i], a[i])
			}
		}
		if z {
			e.p("VEXTRACTF64X4 $1, %s, Y1", a[0])
			e.p("VMOVAPS %s, Z0", a[0])
			e.p("%s Y1, Y0, Y0", op)
		} else {
			e.p("VMOVAPS %s, Y0", a[0])
		}
		e.p("VEXTRACTF128 $1, Y0, X1")
		e.p("%s X1, X0, X0", op)
		e.p("VPERMILPS $0x4e, X0, X1")
		e.p("%s X1, X0, X0", op)
		e.p("VPERMILPS $0xb1, X0, X1")
		e.p("%s X1, X0, X0", op)
		e.p("VMOVSS X0, ret+%d(FP)", result)
	}
	e.p("VZEROUPPER")
	e.p("RET")
}

func scan(s, format string, v any) bool {
	n, err := fmt.Sscanf(s, format, v)
	return n == 1 && err == nil
}
