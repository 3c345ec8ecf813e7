package main

import (
	"bytes"
	"fmt"
)

// codecNEON writes the decoders of the storage types.
func codecNEON() []byte {
	var w bytes.Buffer
	w.WriteString(header + "//go:build arm64 && !noasm\n\n#include \"textflag.h\"\n")
	p := func(format string, args ...any) { fmt.Fprintf(&w, "\t"+format+"\n", args...) }
	one := func(base int, text string, d, n int) {
		p("WORD $0x%08X // "+text, base|d|n<<5, d, n)
	}
	begin := func(name, count string) {
		fmt.Fprintf(&w, "\n// func %s(%s int, dst *float32, src *byte)\nTEXT ·%s(SB), NOSPLIT, $0-24\n", name, count, name)
		p("MOVD %s+0(FP), R0", count)
		p("MOVD dst+8(FP), R1")
		p("MOVD src+16(FP), R2")
	}
	loop := func(body func()) {
		p("CBZ  R0, done")
		fmt.Fprintf(&w, "\nloop:\n")
		body()
		p("SUB  $1, R0")
		p("CBNZ R0, loop")
		fmt.Fprintf(&w, "\ndone:\n")
		p("RET")
	}

	begin("DecodeF16NEON", "n")
	p("LSR  $3, R0")
	loop(func() {
		p("VLD1.P 16(R2), [V0.B16]")
		one(0x0E217800, "fcvtl v%d.4s, v%d.4h", 1, 0)
		one(0x4E217800, "fcvtl2 v%d.4s, v%d.8h", 2, 0)
		p("VST1.P [V1.S4, V2.S4], 32(R1)")
	})

	begin("DecodeBF16NEON", "n")
	p("LSR  $3, R0")
	p("VEOR V3.B16, V3.B16, V3.B16")
	loop(func() {
		p("VLD1.P 16(R2), [V0.B16]")
		p("VZIP1 V0.H8, V3.H8, V1.H8")
		p("VZIP2 V0.H8, V3.H8, V2.H8")
		p("VST1.P [V1.S4, V2.S4], 32(R1)")
	})

	// half puts the binary16 number at R2+at into all lanes of register d.
	half := func(d, at int) {
		addr := "R2"
		if at > 0 {
			p("ADD  $%d, R2, R3", at)
			addr = "R3"
		}
		p("VLD1R (%s), [V%d.H8]", addr, d)
		one(0x0E217800, "fcvtl v%d.4s, v%d.4h", d, d)
	}
	// expand turns the 16 signed bytes of register s into four vectors from V4 on,
	// times V16 and, with offset, plus V17.
	expand := func(s int, offset bool) {
		one(0x0F08A400, "sxtl v%d.8h, v%d.8b", 8, s)
		one(0x4F08A400, "sxtl2 v%d.8h, v%d.16b", 9, s)
		for i := range 2 {
			one(0x0F10A400, "sxtl v%d.4s, v%d.4h", 4+2*i, 8+i)
			one(0x4F10A400, "sxtl2 v%d.4s, v%d.8h", 5+2*i, 8+i)
		}
		for d := 4; d < 8; d++ {
			one(0x4E21D800, "scvtf v%d.4s, v%d.4s", d, d)
		}
		for d := 4; d < 8; d++ {
			one(0x6E20DC00|16<<16, "fmul v%d.4s, v%d.4s, v16.4s", d, d)
		}
		if offset {
			for d := 4; d < 8; d++ {
				one(0x4E20D400|17<<16, "fadd v%d.4s, v%d.4s, v17.4s", d, d)
			}
		}
		p("VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R1)")
	}

	begin("DecodeQ8_0NEON", "blocks")
	loop(func() {
		half(16, 0)
		p("ADD  $2, R2")
		p("VLD1.P 32(R2), [V0.B16, V1.B16]")
		expand(0, false)
		expand(1, false)
	})

	begin("DecodeQ4_0NEON", "blocks")
	p("VMOVI $15, V2.B16")
	p("VMOVI $8, V3.B16")
	loop(func() {
		half(16, 0)
		p("ADD  $2, R2")
		p("VLD1.P 16(R2), [V0.B16]")
		p("VUSHR $4, V0.B16, V1.B16")
		p("VAND V2.B16, V0.B16, V0.B16")
		p("VSUB V3.B16, V0.B16, V0.B16")
		p("VSUB V3.B16, V1.B16, V1.B16")
		expand(0, false)
		expand(1, false)
	})

	begin("DecodeQ4_1NEON", "blocks")
	p("VMOVI $15, V2.B16")
	loop(func() {
		half(16, 0)
		half(17, 2)
		p("ADD  $4, R2")
		p("VLD1.P 16(R2), [V0.B16]")
		p("VUSHR $4, V0.B16, V1.B16")
		p("VAND V2.B16, V0.B16, V0.B16")
		expand(0, true)
		expand(1, true)
	})
	return w.Bytes()
}
