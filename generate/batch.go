package generate

import (
	"context"
	"fmt"
	"time"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// Texts are written in groups: of at most groupTexts, whose prompts have about
// groupTokens tokens together (promptTokens where the stack that writes also
// reads them), whose logits are at most groupLogits and whose keys and values of
// the prompts about groupCache numbers.
const (
	groupTexts   = 256
	groupTokens  = 8192
	promptTokens = 2048
	groupLogits  = 16 << 20
	groupCache   = 64 << 20
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
	limits := groupLimits{texts: groupTexts, tokens: groupTokens}
	if !p.seq2seq {
		limits.tokens = promptTokens
	}
	limits.texts = max(1, min(limits.texts, groupLogits/m.VocabSize))
	limits.tokens = min(limits.tokens, groupCache/max(1, 2*m.Layers*m.KVSize))
	var out []*Result
	for first := 0; first < len(prompts); {
		last, tokens, longest := first, 0, 0
		for ; last < len(prompts) && last-first < limits.texts; last++ {
			tokens += len(prompts[last])
			longest = max(longest, p.begin(len(prompts[last])))
			// All places of the cache have the length of the longest.
			if last > first && (tokens > limits.tokens || longest*(last-first+1) > 2*limits.tokens) {
				break
			}
		}
		g := &group{plan: p, tape: nn.NewTape()}
		results, err := g.write(ctx, prompts[first:last], first)
		g.tape.Close()
		if err != nil {
			return nil, err
		}
		out, first = append(out, results...), last
	}
	return out, nil
}

type groupLimits struct{ texts, tokens int }

// group is a number of texts that grow together.
type group struct {
	*plan
	tape *nn.Tape
}

// text is one that is not finished.
type text struct {
	r     *Result
	s     *sampler
	limit int     // of tokens
	next  []int32 // what is read next: the prompt or the start token, then the last token
	pos   int     // of the first of them
	task  int32
}

// write reads the prompts and writes a text for each; the first prompt is number
// first of all.
func (g *group) write(ctx context.Context, prompts [][]int32, first int) ([]*Result, error) {
	results := make([]*Result, len(prompts))
	active := make([]text, len(prompts))
	var source *model.Batch
	if g.seq2seq {
		source = &model.Batch{}
	}
	rows := 0
	for i, prompt := range prompts {
		results[i] = &Result{StopToken: -1, PromptTokens: len(prompt)}
		p := *g.plan
		p.o.Seed += uint64(first + i)
		p.limit(len(prompt))
		active[i] = text{r: results[i], s: newSampler(p.o), limit: p.o.MaxTokens, next: prompt, task: p.o.Task}
		if g.o.tasks != nil {
			active[i].task = g.o.tasks[first+i]
		}
		if g.seq2seq {
			g.add(source, prompt, 0, active[i].task)
			active[i].next = []int32{g.m.Start}
		}
		rows = max(rows, len(active[i].next))
	}
	cache := g.m.NewBatchCache(len(prompts), rows+min(g.o.MaxTokens, 32))
	begin := time.Now()
	for step := 0; len(active) > 0; step++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := &model.Batch{Cache: cache, Source: source}
		source = nil
		var last []int32 // the row that tells the next token of each
		for i := range active {
			t := &active[i]
			g.add(b, t.next, t.pos, t.task)
			t.pos += len(t.next)
			last = append(last, int32(len(b.Tokens)-1))
		}
		g.tape.Reset()
		logits := g.m.Logits(g.tape, b, last).Mat()
		now := time.Since(begin)
		if step == 0 {
			begin = time.Now()
		}
		var keep []int
		for i := range active {
			t := &active[i]
			if step == 0 {
				t.r.PromptTime = now
			} else {
				t.r.Time = now
			}
			if len(t.r.Tokens) == t.limit {
				continue
			}
			id := g.pick(t.s, logits.Row(i), len(t.r.Tokens), t.limit)
			switch {
			case id < 0:
				return nil, fmt.Errorf("prompt %d, token %d: the model's logits are not numbers", first+i+1, len(t.r.Tokens)+1)
			case g.stops(id):
				t.r.StopToken = id
				continue
			}
			t.r.Tokens = append(t.r.Tokens, id)
			if t.next = []int32{id}; len(t.r.Tokens) < t.limit {
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
func (g *group) add(b *model.Batch, tokens []int32, pos int, task int32) {
	b.Seqs = append(b.Seqs, nn.Span{Start: len(b.Tokens), End: len(b.Tokens) + len(tokens)})
	b.Tokens = append(b.Tokens, tokens...)
	for i := range tokens {
		b.Pos = append(b.Pos, int32(pos+i))
	}
	if g.o.Task != 0 || g.o.tasks != nil {
		b.Tasks = append(b.Tasks, task)
	}
}
