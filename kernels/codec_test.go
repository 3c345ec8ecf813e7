package kernels

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// codec is a row of the table that all storage types are tested by.
type codec struct {
	name         string
	block, bytes int
	encode       func([]byte, []float32)
	decode       func([]float32, []byte)
}

var codecs = []codec{
	{"F32", 1, 4, EncodeF32, DecodeF32},
	{"F16", 1, 2, EncodeF16, DecodeF16},
	{"BF16", 1, 2, EncodeBF16, DecodeBF16},
	{"Q8_0", 32, 34, EncodeQ8_0, DecodeQ8_0},
	{"Q4_0", 32, 18, EncodeQ4_0, DecodeQ4_0},
	{"Q4_1", 32, 20, EncodeQ4_1, DecodeQ4_1},
}

// The bytes of ggml's reference; testdata/golden.py says how they were made.
func TestCodecsMatchGGML(t *testing.T) {
	file, err := os.ReadFile("testdata/golden.bin")
	require.NoError(t, err)
	forEachTier(t, func(t *testing.T) { checkGolden(t, file) })
}

func checkGolden(t *testing.T, file []byte) {
	n := int(binary.LittleEndian.Uint32(file))
	rest := file[4:]
	x := make([]float32, 32*n)
	DecodeF32(x, rest)
	rest = rest[128*n:]
	encoded := map[string][]byte{}
	for _, c := range codecs[1:] {
		size := 32 / c.block * c.bytes
		got := make([]byte, n*size)
		c.encode(got, x)
		for b := range n {
			require.Equal(t, rest[b*size:(b+1)*size], got[b*size:(b+1)*size], "%s of block %d: %v", c.name, b, x[b*32:(b+1)*32])
		}
		encoded[c.name], rest = got, rest[n*size:]
	}
	for _, c := range codecs[3:] {
		got := make([]float32, 32*n)
		c.decode(got, encoded[c.name])
		for i, v := range got {
			want := binary.LittleEndian.Uint32(rest[4*i:])
			if v != v && math.Float32frombits(want) != math.Float32frombits(want) {
				continue // 0 times infinity: CPUs differ in the sign of that NaN
			}
			require.Equal(t, want, math.Float32bits(v), "%s element %d", c.name, i)
		}
		rest = rest[128*n:]
	}
	require.Empty(t, rest)
}

// All tiers agree to the bit on arbitrary bytes, at every length, and touch
// nothing beyond their slices.
func TestCodecTiers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	specials := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)),
		float32(math.NaN()), math.Float32frombits(0xff800001), math.MaxFloat32, math.SmallestNonzeroFloat32, 65520, 65519.996}
	for _, c := range codecs {
		for _, blocks := range append(seq(0, 40), 600) {
			n := blocks * c.block
			src := make([]byte, blocks*c.bytes)
			for i := range src {
				src[i] = byte(r.Uint32())
			}
			x := randomSlice(r, n)
			for i := range n / 20 {
				x[r.IntN(n)] = specials[i%len(specials)]
			}
			for i := range x {
				if r.IntN(8) == 0 {
					x[i] *= float32(math.Ldexp(1, r.IntN(120)-80))
				}
			}
			restore, err := Force("generic")
			require.NoError(t, err)
			wantX, wantB := make([]float32, n), make([]byte, len(src))
			c.decode(wantX, src)
			c.encode(wantB, x)
			restore()
			forEachTier(t, func(t *testing.T) {
				bt, bh := guarded[byte](t, len(src))
				xt, xh := guarded[float32](t, n)
				for _, p := range []struct {
					b []byte
					x []float32
				}{{bt, xt}, {bh, xh}} {
					copy(p.b, src)
					c.decode(p.x, p.b)
					for i, v := range p.x {
						if math.Float32bits(v) != math.Float32bits(wantX[i]) {
							t.Fatalf("%s decodes element %d to %x, the Go form to %x", c.name, i, math.Float32bits(v), math.Float32bits(wantX[i]))
						}
					}
					copy(p.x, x)
					c.encode(p.b, p.x)
					require.Equal(t, wantB, append([]byte{}, p.b...), c.name)
				}
			})
		}
	}
}

func TestHalfPrecision(t *testing.T) {
	for h := range 1 << 16 {
		h := uint16(h)
		f := F16ToF32(h)
		if f != f {
			require.Equal(t, h&0x8000|0x7e00, F32ToF16(f))
		} else {
			require.Equal(t, h, F32ToF16(f), "%#04x = %v", h, f)
		}
		b := BF16ToF32(h)
		if b != b {
			require.Equal(t, h|64, F32ToBF16(b))
		} else {
			require.Equal(t, h, F32ToBF16(b))
		}
	}
	// Ties go to the even neighbour; beyond the largest number lies infinity.
	require.Equal(t, uint16(0x3c00), F32ToF16(1+0x1p-11))
	require.Equal(t, uint16(0x3c02), F32ToF16(1+3*0x1p-11))
	require.Equal(t, uint16(0x7bff), F32ToF16(65519.996))
	require.Equal(t, uint16(0x7c00), F32ToF16(65520))
	require.Equal(t, uint16(0), F32ToF16(0x1p-25))
	require.Equal(t, uint16(1), F32ToF16(0x1.8p-25))
	require.Equal(t, uint16(0x3f80), F32ToBF16(1+0x1p-8))
	require.Equal(t, uint16(0x3f82), F32ToBF16(1+3*0x1p-8))
	require.Equal(t, uint16(0x7f80), F32ToBF16(math.MaxFloat32))
}

func TestCodecRejectsPartBlocks(t *testing.T) {
	require.Panics(t, func() { EncodeQ8_0(make([]byte, 100), make([]float32, 33)) })
	require.Panics(t, func() { DecodeQ4_0(make([]float32, 32), make([]byte, 17)) })
}

func BenchmarkCodec(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	const n = 4096
	for _, tier := range Tiers() {
		for _, c := range codecs {
			x, y := randomSlice(r, n), make([]byte, n/c.block*c.bytes)
			c.encode(y, x)
			for name, f := range map[string]func(){"encode": func() { c.encode(y, x) }, "decode": func() { c.decode(x, y) }} {
				b.Run(tier+"/"+c.name+"/"+name, func(b *testing.B) {
					restore, _ := Force(tier)
					defer restore()
					for b.Loop() {
						f()
					}
					b.ReportMetric(n*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "Gelem/s")
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// Any bytes, read as float32 and as blocks, give the same on every tier.
func FuzzCodecs(f *testing.F) {
	f.Add(make([]byte, 128))
	f.Add([]byte("\x00\x00\x80\x7f\x01\x00\x80\xff\xff\xff\x7f\x00\x00\x00\x80\x80"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := (len(data)/4 + 31) / 32 * 32
		x := make([]float32, n)
		DecodeF32(x[:len(data)/4], data)
		for _, c := range codecs {
			size := n / c.block * c.bytes
			raw := append(append([]byte(nil), data...), make([]byte, size)...)[:size]
			var wantB []byte
			var wantX []float32
			for _, tier := range Tiers() {
				restore, err := Force(tier)
				require.NoError(t, err)
				b, y := make([]byte, size), make([]float32, n)
				c.encode(b, x)
				c.decode(y, raw)
				restore()
				if wantB == nil {
					wantB, wantX = b, y
				}
				require.Equal(t, wantB, b, c.name)
				for i := range y {
					require.Equal(t, math.Float32bits(wantX[i]), math.Float32bits(y[i]), "%s element %d", c.name, i)
				}
			}
		}
	})
}
