package supertuning

import "math"

// A file without indices pairs its values with the places that torch.topk gives, in
// its order. Among equal numbers, of which weights in 16 bits have many, order and
// choice come from the way it sorts: the partial sort, the selection and the sort of
// GNU's C++ library, whose steps are followed here.

// entry is a number to sort, smaller keys first, and its place.
type entry struct{ key, at int32 }

// topk returns the places of the k numbers of the largest or smallest magnitude, as
// torch.topk of the absolute values does on a CPU. NaN counts as the largest.
func topk(v []float32, k int, largest bool) []int32 {
	var q []entry
	if 64*k <= len(v) {
		q = partialSort(v, k, largest)
	} else {
		q = make([]entry, len(v))
		for i, x := range v {
			q[i] = entry{key(x, largest), int32(i)}
		}
		nthElement(q, k-1)
		sort(q[:k-1])
	}
	out := make([]int32, k)
	for i := range out {
		out[i] = q[i].at
	}
	return out
}

// key orders magnitudes: the bits of positive floats are ordered as they are.
func key(x float32, largest bool) int32 {
	b := int32(math.Float32bits(x) &^ (1 << 31))
	if x != x {
		b = 0x7fc00000 // one NaN is as large as any other
	}
	if largest {
		return -b
	}
	return b
}

// partialSort returns the first k entries in order. The rest need not be kept: a
// heap of k entries meets the numbers one by one.
func partialSort(v []float32, k int, largest bool) []entry {
	q := make([]entry, k)
	for i := range q {
		q[i] = entry{key(v[i], largest), int32(i)}
	}
	makeHeap(q)
	for i := k; i < len(v); i++ {
		if x := key(v[i], largest); x < q[0].key {
			sift(q, 0, entry{x, int32(i)})
		}
	}
	sortHeap(q)
	return q
}

// sift puts x into a heap whose entry at hole is free: the hole goes down to the
// bottom along the larger children, and x climbs from there.
func sift(q []entry, hole int, x entry) {
	top := hole
	for {
		child := 2*hole + 2
		if child > len(q) {
			break
		}
		if child == len(q) || q[child].key < q[child-1].key {
			child--
		}
		q[hole] = q[child]
		hole = child
	}
	for hole > top {
		up := (hole - 1) / 2
		if q[up].key >= x.key {
			break
		}
		q[hole] = q[up]
		hole = up
	}
	q[hole] = x
}

func makeHeap(q []entry) {
	for i := len(q)/2 - 1; i >= 0; i-- {
		sift(q, i, q[i])
	}
}

func sortHeap(q []entry) {
	for n := len(q) - 1; n > 0; n-- {
		x := q[n]
		q[n] = q[0]
		sift(q[:n], 0, x)
	}
}

// heapSelect makes the first k entries a heap of the k first ones.
func heapSelect(q []entry, k int) {
	makeHeap(q[:k])
	for i := k; i < len(q); i++ {
		if x := q[i]; x.key < q[0].key {
			q[i] = q[0]
			sift(q[:k], 0, x)
		}
	}
}

// depth is how often a range may be split before a heap takes over.
func depth(n int) int {
	d := 0
	for ; n > 1; n >>= 1 {
		d += 2
	}
	return d
}

// nthElement moves entries until the one at n is where sorting would put it, none
// before it is larger and none after it smaller.
func nthElement(q []entry, n int) {
	for left := depth(len(q)); len(q) > 3; left-- {
		if left == 0 {
			heapSelect(q, n+1)
			q[0], q[n] = q[n], q[0]
			return
		}
		if cut := partition(q); cut <= n {
			q, n = q[cut:], n-cut
		} else {
			q = q[:cut]
		}
	}
	insertionSort(q)
}

// small is the length of ranges that are left to an insertion sort.
const small = 16

func sort(q []entry) {
	quickSort(q, depth(len(q)))
	insertionSort(q[:min(small, len(q))])
	for i := small; i < len(q); i++ {
		insert(q, i)
	}
}

func quickSort(q []entry, left int) {
	for ; len(q) > small; left-- {
		if left == 0 {
			makeHeap(q)
			sortHeap(q)
			return
		}
		cut := partition(q)
		quickSort(q[cut:], left-1)
		q = q[:cut]
	}
}

// partition splits q by the median of its second, middle and last entry, which goes
// to the front, and returns where the second part begins.
func partition(q []entry) int {
	medianFirst(q, 1, len(q)/2, len(q)-1)
	pivot := q[0].key
	lo, hi := 1, len(q)
	for {
		for q[lo].key < pivot {
			lo++
		}
		for hi--; pivot < q[hi].key; {
			hi--
		}
		if lo >= hi {
			return lo
		}
		q[lo], q[hi] = q[hi], q[lo]
		lo++
	}
}

func medianFirst(q []entry, a, b, c int) {
	m := a
	switch {
	case q[a].key < q[b].key && q[b].key < q[c].key:
		m = b
	case q[a].key < q[b].key && q[a].key < q[c].key:
		m = c
	case q[a].key < q[b].key, q[a].key < q[c].key:
	case q[b].key < q[c].key:
		m = c
	default:
		m = b
	}
	q[0], q[m] = q[m], q[0]
}

// insertionSort is a stable sort.
func insertionSort(q []entry) {
	for i := 1; i < len(q); i++ {
		insert(q, i)
	}
}

// insert moves entry i before those that are larger.
func insert(q []entry, i int) {
	x := q[i]
	for ; i > 0 && x.key < q[i-1].key; i-- {
		q[i] = q[i-1]
	}
	q[i] = x
}
