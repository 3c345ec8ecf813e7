package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"math"
	"strings"
)

// goEmitter writes the arithmetic of one lane as Go: every instruction is a statement
// that rounds as the instruction does. What differs between tiers is a method of Tier.
type goEmitter struct {
	w  *bytes.Buffer
	op *vecOp
}

func (e *goEmitter) p(format string, args ...any) { fmt.Fprintf(e.w, format+"\n", args...) }

func (e *goEmitter) r(i int) string              { return fmt.Sprintf("r%d", i) }
func (e *goEmitter) acc() string                 { return "acc[u][j]" }
func (e *goEmitter) scalar(name string) string   { return name }
func (e *goEmitter) entry(i int) string          { return fmt.Sprintf("c[%d]", i) }
func (e *goEmitter) fixed(name string) string    { return e.constant(name) }
func (e *goEmitter) constant(name string) string { return "k" + name }

func (e *goEmitter) load(d, ptr string) {
	if e.op.reduce == "" {
		e.p("%s = %s[i]", d, ptr)
		return
	}
	e.p("%s = 0\nif i < n {\n%s = %s[i]\n}", d, d, ptr)
}

func (e *goEmitter) store(s, ptr string) {
	if e.op.reduce == "" {
		e.p("%s[i] = %s", ptr, s)
		return
	}
	e.p("if i < n {\n%s[i] = %s\n}", ptr, s)
}

func (e *goEmitter) add(d, a, b string)  { e.p("%s = %s + %s", d, a, b) }
func (e *goEmitter) sub(d, a, b string)  { e.p("%s = %s - %s", d, a, b) }
func (e *goEmitter) mul(d, a, b string)  { e.p("%s = float32(%s * %s)", d, a, b) }
func (e *goEmitter) div(d, a, b string)  { e.p("%s = %s / %s", d, a, b) }
func (e *goEmitter) sqrt(d, a string)    { e.p("%s = float32(math.Sqrt(float64(%s)))", d, a) }
func (e *goEmitter) max(d, a, b string)  { e.p("%s = t.max(%s, %s)", d, a, b) }
func (e *goEmitter) min(d, a, b string)  { e.p("%s = -t.max(-%s, -%s)", d, a, b) }
func (e *goEmitter) fma(d, a, b string)  { e.p("%s = FMA(%s, %s, %s)", d, a, b, d) }
func (e *goEmitter) fnma(d, a, b string) { e.p("%s = FMA(-%s, %s, %s)", d, a, b, d) }
func (e *goEmitter) round(d, a string)   { e.p("%s = float32(math.RoundToEven(float64(%s)))", d, a) }
func (e *goEmitter) zeroTail(d string)   { e.p("if i >= n {\n%s = 0\n}", d) }
func (e *goEmitter) negInfTail(d string) { e.p("if i >= n {\n%s = kneginf\n}", d) }
func (e *goEmitter) horner(d, m, c, _ string) string {
	e.p("%s = FMA(%s, %s, %s)", d, d, m, c)
	return d
}
func (e *goEmitter) scale2(d, n, p, _, _ string) { e.p("%s = t.scale2(%s, %s)", d, p, n) }

// vecGo writes the routines in plain Go.
func vecGo() []byte {
	var w bytes.Buffer
	w.WriteString(header + "package lanes\n\nimport \"math\"\n\nvar (\n")
	for _, c := range constants {
		if c.name != "i127" {
			fmt.Fprintf(&w, "k%s = math.Float32frombits(0x%08x) // %v\n", c.name, c.bits, math.Float32frombits(c.bits))
		}
	}
	w.WriteString(")\n")
	for i := range vecOps {
		vecOpGo(&w, &vecOps[i])
	}
	out, err := format.Source(w.Bytes())
	if err != nil {
		log.Fatalf("%v\n%s", err, w.Bytes())
	}
	return out
}

func vecOpGo(w *bytes.Buffer, o *vecOp) {
	var body bytes.Buffer
	o.body(&goEmitter{w: &body, op: o})
	name, params, result := o.name, strings.Join(o.ptrs, ", ")+" []float32", ""
	if o.table != "" {
		params += fmt.Sprintf(", %s *[%d]float32", o.table, o.tableN)
	}
	if len(o.scalars) > 0 {
		params += ", " + strings.Join(o.scalars, ", ") + " float32"
	}
	if o.reduce != "" {
		name, result = strings.ToLower(name[:1])+name[1:], " float32"
		if name == "max" { // the maximum of two values has that name
			name = "maxOf"
		}
	}
	fmt.Fprintf(w, "\n// %s is the routine of that name in one call into assembly.\nfunc (t *Tier) %s(%s)%s {\n", name, name, params, result)
	for i := range 7 {
		if strings.Contains(body.String(), fmt.Sprintf("r%d", i)) {
			fmt.Fprintf(w, "var r%d float32\n", i)
		}
	}
	first := o.ptrs[0]
	if o.reduce == "" {
		fmt.Fprintf(w, "for i := range %s {\n%s}\n}\n", first, body.String())
		return
	}
	start, op := "kzero", "sum"
	if o.reduce == "max" {
		start, op = "kneginf", "max"
	}
	fmt.Fprintf(w, "acc, n := start(%s), len(%s)\nfor at := 0; at < n; {\ncopies := t.copies(n-at, %d)\n", start, first, o.unroll)
	fmt.Fprintf(w, "for u := range copies {\nfor j := range t.width {\ni := at + u*t.width + j\n%s}\n}\nat += copies * t.width\n}\n", body.String())
	fmt.Fprintf(w, "return t.fold(&acc, %d, t.%s)\n}\n", o.unroll, op)
}
