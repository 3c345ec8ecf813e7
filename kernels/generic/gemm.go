package generic

// Gemm4x4 is the micro-kernel: c[i*ldc+j] = (or +=, if add) the sum over p < k
// of a[p*4+i]*b[p*4+j], i and j below 4.
func Gemm4x4(k int, a, b, c []float32, ldc int, add bool) {
	a, b = a[:4*k], b[:4*k]
	var s [4][4]float32
	// Two rows at a time keep all sums in registers.
	for i := 0; i < 4; i += 2 {
		var s00, s01, s02, s03, s10, s11, s12, s13 float32
		for p := 0; p+4 <= len(a) && p+4 <= len(b); p += 4 {
			x, y := a[p:p+4:p+4], b[p:p+4:p+4]
			a0, a1 := x[i], x[i+1]
			s00 += a0 * y[0]
			s01 += a0 * y[1]
			s02 += a0 * y[2]
			s03 += a0 * y[3]
			s10 += a1 * y[0]
			s11 += a1 * y[1]
			s12 += a1 * y[2]
			s13 += a1 * y[3]
		}
		s[i] = [4]float32{s00, s01, s02, s03}
		s[i+1] = [4]float32{s10, s11, s12, s13}
	}
	for i := range s {
		row := c[i*ldc : i*ldc+4]
		for j, v := range s[i] {
			if add {
				v += row[j]
			}
			row[j] = v
		}
	}
}
