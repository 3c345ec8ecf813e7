//go:build amd64 && !noasm

#include "textflag.h"

// Rows are at SI + i*R8 (R9 = 3*R8, R10 = SI + 4*R8); dst advances by R11 per k.

#define ARGS \
	MOVQ k+0(FP), CX; \
	MOVQ src+8(FP), SI; \
	MOVQ ld+16(FP), R8; \
	MOVQ dst+24(FP), DI; \
	MOVQ width+32(FP), R11; \
	VBROADCASTSS scale+40(FP), Y15; \
	SHLQ $2, R8; \
	SHLQ $2, R11; \
	LEAQ (R8)(R8*2), R9; \
	LEAQ (R11)(R11*2), R12; \
	SHRQ $3, CX

// TRANS4 turns four rows of four (in each 128-bit lane of a, b, c, d) into four columns
// in Y8 to Y11, times the scale.
#define TRANS4(a, b, c, d) \
	VUNPCKLPS b, a, Y8; \
	VUNPCKHPS b, a, Y9; \
	VUNPCKLPS d, c, Y10; \
	VUNPCKHPS d, c, Y11; \
	VUNPCKLPD Y10, Y8, Y12; \
	VUNPCKHPD Y10, Y8, Y13; \
	VUNPCKLPD Y11, Y9, Y14; \
	VUNPCKHPD Y11, Y9, Y11; \
	VMULPS Y15, Y12, Y8; \
	VMULPS Y15, Y13, Y9; \
	VMULPS Y15, Y14, Y10; \
	VMULPS Y15, Y11, Y11

// func Transpose8AVX2(k int, src *float32, ld int, dst *float32, width int, scale float32)
TEXT ·Transpose8AVX2(SB), NOSPLIT, $0-44
	ARGS
	JZ done8
	LEAQ (SI)(R8*4), R10

loop8:
	VMOVUPS (SI), X0
	VINSERTF128 $1, (R10), Y0, Y0
	VMOVUPS (SI)(R8*1), X1
	VINSERTF128 $1, (R10)(R8*1), Y1, Y1
	VMOVUPS (SI)(R8*2), X2
	VINSERTF128 $1, (R10)(R8*2), Y2, Y2
	VMOVUPS (SI)(R9*1), X3
	VINSERTF128 $1, (R10)(R9*1), Y3, Y3
	VMOVUPS 16(SI), X4
	VINSERTF128 $1, 16(R10), Y4, Y4
	VMOVUPS 16(SI)(R8*1), X5
	VINSERTF128 $1, 16(R10)(R8*1), Y5, Y5
	VMOVUPS 16(SI)(R8*2), X6
	VINSERTF128 $1, 16(R10)(R8*2), Y6, Y6
	VMOVUPS 16(SI)(R9*1), X7
	VINSERTF128 $1, 16(R10)(R9*1), Y7, Y7
	TRANS4(Y0, Y1, Y2, Y3)
	VMOVUPS Y8, (DI)
	VMOVUPS Y9, (DI)(R11*1)
	VMOVUPS Y10, (DI)(R11*2)
	VMOVUPS Y11, (DI)(R12*1)
	LEAQ (DI)(R11*4), DI
	TRANS4(Y4, Y5, Y6, Y7)
	VMOVUPS Y8, (DI)
	VMOVUPS Y9, (DI)(R11*1)
	VMOVUPS Y10, (DI)(R11*2)
	VMOVUPS Y11, (DI)(R12*1)
	LEAQ (DI)(R11*4), DI
	ADDQ $32, SI
	ADDQ $32, R10
	DECQ CX
	JNZ  loop8

done8:
	VZEROUPPER
	RET

// func Transpose4AVX2(k int, src *float32, ld int, dst *float32, width int, scale float32)
TEXT ·Transpose4AVX2(SB), NOSPLIT, $0-44
	ARGS
	JZ done4

loop4:
	VMOVUPS (SI), Y0
	VMOVUPS (SI)(R8*1), Y1
	VMOVUPS (SI)(R8*2), Y2
	VMOVUPS (SI)(R9*1), Y3
	TRANS4(Y0, Y1, Y2, Y3)
	VMOVUPS X8, (DI)
	VMOVUPS X9, (DI)(R11*1)
	VMOVUPS X10, (DI)(R11*2)
	VMOVUPS X11, (DI)(R12*1)
	LEAQ (DI)(R11*4), DI
	VEXTRACTF128 $1, Y8, (DI)
	VEXTRACTF128 $1, Y9, (DI)(R11*1)
	VEXTRACTF128 $1, Y10, (DI)(R11*2)
	VEXTRACTF128 $1, Y11, (DI)(R12*1)
	LEAQ (DI)(R11*4), DI
	ADDQ $32, SI
	DECQ CX
	JNZ  loop4

done4:
	VZEROUPPER
	RET

// func Transpose2AVX2(k int, src *float32, ld int, dst *float32, width int, scale float32)
TEXT ·Transpose2AVX2(SB), NOSPLIT, $0-44
	ARGS
	JZ done2

loop2:
	VMULPS (SI), Y15, Y0
	VMULPS (SI)(R8*1), Y15, Y1
	VUNPCKLPS Y1, Y0, Y2
	VUNPCKHPS Y1, Y0, Y3
	VMOVLPS X2, (DI)
	VMOVHPS X2, (DI)(R11*1)
	VMOVLPS X3, (DI)(R11*2)
	VMOVHPS X3, (DI)(R12*1)
	LEAQ (DI)(R11*4), DI
	VEXTRACTF128 $1, Y2, X2
	VEXTRACTF128 $1, Y3, X3
	VMOVLPS X2, (DI)
	VMOVHPS X2, (DI)(R11*1)
	VMOVLPS X3, (DI)(R11*2)
	VMOVHPS X3, (DI)(R12*1)
	LEAQ (DI)(R11*4), DI
	ADDQ $32, SI
	DECQ CX
	JNZ  loop2

done2:
	VZEROUPPER
	RET

// func Copy16AVX2(k int, src *float32, ld int, dst *float32, scale float32)
TEXT ·Copy16AVX2(SB), NOSPLIT, $0-36
	MOVQ k+0(FP), CX
	MOVQ src+8(FP), SI
	MOVQ ld+16(FP), R8
	MOVQ dst+24(FP), DI
	VBROADCASTSS scale+32(FP), Y15
	SHLQ $2, R8
	TESTQ CX, CX
	JZ done16

loop16:
	VMULPS (SI), Y15, Y0
	VMULPS 32(SI), Y15, Y1
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	ADDQ R8, SI
	ADDQ $64, DI
	DECQ CX
	JNZ  loop16

done16:
	VZEROUPPER
	RET

// func Copy6AVX2(k int, src *float32, ld int, dst *float32, scale float32)
TEXT ·Copy6AVX2(SB), NOSPLIT, $0-36
	MOVQ k+0(FP), CX
	MOVQ src+8(FP), SI
	MOVQ ld+16(FP), R8
	MOVQ dst+24(FP), DI
	VBROADCASTSS scale+32(FP), X15
	SHLQ $2, R8
	TESTQ CX, CX
	JZ done6

loop6:
	VMULPS (SI), X15, X0
	VMOVSD 16(SI), X1
	VMULPS X1, X15, X1
	VMOVUPS X0, (DI)
	VMOVLPS X1, 16(DI)
	ADDQ R8, SI
	ADDQ $24, DI
	DECQ CX
	JNZ  loop6

done6:
	RET

// func Copy32AVX512(k int, src *float32, ld int, dst *float32, width int, scale float32, load, store uint32)
TEXT ·Copy32AVX512(SB), NOSPLIT, $0-52
	MOVQ k+0(FP), CX
	MOVQ src+8(FP), SI
	MOVQ ld+16(FP), R8
	MOVQ dst+24(FP), DI
	MOVQ width+32(FP), R11
	VBROADCASTSS scale+40(FP), Z15
	MOVL load+44(FP), AX
	MOVL store+48(FP), BX
	KMOVW AX, K1
	KMOVW BX, K2
	SHRL $16, AX
	SHRL $16, BX
	KMOVW AX, K3
	KMOVW BX, K4
	SHLQ $2, R8
	SHLQ $2, R11
	TESTQ CX, CX
	JZ done32
	TESTL BX, BX
	JZ loopn

loop32:
	VMOVUPS.Z (SI), K1, Z0
	VMOVUPS.Z 64(SI), K3, Z1
	VMULPS Z15, Z0, Z0
	VMULPS Z15, Z1, Z1
	VMOVUPS Z0, K2, (DI)
	VMOVUPS Z1, K4, 64(DI)
	ADDQ R8, SI
	ADDQ R11, DI
	DECQ CX
	JNZ  loop32
	JMP  done32

loopn:
	VMOVUPS.Z (SI), K1, Z0
	VMULPS Z15, Z0, Z0
	VMOVUPS Z0, K2, (DI)
	ADDQ R8, SI
	ADDQ R11, DI
	DECQ CX
	JNZ  loopn

done32:
	VZEROUPPER
	RET
