package data

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Plan says how the examples of a data set are gathered into micro-batches.
type Plan struct {
	// BatchSize is the number of sequences in a micro-batch.
	BatchSize int
	// Pack fills each sequence with whole examples up to MaxTokens, by best fit
	// decreasing. Examples that share a sequence do not see each other: each has
	// its own positions and attention. Nothing is ever padded, with or without it.
	// Tasks other than causal language modelling do not pack.
	Pack      bool
	MaxTokens int // ignored without Pack
	// Shuffle changes the order, and the packs, from epoch to epoch.
	Shuffle bool
	Seed    uint64
}

// Epoch returns the micro-batches of one epoch, each a list of indices into
// Examples. Every example is in exactly one. The number of micro-batches is the
// same in every epoch, and the same plan gives the same result.
func (d *Dataset) Epoch(p Plan, epoch int) ([][]int, error) {
	if p.BatchSize < 1 {
		return nil, fmt.Errorf("batch size %d: expected at least 1", p.BatchSize)
	}
	order := make([]int, len(d.Examples))
	for i := range order {
		order[i] = i
	}
	rng := rand.New(rand.NewPCG(p.Seed, uint64(epoch)))
	if p.Shuffle {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	var seqs [][]int
	if p.Pack && d.Causal() {
		if p.MaxTokens < 1 {
			return nil, fmt.Errorf("packing to %d tokens: expected at least 1; set a maximum sequence length", p.MaxTokens)
		}
		seqs = packBestFit(order, func(i int) int { return len(d.Examples[i].Tokens) }, p.MaxTokens)
		if p.Shuffle {
			rng.Shuffle(len(seqs), func(i, j int) { seqs[i], seqs[j] = seqs[j], seqs[i] })
		}
	} else {
		for _, i := range order {
			seqs = append(seqs, []int{i})
		}
	}
	var out [][]int
	for b := range slices.Chunk(seqs, p.BatchSize) {
		out = append(out, slices.Concat(b...))
	}
	return out, nil
}

// packBestFit puts items into bins of a capacity: the longest first, each into
// the bin with the least room that still takes it (best fit decreasing). An item
// longer than the capacity has a bin of its own. Items of equal length keep
// their order, and without a shuffle the bins are sorted by their first item.
func packBestFit(order []int, length func(int) int, capacity int) [][]int {
	sorted := slices.Clone(order)
	slices.SortStableFunc(sorted, func(a, b int) int { return length(b) - length(a) })
	place := make(map[int]int, len(order))
	for at, i := range order {
		place[i] = at
	}
	var bins [][]int
	byRoom := make([][]int, capacity+1) // bins with so much room left, latest last
	open := make([]uint64, capacity/64+1)
	for _, i := range sorted {
		n := length(i)
		room := -1
		if n <= capacity {
			room = firstSet(open, n)
		}
		bin := len(bins)
		if room < 0 {
			bins = append(bins, nil)
			room = max(capacity, n)
		} else {
			list := byRoom[room]
			bin = list[len(list)-1]
			if byRoom[room] = list[:len(list)-1]; len(list) == 1 {
				open[room/64] &^= 1 << (room % 64)
			}
		}
		bins[bin] = append(bins[bin], i)
		room -= n
		if room > 0 {
			byRoom[room] = append(byRoom[room], bin)
			open[room/64] |= 1 << (room % 64)
		}
	}
	for _, b := range bins {
		slices.SortFunc(b, func(x, y int) int { return place[x] - place[y] })
	}
	slices.SortFunc(bins, func(x, y []int) int { return place[x[0]] - place[y[0]] })
	return bins
}

// firstSet returns the lowest set bit that is not below from, -1 for none.
func firstSet(set []uint64, from int) int {
	for w := from / 64; w < len(set); w++ {
		v := set[w]
		if w == from/64 {
			v &= ^uint64(0) << (from % 64)
		}
		if v != 0 {
			return w*64 + bits.TrailingZeros64(v)
		}
	}
	return -1
}
