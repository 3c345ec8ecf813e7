package train

import (
	"context"
	"runtime"

	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Footprint is about what a run will hold at its peak, in bytes.
type Footprint struct {
	// Model is the mapped file, of which every page is read.
	Model int64
	// Adapter are the trained parameters with their gradients and two moments.
	Adapter int64
	// Activations of the largest micro-batch, the logits of a chunk of its rows and
	// what a validation needs beside them.
	Activations int64
	// Rest is the program: its code, tokenizer and data set, packed panels, and what
	// the garbage collector lets lie.
	Rest int64
}

// Total is the sum of all parts.
func (f Footprint) Total() int64 { return f.Model + f.Adapter + f.Activations + f.Rest }

// Private is the part that no file backs: it must find room in RAM.
func (f Footprint) Private() int64 { return f.Total() - f.Model }

const (
	probeTokens = 16  // of a short sequence that stands for longer ones
	probeWhole  = 128 // up to so many tokens a micro-batch is tried as it is
	// codeBytes of the program are mapped beside the model.
	codeBytes = 12 << 20
	// packBytes is about what the workers of a product hold each, packAtOnce the most
	// that is packed of its left operand.
	packBytes, packAtOnce = 2 << 20, 16 << 20
)

// Footprint estimates the memory of the run. What a method keeps for its backward
// pass no formula knows, so a few short texts go through the network forward and
// backward, and what they took is continued to the largest micro-batch: everything
// but the logits grows with the number of tokens, texts or both. It costs about as
// much as a hundred tokens of training, and leaves no trace in the numbers of the
// run. collect, a percentage as in [runtime/debug.SetGCPercent], is how much of the heap may lie
// about as garbage.
func (t *Trainer) Footprint(ctx context.Context, collect int) (Footprint, error) {
	var f Footprint
	for _, e := range t.Model.Entries {
		f.Model += int64(len(e.T.Data))
	}
	for _, p := range t.Adapter.Params() {
		f.Adapter += 16 * int64(len(p.V.Data))
	}
	largest, err := t.largest()
	if err != nil {
		return f, err
	}
	p := &prober{t: t, tape: nn.NewTape()}
	defer p.tape.Close()
	defer t.Opt.ZeroGrad() // the gradients of the probes
	activations, err := p.activations(ctx, largest)
	if err != nil {
		return f, err
	}
	f.Activations = activations
	if t.Config.Valid != nil {
		f.Activations += p.validation(t.Config.Valid)
	}
	f.Rest = t.rest(&f, p, largest, collect)
	return f, nil
}

// largest returns the micro-batch with the most tokens among those of the first
// epochs, as far as the run comes.
func (t *Trainer) largest() ([]int, error) {
	const epochs = 3
	var out []int
	most := -1
	for left, epoch := t.Total, 0; left > 0 && epoch < epochs; left, epoch = left-t.PerEpoch, epoch+1 {
		batches, err := t.Data.Epoch(t.plan, epoch)
		if err != nil {
			return nil, err
		}
		for _, b := range batches[:min(len(batches), left*t.Config.GradAccum)] {
			if n := t.rows(b); n > most {
				most, out = n, b
			}
		}
	}
	return out, nil
}

// rows counts the tokens of examples and the rows that methods put before each.
func (t *Trainer) rows(examples []int) int {
	n := len(examples) * t.Model.Reserved()
	for _, i := range examples {
		ex := &t.Data.Examples[i]
		n += len(ex.Tokens) + len(ex.Source)
	}
	return n
}

// prober sends batches through a network to see what they take.
type prober struct {
	t    *Trainer
	tape *nn.Tape
	// garbage is what the last probe left on the heap for each of its rows.
	garbage float64
}

// use is the memory of one probe: what is kept between the forward and the backward
// pass, and the most that the backward pass holds.
type use struct{ kept, backward float64 }

func (p *prober) run(ctx context.Context, b *model.Batch) (use, error) {
	if err := ctx.Err(); err != nil {
		return use{}, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.tape.Reset()
	p.tape.Trial = true
	p.tape.Train, p.tape.BaseDropout, p.tape.Seed = true, p.t.Config.BaseDropout, p.t.Config.Seed
	p.t.Model.Loss(p.tape, b, 1)
	kept := p.tape.Memory().InUse
	p.tape.ResetPeak()
	p.tape.Backward()
	u := use{float64(kept), float64(p.tape.Memory().Peak)}
	runtime.ReadMemStats(&after)
	p.garbage = float64(after.TotalAlloc-before.TotalAlloc) / float64(max(1, len(b.Tokens)))
	return u, nil
}

// activations estimates the arena of a micro-batch.
func (p *prober) activations(ctx context.Context, examples []int) (int64, error) {
	t := p.t
	full := t.Data.BatchFor(t.Model, examples)
	var u use
	var err error
	switch {
	case t.rows(examples) <= probeWhole || len(examples) == 1 && !t.Data.Causal():
		u, err = p.run(ctx, full)
	case t.Data.Causal():
		u, err = p.texts(ctx, full)
	default:
		u, err = p.share(ctx, examples)
	}
	if err != nil {
		return 0, err
	}
	logits := 0.0
	if h := t.Model.Head; h != nil && t.Data.Task != model.SequenceClassification {
		labels, _ := t.labels(full)
		logits = 4 * float64(nn.HeadRows(labels, h.W.Out)) * float64(h.W.Out)
	}
	return int64(max(u.kept+logits, u.backward)), nil
}

// texts continues three batches of short texts to a batch of a language model: one
// text, one text of thrice the length, three texts.
func (p *prober) texts(ctx context.Context, full *model.Batch) (use, error) {
	const n, times = probeTokens, 3
	batch := func(texts, length int) *model.Batch {
		var d data.Dataset
		var all []int
		for i := range texts {
			tokens := make([]int32, length)
			for j := range tokens {
				tokens[j] = full.Tokens[j%len(full.Tokens)]
			}
			ex := data.Example{Tokens: tokens, Labels: tokens, TrainFirst: full.First != nil}
			if i < len(full.Tasks) {
				ex.Task = full.Tasks[i]
			}
			d.Examples, all = append(d.Examples, ex), append(all, i)
		}
		return d.BatchFor(p.t.Model, all)
	}
	var uses [3]use
	var rows [3]float64
	for i, b := range []*model.Batch{batch(1, n), batch(1, times*n), batch(times, n)} {
		u, err := p.run(ctx, b)
		if err != nil {
			return u, err
		}
		uses[i], rows[i] = u, float64(len(b.Tokens))
	}
	line := func(of func(use) float64) float64 {
		one, long, many := of(uses[0]), of(uses[1]), of(uses[2])
		token := (long - one) / (rows[1] - rows[0])
		text := (many - one - token*(rows[2]-rows[0])) / (times - 1)
		return one + token*(float64(len(full.Tokens))-rows[0]) + max(0, text)*float64(len(full.Seqs)-1)
	}
	return use{line(func(u use) float64 { return u.kept }), line(func(u use) float64 { return u.backward })}, nil
}

// share continues an eighth and a quarter of the examples of a micro-batch to all:
// how their lengths go together stays about the same.
func (p *prober) share(ctx context.Context, examples []int) (use, error) {
	few := examples[:max(1, len(examples)/8)]
	more := examples[:max(len(few)+1, len(examples)/4)]
	a, err := p.run(ctx, p.t.Data.BatchFor(p.t.Model, few))
	if err != nil {
		return a, err
	}
	b, err := p.run(ctx, p.t.Data.BatchFor(p.t.Model, more))
	if err != nil {
		return b, err
	}
	x := float64(p.t.rows(examples)-p.t.rows(few)) / float64(p.t.rows(more)-p.t.rows(few))
	return use{a.kept + x*(b.kept-a.kept), a.backward + x*(b.backward-a.backward)}, nil
}

// validation estimates what an evaluation holds while the memory of the training
// step waits: hidden states of one group of examples, and logits.
func (p *prober) validation(ds *data.Dataset) int64 {
	var tokens, first int
	for i := range ds.Examples {
		if n := len(ds.Examples[i].Tokens) + len(ds.Examples[i].Source); tokens == 0 || tokens+n <= evalTokens {
			tokens += n
			if i == 0 {
				first = n
			}
		}
	}
	if len(ds.Examples) == 0 || first == 0 {
		return 0
	}
	tape := nn.NewTape()
	defer tape.Close()
	tape.Trial = true
	p.t.Model.Labelled(tape, ds.BatchFor(p.t.Model, []int{0}))
	states := tape.Memory().Peak * int64(tokens) / int64(first)
	logits := int64(0)
	if h := p.t.Model.Head; h != nil && ds.Task != model.SequenceClassification {
		logits = 4 * int64(min(evalLogits, tokens*h.W.Out))
	}
	return max(states, logits)
}

// rest estimates everything else from what the process holds now.
func (t *Trainer) rest(f *Footprint, p *prober, largest []int, collect int) int64 {
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	// Panels of the left operand of a product are packed at once.
	rows, widest, largestWeight := int64(t.rows(largest)), int64(0), int64(0)
	for _, m := range t.Model.Modules {
		if m.Linear != nil && !m.Output {
			in, out := int64(m.Linear.W.In), int64(m.Linear.W.Out)
			widest, largestWeight = max(widest, in, out), max(largestWeight, 4*in*out)
		}
	}
	left := 4 * rows * widest
	packed := min(left, packAtOnce) + int64(kernels.Threads())*min(packBytes, max(left, largestWeight))
	live := int64(ms.HeapAlloc) + packed
	// Garbage lies about until the collector runs: a share of the heap, or all that
	// the run makes. Memory that loading has left behind is used first.
	garbage := min(live*int64(max(0, collect))/100, int64(p.garbage*float64(rows)*float64(t.Total*t.Config.GradAccum)))
	heap := max(live+garbage, int64(ms.HeapSys-ms.HeapReleased))
	code, other := int64(codeBytes), int64(ms.Sys-ms.HeapSys)
	if use := MemoryUse(); use.Private > 0 {
		code = max(use.Resident-use.Private-f.Model, code)
		other = max(0, min(other, use.Private-int64(ms.HeapSys-ms.HeapReleased))) // what of it was touched
	}
	return max(0, heap-f.Adapter) + code + other
}
