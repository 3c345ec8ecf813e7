package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// neonEmitter writes NEON. The assembler lacks the floating-point vector
// instructions, so they are words: register numbers or'ed into a base.
// Work registers count up from V0, kept values down from V31.
type neonEmitter struct {
	w     *bytes.Buffer
	op    *vecOp
	lane  int
	base  int
	kept  []string
	regOf map[string]string
}

func (e *neonEmitter) p(format string, args ...any) { fmt.Fprintf(e.w, "\t"+format+"\n", args...) }

func num(r string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(r, "V"))
	if err != nil {
		panic(r)
	}
	return n
}

// word writes an instruction with the registers d, a and b ("" for none).
func (e *neonEmitter) word(base int, name, d, a, b string) {
	text := fmt.Sprintf("%s v%d.4s, v%d.4s", name, num(d), num(a))
	w := base | num(d) | num(a)<<5
	if b != "" {
		w |= num(b) << 16
		text += fmt.Sprintf(", v%d.4s", num(b))
	}
	e.p("WORD $0x%08X // %s", w, text)
}

func (e *neonEmitter) keep(key string) string {
	if r, ok := e.regOf[key]; ok {
		return r
	}
	r := fmt.Sprintf("V%d", 31-len(e.kept))
	e.kept = append(e.kept, key)
	e.regOf[key] = r
	return r
}

func (e *neonEmitter) r(i int) string              { return fmt.Sprintf("V%d", e.base+i) }
func (e *neonEmitter) acc() string                 { return e.keep(fmt.Sprintf("acc%d", e.lane)) }
func (e *neonEmitter) scalar(name string) string   { return e.keep("scalar " + name) }
func (e *neonEmitter) entry(i int) string          { return e.keep(fmt.Sprintf("entry %d", i)) }
func (e *neonEmitter) fixed(name string) string    { return e.keep("const " + name) }
func (e *neonEmitter) constant(name string) string { return e.keep("const " + name) }

func (e *neonEmitter) ptr(ptr string) string {
	return fmt.Sprintf("R%d", 1+slices.Index(e.op.ptrs, ptr))
}

// Loads and stores do not advance: an operand may be loaded and stored.
func (e *neonEmitter) load(d, ptr string) {
	if e.lane == 0 {
		e.p("VLD1 (%s), [%s.S4]", e.ptr(ptr), d)
		return
	}
	e.p("ADD  $%d, %s, R10", 16*e.lane, e.ptr(ptr))
	e.p("VLD1 (R10), [%s.S4]", d)
}

func (e *neonEmitter) store(s, ptr string) {
	if e.lane == 0 {
		e.p("VST1 [%s.S4], (%s)", s, e.ptr(ptr))
		return
	}
	e.p("ADD  $%d, %s, R10", 16*e.lane, e.ptr(ptr))
	e.p("VST1 [%s.S4], (R10)", s)
}

func (e *neonEmitter) add(d, a, b string)  { e.word(0x4E20D400, "fadd", d, a, b) }
func (e *neonEmitter) sub(d, a, b string)  { e.word(0x4EA0D400, "fsub", d, a, b) }
func (e *neonEmitter) mul(d, a, b string)  { e.word(0x6E20DC00, "fmul", d, a, b) }
func (e *neonEmitter) div(d, a, b string)  { e.word(0x6E20FC00, "fdiv", d, a, b) }
func (e *neonEmitter) max(d, a, b string)  { e.word(0x4E20F400, "fmax", d, a, b) }
func (e *neonEmitter) min(d, a, b string)  { e.word(0x4EA0F400, "fmin", d, a, b) }
func (e *neonEmitter) fma(d, a, b string)  { e.word(0x4E20CC00, "fmla", d, a, b) }
func (e *neonEmitter) fnma(d, a, b string) { e.word(0x4EA0CC00, "fmls", d, a, b) }
func (e *neonEmitter) sqrt(d, a string)    { e.word(0x6EA1F800, "fsqrt", d, a, "") }
func (e *neonEmitter) round(d, a string)   { e.word(0x4E218800, "frintn", d, a, "") }

func (e *neonEmitter) horner(d, m, c, tmp string) string {
	e.p("VMOV %s.B16, %s.B16", c, tmp)
	e.fma(tmp, d, m)
	return tmp
}

func (e *neonEmitter) scale2(d, n, p, t1, t2 string) {
	bias := e.constant("i127")
	e.word(0x4E21A800, "fcvtns", n, n, "")
	e.p("WORD $0x%08X // sshr v%d.4s, v%d.4s, #1", 0x4F3F0400|num(t1)|num(n)<<5, num(t1), num(n))
	e.p("VSUB %s.S4, %s.S4, %s.S4", t1, n, t2)
	for _, t := range []string{t1, t2} {
		e.p("VADD %s.S4, %s.S4, %s.S4", bias, t, t)
		e.p("VSHL $23, %s.S4, %s.S4", t, t)
	}
	e.mul(p, p, t1)
	e.mul(d, p, t2)
}

func (e *neonEmitter) zeroTail(string)   {}
func (e *neonEmitter) negInfTail(string) {}

func vecNEON() []byte {
	var w bytes.Buffer
	w.WriteString(header + "//go:build arm64 && !noasm\n\n#include \"textflag.h\"\n")
	for i := range vecOps {
		vecOpNEON(&w, &vecOps[i])
	}
	return w.Bytes()
}

func vecOpNEON(w *bytes.Buffer, o *vecOp) {
	e := &neonEmitter{op: o, regOf: map[string]string{}}
	body := func(copies int) []byte {
		var b bytes.Buffer
		e.w = &b
		for i := range copies {
			e.lane, e.base = i, 0
			if copies > 1 {
				e.base = 2 * i
			}
			o.body(e)
		}
		return b.Bytes()
	}
	wide := body(o.unroll)
	single := body(1)
	scalars, result, size := o.frame()
	fmt.Fprintf(w, "\n// %s\nTEXT ·%sNEON(SB), NOSPLIT, $0-%d\n", o.signature("NEON"), o.name, size)
	e.w = w
	e.p("MOVD n+0(FP), R0")
	for i, p := range o.ptrs {
		e.p("MOVD %s+%d(FP), R%d", p, 8+8*i, 1+i)
	}
	if o.table != "" {
		e.p("MOVD %s+%d(FP), R9", o.table, 8+8*len(o.ptrs))
	}
	for _, k := range e.kept {
		r := e.regOf[k]
		var name string
		var idx int
		switch {
		case scan(k, "acc%d", &idx):
			if o.reduce == "max" {
				e.p("MOVW $0xff800000, R11")
				e.p("VDUP R11, %s.S4", r)
			} else {
				e.p("VEOR %s.B16, %s.B16, %s.B16", r, r, r)
			}
		case scan(k, "scalar %s", &name):
			e.p("MOVWU %s+%d(FP), R11", name, scalars+4*slices.Index(o.scalars, name))
			e.p("VDUP R11, %s.S4", r)
		case scan(k, "entry %d", &idx):
			e.p("MOVWU %d(R9), R11", 4*idx)
			e.p("VDUP R11, %s.S4", r)
		case scan(k, "const %s", &name):
			e.p("MOVW $0x%08x, R11 // %s", constants[constOffset(name)/64].bits, name)
			e.p("VDUP R11, %s.S4", r)
		}
	}
	loop := func(label, next string, copies int, code []byte) {
		fmt.Fprintf(w, "\n%s:\n", label)
		e.p("SUBS $%d, R0, R0", 4*copies)
		e.p("BLT  %s", next)
		w.Write(code)
		for i := range o.ptrs {
			e.p("ADD  $%d, R%d", 16*copies, 1+i)
		}
		e.p("B    %s", label)
		fmt.Fprintf(w, "\n%s:\n", next)
		e.p("ADD  $%d, R0", 4*copies)
	}
	if o.unroll > 1 {
		loop("wide", "single", o.unroll, wide)
	}
	loop("one", "done", 1, single)
	if o.reduce != "" {
		a := make([]string, o.unroll)
		for i := range a {
			a[i] = e.regOf[fmt.Sprintf("acc%d", i)]
		}
		for n := len(a); n > 1; n /= 2 {
			for i := range n / 2 {
				if o.reduce == "max" {
					e.max(a[i], a[i], a[i+n/2])
				} else {
					e.add(a[i], a[i], a[i+n/2])
				}
			}
		}
		base, name := 0x6E20D400, "faddp"
		if o.reduce == "max" {
			base, name = 0x6E20F400, "fmaxp"
		}
		e.word(base, name, a[0], a[0], a[0])
		e.word(base, name, a[0], a[0], a[0])
		e.p("VMOV %s.S[0], R11", a[0])
		e.p("MOVW R11, ret+%d(FP)", result)
	}
	e.p("RET")
}
