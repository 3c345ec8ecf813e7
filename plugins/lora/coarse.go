package lora

import (
	"encoding/binary"
	"math"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

// The quantisations of bitsandbytes that PEFT's LoftQ takes. Both are kept in
// memory as they are: 36 bytes hold 64 weights of four bits or 32 of eight.

// nf4 are the values of NormalFloat4 (Dettmers et al. 2023, arXiv 2305.14314), the
// table of bitsandbytes.
var nf4 = [16]float32{
	-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
	0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
}

// nf4Bounds lie between the values.
var nf4Bounds = func() (b [15]float32) {
	for i := range b {
		b[i] = (nf4[i] + nf4[i+1]) / 2
	}
	return b
}()

const nf4Block = 64

// encodeNF4 quantises up to 64 weights: the largest magnitude, then two codes to a
// byte, the first in the low half.
func encodeNF4(dst []byte, src []float32) {
	most := float32(0)
	for _, v := range src {
		most = max(most, float32(math.Abs(float64(v))))
	}
	binary.LittleEndian.PutUint32(dst, math.Float32bits(most))
	least := max(most, 1e-38)
	inverse := 1 / least
	clear(dst[4:])
	for i, v := range src {
		x := v * inverse
		if len(src) < nf4Block { // bitsandbytes divides in the last, incomplete block
			x = v / least
		}
		code := byte(0)
		for code < 15 && x > nf4Bounds[code] {
			code++
		}
		dst[4+i/2] |= code << (4 * (i % 2))
	}
}

// decodeNF4 is the inverse for any number of blocks, the last one may be
// incomplete.
func decodeNF4(dst []float32, src []byte) {
	for ; len(dst) > 0; src = src[4+nf4Block/2:] {
		most := math.Float32frombits(binary.LittleEndian.Uint32(src))
		var table [16]float32
		for i, v := range nf4 {
			table[i] = v * most
		}
		n := min(nf4Block, len(dst))
		for i, b := range src[4 : 4+(n+1)/2] {
			dst[2*i] = table[b&15]
			if 2*i+1 < n {
				dst[2*i+1] = table[b>>4]
			}
		}
		dst = dst[n:]
	}
}

const int8Block = 32

// encodeInt8 quantises a row, after rounding it to half precision: blocks of the
// row's largest magnitude and a byte for each weight.
func encodeInt8(dst []byte, src []float32) {
	half := make([]byte, 2*len(src))
	tensor.F16.Encode(half, src)
	row := make([]float32, len(src))
	tensor.F16.Decode(row, half)
	most := float32(0)
	for _, v := range row {
		most = max(most, float32(math.Abs(float64(v))))
	}
	scale := float32(0)
	if most > 0 {
		scale = 1 / most // PyTorch divides a number by a tensor in two steps
		scale *= 127
	}
	for len(row) > 0 {
		binary.LittleEndian.PutUint32(dst, math.Float32bits(most))
		n := min(int8Block, len(row))
		for i, v := range row[:n] {
			dst[4+i] = byte(int8(math.RoundToEven(float64(v * scale))))
		}
		row, dst = row[n:], dst[4+int8Block:]
	}
}

// decodeInt8 is the inverse; the last block may be incomplete.
func decodeInt8(dst []float32, src []byte) {
	for ; len(dst) > 0; src = src[4+int8Block:] {
		most := math.Float32frombits(binary.LittleEndian.Uint32(src))
		n := min(int8Block, len(dst))
		for i, b := range src[4 : 4+n] {
			dst[i] = float32(int8(b)) * most * 7.874015718698502e-3
		}
		dst = dst[n:]
	}
}

// coarse is a quantised matrix.
type coarse struct {
	bits, rows, cols int
	data             []byte
}

func blocks(n, of int) int { return (n + of - 1) / of }

// quantised quantises m. The blocks of four bits run over the whole matrix, across
// the ends of rows, as in bitsandbytes.
func quantised(m kernels.Mat, bits int) *coarse {
	q := &coarse{bits: bits, rows: m.Rows, cols: m.Cols}
	if bits == 8 {
		size := blocks(m.Cols, int8Block) * (4 + int8Block)
		q.data = make([]byte, m.Rows*size)
		kernels.Parallel(m.Rows, 16, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				encodeInt8(q.data[r*size:(r+1)*size], m.Row(r))
			}
		})
		return q
	}
	flat := m.Data[:m.Rows*m.Cols]
	n := blocks(len(flat), nf4Block)
	q.data = make([]byte, n*(4+nf4Block/2))
	kernels.Parallel(n, 256, func(lo, hi int) {
		for b := lo; b < hi; b++ {
			encodeNF4(q.data[b*36:(b+1)*36], flat[b*nf4Block:min((b+1)*nf4Block, len(flat))])
		}
	})
	return q
}

// mat decodes the matrix.
func (q *coarse) mat() kernels.Mat {
	m := kernels.NewMat(q.rows, q.cols)
	if q.bits == 8 {
		size := len(q.data) / q.rows
		for r := range q.rows {
			decodeInt8(m.Row(r), q.data[r*size:])
		}
		return m
	}
	decodeNF4(m.Data, q.data)
	return m
}

// weight is the matrix as the frozen weight of a layer: as it is where the blocks
// fit its rows, else in float32.
func (q *coarse) weight() *kernels.Weight {
	w := &kernels.Weight{Data: q.data, Rows: q.rows, Cols: q.cols, RowBytes: len(q.data) / q.rows, BlockBytes: 36, Block: nf4Block, Decode: decodeNF4}
	if q.bits == 8 {
		w.Block, w.Decode = int8Block, decodeInt8
	}
	if q.cols%w.Block == 0 {
		return w
	}
	m := q.mat()
	w.Data = make([]byte, 4*len(m.Data))
	tensor.F32.Encode(w.Data, m.Data)
	w.RowBytes, w.Block, w.BlockBytes, w.Decode, w.Float32 = 4*q.cols, 1, 4, tensor.F32.Decode, true
	return w
}
