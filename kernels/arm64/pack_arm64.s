//go:build arm64 && !noasm

#include "textflag.h"

// func Transpose4NEON(k int, src *float32, ld int, dst *float32, width int, scale float32)
TEXT ·Transpose4NEON(SB), NOSPLIT, $0-44
	MOVD k+0(FP), R0
	MOVD src+8(FP), R1
	MOVD ld+16(FP), R2
	MOVD dst+24(FP), R3
	MOVD width+32(FP), R4
	MOVWU scale+40(FP), R5
	VDUP R5, V16.S4
	LSL  $2, R2, R2
	LSL  $2, R4, R4
	ADD  R2, R1, R6
	ADD  R2, R6, R7
	ADD  R2, R7, R8
	LSR  $2, R0
	CBZ  R0, done

loop:
	VLD1.P 16(R1), [V0.S4]
	VLD1.P 16(R6), [V1.S4]
	VLD1.P 16(R7), [V2.S4]
	VLD1.P 16(R8), [V3.S4]
	WORD $0x6E30DC00 // fmul v0.4s, v0.4s, v16.4s
	WORD $0x6E30DC21 // fmul v1.4s, v1.4s, v16.4s
	WORD $0x6E30DC42 // fmul v2.4s, v2.4s, v16.4s
	WORD $0x6E30DC63 // fmul v3.4s, v3.4s, v16.4s
	VZIP1 V1.S4, V0.S4, V4.S4
	VZIP2 V1.S4, V0.S4, V5.S4
	VZIP1 V3.S4, V2.S4, V6.S4
	VZIP2 V3.S4, V2.S4, V7.S4
	VZIP1 V6.D2, V4.D2, V8.D2
	VZIP2 V6.D2, V4.D2, V9.D2
	VZIP1 V7.D2, V5.D2, V10.D2
	VZIP2 V7.D2, V5.D2, V11.D2
	VST1 [V8.S4], (R3)
	ADD  R4, R3
	VST1 [V9.S4], (R3)
	ADD  R4, R3
	VST1 [V10.S4], (R3)
	ADD  R4, R3
	VST1 [V11.S4], (R3)
	ADD  R4, R3
	SUB  $1, R0
	CBNZ R0, loop

done:
	RET

// func Copy4NEON(k int, src *float32, ld int, dst *float32, width int, scale float32)
TEXT ·Copy4NEON(SB), NOSPLIT, $0-44
	MOVD k+0(FP), R0
	MOVD src+8(FP), R1
	MOVD ld+16(FP), R2
	MOVD dst+24(FP), R3
	MOVD width+32(FP), R4
	MOVWU scale+40(FP), R5
	VDUP R5, V16.S4
	LSL  $2, R2, R2
	LSL  $2, R4, R4
	CBZ  R0, cdone

cloop:
	VLD1 (R1), [V0.S4]
	WORD $0x6E30DC00 // fmul v0.4s, v0.4s, v16.4s
	VST1 [V0.S4], (R3)
	ADD  R2, R1
	ADD  R4, R3
	SUB  $1, R0
	CBNZ R0, cloop

cdone:
	RET

// func Pause(n int)
TEXT ·Pause(SB), NOSPLIT, $0-8
	MOVD n+0(FP), R0

ploop:
	YIELD
	SUB  $1, R0
	CMP  $0, R0
	BGT  ploop
	RET
