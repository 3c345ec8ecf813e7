package generate

import (
	"context"
	"fmt"
	"time"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Texts are written in groups: of at most groupTexts, whose prompts have about
// groupTokens tokens together, whose logits are at most groupLogits and whose
// keys and values of the prompts at most groupCache numbers.
const (
	groupTexts  = 256
	groupTokens = 8192
	groupLogits = 16 << 20
	groupCache  = 64 << 20
)

// Batch continues many prompts as [Tokens] continues each: many at once with one
// forward pass per token of all, which is much faster where single rows do not
// fill the processor. Sampling gives each text the seed of its place: Seed, Seed
// + 1 and so on. The results are in the order of the prompts; a cancelled context
// returns the context's error alone.
func Batch(ctx context.Context, m *model.Model, prompts [][]int32, o Options) ([]*Result, error) {
	p, err := newPlan(m, o)
	if err != nil {
		return nil, err
	}
	for i, prompt := range prompts {
		if err := p.check(prompt); err != nil {
			return nil, fmt.Errorf("prompt %d: %w", i+1, err)
		}
	}
	if !p.seq2seq {
		return oneByOne(ctx, m, prompts, o)
	}
	p.limit(0)
	var out []*Result
	perToken := 2 * m.Layers * m.KVSize
	for len(out) < len(prompts) {
		first, tokens := len(out), 0
		last := first
		for ; last < len(prompts); last++ {
			n := last - first
			tokens += len(prompts[last])
			if n > 0 && (n >= groupTexts || tokens > groupTokens || tokens*perToken > groupCache || (n+1)*m.VocabSize > groupLogits) {
				break
			}
		}
		g := &group{plan: p, tape: nn.NewTape()}
		results, err := g.write(ctx, prompts[first:last], first)
		g.tape.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, results...)
	}
	return out, nil
}

// oneByOne is for models whose prompts are long beside what they write.
func oneByOne(ctx context.Context, m *model.Model, prompts [][]int32, o Options) ([]*Result, error) {
	var out []*Result
	for i, prompt := range prompts {
		each := o
		each.Seed += uint64(i)
		r, err := Tokens(ctx, m, prompt, each, nil)
		if err != nil {
			return nil, fmt.Errorf("prompt %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// group is a number of texts that grow together.
type group struct {
	*plan
	tape *nn.Tape
}

// text is one that is not finished.
type text struct {
	r    *Result
	s    *sampler
	last int32
}

// write reads the prompts and writes a text for each; the first prompt is number
// first of all.
func (g *group) write(ctx context.Context, prompts [][]int32, first int) ([]*Result, error) {
	source := &model.Batch{}
	results := make([]*Result, len(prompts))
	active := make([]text, len(prompts))
	for i, prompt := range prompts {
		g.add(source, prompt, 0)
		results[i] = &Result{StopToken: -1, PromptTokens: len(prompt)}
		o := g.o
		o.Seed += uint64(first + i)
		active[i] = text{r: results[i], s: newSampler(o), last: g.m.Start}
	}
	if g.o.MaxTokens == 0 {
		return results, nil
	}
	cache := g.m.NewBatchCache(len(prompts), 1+min(g.o.MaxTokens, 32))
	begin := time.Now()
	for pos := 0; len(active) > 0; pos++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := &model.Batch{Cache: cache}
		if pos == 0 {
			b.Source = source
		}
		for _, t := range active {
			g.add(b, []int32{t.last}, pos)
		}
		g.tape.Reset()
		logits := g.m.Logits(g.tape, b, nil).Mat()
		now := time.Since(begin)
		if pos == 0 {
			begin = time.Now()
		}
		var keep []int
		for i := range active {
			t := &active[i]
			if pos == 0 {
				t.r.PromptTime = now
			} else {
				t.r.Time = now
			}
			id := g.pick(t.s, logits.Row(i), len(t.r.Tokens))
			switch {
			case id < 0:
				return nil, fmt.Errorf("prompt %d, token %d: the model's logits are not numbers", first+i+1, len(t.r.Tokens)+1)
			case g.stops(id):
				t.r.StopToken = id
				continue
			}
			t.r.Tokens = append(t.r.Tokens, id)
			if t.last = id; len(t.r.Tokens) < g.o.MaxTokens {
				keep = append(keep, i)
			}
		}
		if len(keep) == len(active) {
			continue
		}
		cache.Keep(keep)
		for i, k := range keep {
			active[i] = active[k]
		}
		active = active[:len(keep)]
	}
	return results, nil
}

// add lays a sequence behind those of a batch.
func (g *group) add(b *model.Batch, tokens []int32, pos int) {
	b.Seqs = append(b.Seqs, nn.Span{Start: len(b.Tokens), End: len(b.Tokens) + len(tokens)})
	b.Tokens = append(b.Tokens, tokens...)
	for i := range tokens {
		b.Pos = append(b.Pos, int32(pos+i))
	}
	if g.o.Task != 0 {
		b.Tasks = append(b.Tasks, g.o.Task)
	}
}
