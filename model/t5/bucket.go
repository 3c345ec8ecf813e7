package t5

import "math"

// buckets returns the bucket of each distance (key minus query): half of those
// of a side are for single distances, the others for ranges that grow with the
// logarithm up to max. With both sides each has one half of all buckets, else all
// keys that come later share bucket 0 with the query itself (Raffel et al. 2020,
// section 2.1; the float32 steps are those of transformers).
func buckets(both bool, n, max int) func(distance int) int {
	if both {
		n /= 2
	}
	exact := n / 2
	table := make([]int, max+1)
	scale := float32(math.Log(float64(max) / float64(exact)))
	for d := range table {
		if table[d] = d; d >= exact {
			log := float32(math.Log(float64(float32(d) / float32(exact))))
			table[d] = min(exact+int(log/scale*float32(n-exact)), n-1)
		}
	}
	return func(distance int) int {
		first := 0
		switch {
		case both && distance > 0:
			first = n
		case both:
			distance = -distance
		default:
			distance = -min(distance, 0)
		}
		return first + table[min(distance, max)]
	}
}
