package nn

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/tensor"
)

// block is a decoder layer of the Llama family with LoRA on all its linears, as
// the model package builds it.
type testBlock struct {
	norm1, norm2                    *NormLayer
	q, k, v, o, gate, up, down      *LinearLayer
	heads, kvHeads, headDim, hidden int
	params                          []*Param
}

type testShape struct{ hidden, ffn, heads, kvHeads, headDim, rank int }

var smolLM2 = testShape{576, 1536, 9, 3, 64, 16}

func newTestBlock(s testShape, d *tensor.DType, dropout float32) *testBlock {
	b := &testBlock{heads: s.heads, kvHeads: s.kvHeads, headDim: s.headDim, hidden: s.hidden}
	ones := make([]float32, s.hidden)
	for i := range ones {
		ones[i] = 1
	}
	b.norm1 = &NormLayer{W: VectorWeight("norm1", ones), Eps: 1e-5}
	b.norm2 = &NormLayer{W: VectorWeight("norm2", ones), Eps: 1e-5}
	lin := func(out, in int) *LinearLayer {
		data := sin32(out*in, 0.77)
		for i := range data {
			data[i] *= 0.05
		}
		w, _ := frozenWeight(d, out, in, data)
		l := &LinearLayer{W: w}
		if s.rank > 0 {
			pa, pb := NewParam("A", s.rank, in), NewParam("B", out, s.rank)
			copy(pa.V.Data, data)
			for i := range pb.V.Data {
				pb.V.Data[i] = data[i] * 0.3
			}
			b.params = append(b.params, pa, pb)
			l.AddLowRank(func(t *Tape, x *Var) LowRank {
				return LowRank{X: Dropout(t, x, dropout), A: pa.V, B: pb.V, Scale: 2}
			})
		}
		return l
	}
	b.q, b.k, b.v = lin(s.heads*s.headDim, s.hidden), lin(s.kvHeads*s.headDim, s.hidden), lin(s.kvHeads*s.headDim, s.hidden)
	b.o = lin(s.hidden, s.heads*s.headDim)
	b.gate, b.up, b.down = lin(s.ffn, s.hidden), lin(s.ffn, s.hidden), lin(s.hidden, s.ffn)
	return b
}

func frozenWeight(d *tensor.DType, rows, cols int, data []float32) (*Weight, error) {
	size, _ := d.Size(int64(rows * cols))
	b := make([]byte, size)
	d.Encode(b, data)
	kw, err := (&tensor.Tensor{Name: "w", Type: d, Shape: []int{rows, cols}, Data: b}).Weight()
	return &Weight{Name: "w", Out: rows, In: cols, Frozen: kw}, err
}

func (b *testBlock) forward(t *Tape, x *Var, pos []int32, table *RoPETable, seqs []Span) *Var {
	h := b.norm1.Forward(t, x)
	q, k, v := b.q.Forward(t, h), b.k.Forward(t, h), b.v.Forward(t, h)
	t.Discard(h)
	RoPE(t, q, b.headDim, pos, table)
	RoPE(t, k, b.headDim, pos, table)
	a := Attention(t, q, k, v, AttnSpec{Heads: b.heads, KVHeads: b.kvHeads, HeadDim: b.headDim,
		Scale: 0.125, Causal: true, Seqs: seqs})
	for _, d := range []*Var{q, k, v} {
		t.Discard(d)
	}
	o := b.o.Forward(t, a)
	t.Discard(a)
	mid := Add(t, x, o)
	t.Discard(x)
	h = b.norm2.Forward(t, mid)
	g, u := b.gate.Forward(t, h), b.up.Forward(t, h)
	t.Discard(h)
	act := SwiGLU(t, g, u)
	t.Discard(g)
	t.Discard(u)
	down := b.down.Forward(t, act)
	t.Discard(act)
	out := Add(t, mid, down)
	t.Discard(mid)
	return out
}

func packed(seqs, length int) (spans []Span, pos []int32) {
	for s := range seqs {
		spans = append(spans, Span{s * length, (s + 1) * length})
		for p := range length {
			pos = append(pos, int32(p))
		}
	}
	return
}

func ropeOf(headDim int) *RoPETable {
	return NewRoPETable(sin32(headDim/2, 0.01), 1)
}

// step runs forward and backward through the blocks and a head.
func step(tape *Tape, blocks []*testBlock, emb *Weight, head *LinearLayer, ids []int32, pos []int32, table *RoPETable, spans []Span) float64 {
	tape.Reset()
	x := Embed(tape, emb, ids, -1)
	for _, b := range blocks {
		x = b.forward(tape, x, pos, table, spans)
	}
	sum, _ := CrossEntropy(tape, x, head, ids, 1)
	tape.Discard(x)
	if tape.Train {
		tape.Backward()
	}
	return sum
}

func TestStepThreadsAndMemory(t *testing.T) {
	defer kernels.SetThreads(0)
	shape := testShape{hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 16, rank: 4}
	const vocab, layers = 50, 3
	for _, dropout := range []float32{0, 0.2} {
		var blocks []*testBlock
		for range layers {
			blocks = append(blocks, newTestBlock(shape, tensor.Q8_0, dropout))
		}
		emb, err := frozenWeight(tensor.Q8_0, vocab, shape.hidden, sin32(vocab*shape.hidden, 0.3))
		require.NoError(t, err)
		head := &LinearLayer{W: emb}
		spans, pos := packed(3, 70)
		ids := make([]int32, len(pos))
		for i := range ids {
			ids[i] = int32(i*i) % vocab
		}
		table := ropeOf(shape.headDim)
		tape := NewTape()
		tape.mem.poison = true
		tape.Train = true
		var want [][]float32
		var wantLoss float64
		var first MemoryStats
		for n, threads := range []int{1, 2, 3, 8, 2, 2} {
			kernels.SetThreads(threads)
			for _, b := range blocks {
				for _, p := range b.params {
					p.ZeroGrad()
				}
			}
			loss := step(tape, blocks, emb, head, ids, pos, table, spans)
			require.False(t, loss != loss, "poison in the loss")
			// A repeated forward pass without training sees no dropout but the same memory.
			var grads [][]float32
			for _, b := range blocks {
				for _, p := range b.params {
					grads = append(grads, append([]float32(nil), p.V.Grad...))
				}
			}
			if n == 0 {
				want, wantLoss, first = grads, loss, tape.Memory()
				continue
			}
			require.Equal(t, wantLoss, loss)
			for i := range want {
				requireBits(t, want[i], grads[i], "parameter %d on %d threads", i, threads)
			}
			require.Equal(t, first.Peak, tape.Memory().Peak, "a step takes as much as the first")
			require.Equal(t, first.Mapped, tape.Memory().Mapped)
		}
		require.LessOrEqual(t, tape.Memory().InUse, int64(4*len(ids)*shape.hidden*2), "everything is freed but the embedding")
		tape.Close()
	}
}

// TestStepMemory holds the number of floats that a token of a layer keeps for
// the backward pass to what is needed: inputs of the two norms, q, k, v,
// attention output, gate, up, the rank vectors, log-sum-exp and the norms' scales.
func TestStepMemory(t *testing.T) {
	shape := testShape{hidden: 64, ffn: 160, heads: 4, kvHeads: 2, headDim: 16, rank: 4}
	spans, pos := packed(2, 64)
	ids := make([]int32, len(pos))
	emb, err := frozenWeight(tensor.Q8_0, 40, shape.hidden, sin32(40*shape.hidden, 0.3))
	require.NoError(t, err)
	table := ropeOf(shape.headDim)
	measure := func(layers int) int64 {
		var blocks []*testBlock
		for range layers {
			blocks = append(blocks, newTestBlock(shape, tensor.Q8_0, 0.1))
		}
		tape := NewTape()
		defer tape.Close()
		tape.Train = true
		step(tape, blocks, emb, &LinearLayer{W: emb}, ids, pos, table, spans)
		return tape.Memory().Peak
	}
	perTokenLayer := float64(measure(12)-measure(6)) / 6 / 4 / float64(len(ids))
	kv := shape.kvHeads * shape.headDim
	want := float64(2*shape.hidden + 2*shape.hidden + 2*kv + 2*shape.ffn + 7*shape.rank + shape.heads + 2)
	require.InDelta(t, want, perTokenLayer, 2)
}

// TestStepSizes: steps of all sizes share the memory of the largest.
func TestStepSizes(t *testing.T) {
	shape := testShape{hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 16, rank: 4}
	var blocks []*testBlock
	for range 8 {
		blocks = append(blocks, newTestBlock(shape, tensor.Q8_0, 0.1))
	}
	emb, err := frozenWeight(tensor.Q8_0, 50, shape.hidden, sin32(50*shape.hidden, 0.3))
	require.NoError(t, err)
	table := ropeOf(shape.headDim)
	tape := NewTape()
	defer tape.Close()
	tape.Train = true
	run := func(seqs, length int) {
		spans, pos := packed(seqs, length)
		step(tape, blocks, emb, &LinearLayer{W: emb}, make([]int32, len(pos)), pos, table, spans)
	}
	run(5, 203)
	want := tape.Memory()
	require.Less(t, want.Mapped, want.Peak+want.Peak/2+4*chunkSize)
	for _, s := range [][2]int{{1, 1}, {3, 70}, {1, 999}, {7, 33}, {5, 203}} {
		run(s[0], s[1])
		require.Equal(t, want, func() MemoryStats { m := tape.Memory(); m.InUse = want.InUse; return m }())
	}
}

// TestStepAllocations: in steady state a step allocates no large memory.
func TestStepAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled memory at random")
	}
	shape := testShape{hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 16, rank: 4}
	blocks := []*testBlock{newTestBlock(shape, tensor.Q8_0, 0.1), newTestBlock(shape, tensor.Q8_0, 0.1)}
	emb, err := frozenWeight(tensor.Q8_0, 50, shape.hidden, sin32(50*shape.hidden, 0.3))
	require.NoError(t, err)
	spans, pos := packed(4, 256)
	ids := make([]int32, len(pos))
	table := ropeOf(shape.headDim)
	tape := NewTape()
	defer tape.Close()
	tape.Train = true
	run := func() { step(tape, blocks, emb, &LinearLayer{W: emb}, ids, pos, table, spans) }
	run()
	run()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 4
	for range n {
		run()
	}
	runtime.ReadMemStats(&after)
	perStep := int64(after.TotalAlloc-before.TotalAlloc) / n
	require.Less(t, perStep, tape.Memory().Peak/10, "bytes on the Go heap per step")
}

func BenchmarkLayer(b *testing.B) {
	for _, c := range []struct{ seqs, length int }{{4, 256}, {1, 1024}} {
		for _, d := range []*tensor.DType{tensor.F32, tensor.Q8_0} {
			spans, pos := packed(c.seqs, c.length)
			table := ropeOf(smolLM2.headDim)
			x := &Var{Rows: len(pos), Cols: smolLM2.hidden, Data: sin32(len(pos)*smolLM2.hidden, 1), Needs: true}
			blk := newTestBlock(smolLM2, d, 0)
			for _, train := range []bool{false, true} {
				b.Run(fmt.Sprintf("%dx%d/%s/train=%v", c.seqs, c.length, d, train), func(b *testing.B) {
					tape := NewTape()
					defer tape.Close()
					tape.Train = train
					b.ReportAllocs()
					for b.Loop() {
						tape.Reset()
						y := blk.forward(tape, x, pos, table, spans)
						if train {
							g, _ := tape.Grad(y)
							copy(g.Data, x.Data)
							tape.Backward()
						}
					}
					b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1e3, "ms/layer")
				})
			}
		}
	}
}

// BenchmarkStep trains LoRA of rank 16 on all linears of a model of the shape of
// SmolLM2-135M with 4 sequences of 256 tokens, all labelled.
func BenchmarkStep(b *testing.B) {
	const layers, vocab = 30, 49152
	var blocks []*testBlock
	blk := newTestBlock(smolLM2, tensor.Q8_0, 0)
	for range layers {
		c := newTestBlock(testShape{smolLM2.hidden, 1, smolLM2.heads, smolLM2.kvHeads, smolLM2.headDim, 0}, tensor.F32, 0)
		// Weights are shared between the layers, adapters are not.
		for i, l := range []struct{ to, from **LinearLayer }{{&c.q, &blk.q}, {&c.k, &blk.k}, {&c.v, &blk.v},
			{&c.o, &blk.o}, {&c.gate, &blk.gate}, {&c.up, &blk.up}, {&c.down, &blk.down}} {
			*l.to = &LinearLayer{W: (*l.from).W}
			pa, pb := NewParam("A", smolLM2.rank, (*l.from).W.In), NewParam("B", (*l.from).W.Out, smolLM2.rank)
			copy(pa.V.Data, blk.params[2*i].V.Data)
			c.params = append(c.params, pa, pb)
			(*l.to).AddLowRank(func(*Tape, *Var) LowRank { return LowRank{A: pa.V, B: pb.V, Scale: 2} })
		}
		blocks = append(blocks, c)
	}
	data := sin32(vocab*smolLM2.hidden, 0.3)
	for i := range data {
		data[i] *= 0.03
	}
	emb, err := frozenWeight(tensor.Q8_0, vocab, smolLM2.hidden, data)
	require.NoError(b, err)
	spans, pos := packed(4, 256)
	ids := make([]int32, len(pos))
	for i := range ids {
		ids[i] = int32(i * 7919 % vocab)
	}
	table := ropeOf(smolLM2.headDim)
	tape := NewTape()
	defer tape.Close()
	tape.Train = true
	for b.Loop() {
		step(tape, blocks, emb, &LinearLayer{W: emb}, ids, pos, table, spans)
	}
	b.ReportMetric(float64(len(ids)*b.N)/b.Elapsed().Seconds(), "tok/s")
	b.ReportMetric(float64(tape.Memory().Peak)/1e6, "MB")
}

func BenchmarkAttention(b *testing.B) {
	for _, c := range []struct{ seqs, length int }{{4, 256}, {1, 1024}, {1, 4096}} {
		spans, pos := packed(c.seqs, c.length)
		n := len(pos)
		mk := func(cols int, step float64) *Var {
			return &Var{Rows: n, Cols: cols, Data: sin32(n*cols, step), Needs: true}
		}
		q, k, v := mk(576, 0.37), mk(192, 0.73), mk(192, 1.31)
		s := AttnSpec{Heads: 9, KVHeads: 3, HeadDim: 64, Scale: 0.125, Causal: true, Seqs: spans}
		pairs := 0.0
		for _, sp := range spans {
			l := float64(sp.End - sp.Start)
			pairs += l * (l + 1) / 2
		}
		for _, train := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dx%d/train=%v", c.seqs, c.length, train), func(b *testing.B) {
				tape := NewTape()
				defer tape.Close()
				tape.Train = train
				for b.Loop() {
					tape.Reset()
					y := Attention(tape, q, k, v, s)
					if train {
						g, _ := tape.Grad(y)
						copy(g.Data, q.Data)
						tape.Backward()
					}
				}
				flops := pairs * 9 * 64 * 4
				if train {
					flops *= 3.5
				}
				b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GF/s")
			})
		}
	}
}

func BenchmarkCrossEntropy(b *testing.B) {
	const rows, dim, vocab = 1024, 576, 49152
	data := sin32(vocab*dim, 0.77)
	for i := range data {
		data[i] *= 0.05
	}
	for _, d := range []*tensor.DType{tensor.F32, tensor.Q8_0} {
		w, err := frozenWeight(d, vocab, dim, data)
		require.NoError(b, err)
		h := &Var{Rows: rows, Cols: dim, Data: sin32(rows*dim, 1.3), Needs: true}
		labels := make([]int32, rows)
		for _, train := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/train=%v", d, train), func(b *testing.B) {
				tape := NewTape()
				defer tape.Close()
				tape.Train = train
				for b.Loop() {
					tape.Reset()
					CrossEntropy(tape, h, &LinearLayer{W: w}, labels, 1)
					tape.Backward()
				}
				b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/op")
			})
		}
	}
}
