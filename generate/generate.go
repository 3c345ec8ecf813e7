// Package generate lets a model continue a prompt, greedily or by sampling, with
// a key-value cache, and scores answers by exact match.
package generate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tokenizer"
)

// ErrPrompt is wrapped by errors about a prompt that the model cannot take.
var ErrPrompt = errors.New("the prompt does not fit")

// ErrOptions is wrapped by errors about options that make no sense.
var ErrOptions = errors.New("invalid generation option")

// Options says how to continue a prompt. The zero value is greedy and goes on
// until a token of Stop or the end of the model's positions.
type Options struct {
	// MaxTokens is the most tokens to write, 0 for as many as there are positions.
	MaxTokens int
	// Temperature divides the logits before sampling; 0 takes the likeliest token.
	Temperature float64
	// TopP samples among the likeliest tokens that together have this
	// probability (nucleus sampling, Holtzman et al. 2020); 0 and 1 mean all.
	TopP float64
	// TopK samples among so many likeliest tokens; 0 means all.
	TopK int
	// Seed decides the samples.
	Seed uint64
	// Stop lists the tokens that end the text; they are not part of it. An
	// encoder-decoder model's end of text (eos_token_id) need not be among them.
	Stop []int32
	// Task numbers the task, for methods that know several.
	Task int32
	// Chunk is the number of prompt tokens computed at once, 256 when 0.
	Chunk int

	tasks []int32 // of each prompt of Batch, instead of Task
}

func (o *Options) check() error {
	switch {
	case o.MaxTokens < 0:
		return fmt.Errorf("%w: %d tokens; expected 0 or more", ErrOptions, o.MaxTokens)
	case !(o.Temperature >= 0):
		return fmt.Errorf("%w: temperature %g; expected 0 or more", ErrOptions, o.Temperature)
	case !(o.TopP >= 0 && o.TopP <= 1):
		return fmt.Errorf("%w: top-p %g; expected 0 to 1", ErrOptions, o.TopP)
	case o.TopK < 0:
		return fmt.Errorf("%w: top-k %d; expected 0 or more", ErrOptions, o.TopK)
	}
	return nil
}

// Result is what was written and how fast.
type Result struct {
	// Tokens written, without the prompt and the stop token.
	Tokens []int32
	// StopToken ended the text; -1 when the limit did.
	StopToken int32
	// PromptTokens is the length of the prompt.
	PromptTokens int
	// PromptTime went into the prompt, Time into the tokens after the first,
	// which comes out of the prompt.
	PromptTime, Time time.Duration
}

// TokensPerSecond returns the speed of writing, 0 when there was too little.
func (r *Result) TokensPerSecond() float64 {
	n := len(r.Tokens)
	if r.StopToken >= 0 {
		n++
	}
	if n < 2 || r.Time <= 0 {
		return 0
	}
	return float64(n-1) / r.Time.Seconds()
}

// PromptTokensPerSecond returns the speed of reading the prompt.
func (r *Result) PromptTokensPerSecond() float64 {
	if r.PromptTime <= 0 {
		return 0
	}
	return float64(r.PromptTokens) / r.PromptTime.Seconds()
}

// Tokens continues a prompt; an encoder-decoder model reads the prompt with its
// encoder and writes from its start token on. emit, when not nil, gets each token
// as it is written; its error ends the text. A cancelled context returns what was
// written so far beside the context's error.
func Tokens(ctx context.Context, m *model.Model, prompt []int32, o Options, emit func(id int32) error) (*Result, error) {
	p, err := newPlan(m, o)
	if err != nil {
		return nil, err
	}
	if err := p.check(prompt); err != nil {
		return nil, err
	}
	p.limit(len(prompt))
	r := &Result{StopToken: -1, PromptTokens: len(prompt)}
	// The cache grows by doubling: the limit may be far beyond what is written.
	w := &writer{plan: p, tape: nn.NewTape(), cache: m.NewCache(p.begin(len(prompt)) + min(p.o.MaxTokens, 256))}
	defer w.tape.Close()
	begin := time.Now()
	logits, err := w.read(ctx, prompt)
	if err != nil {
		return r, err
	}
	r.PromptTime = time.Since(begin)
	begin = time.Now()
	s := newSampler(p.o)
	for len(r.Tokens) < p.o.MaxTokens {
		id := p.pick(s, logits, len(r.Tokens), p.o.MaxTokens)
		if id < 0 {
			return r, fmt.Errorf("token %d: the model's logits are not numbers", len(r.Tokens)+1)
		}
		if p.stops(id) {
			r.StopToken = id
			break
		}
		r.Tokens = append(r.Tokens, id)
		r.Time = time.Since(begin)
		if emit != nil {
			if err := emit(id); err != nil {
				return r, err
			}
		}
		if len(r.Tokens) == p.o.MaxTokens {
			break
		}
		if err := ctx.Err(); err != nil {
			return r, err
		}
		logits = w.step([]int32{id})
	}
	r.Time = time.Since(begin)
	return r, nil
}

// writer holds the state of one growing sequence.
type writer struct {
	*plan
	tape  *nn.Tape
	cache *model.Cache
	// pos counts the tokens in the cache, which also holds rows that methods have
	// put before them.
	pos    int
	source *model.Batch // for an encoder that has not run yet
}

// read computes the prompt in chunks and returns the logits after its last
// token; of an encoder-decoder model those after the start token.
func (w *writer) read(ctx context.Context, prompt []int32) ([]float32, error) {
	if w.seq2seq {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.source = w.batch(prompt, 0)
		return w.step([]int32{w.m.Start}), nil
	}
	chunk := w.o.Chunk
	if chunk < 1 {
		chunk = 256
	}
	for len(prompt) > chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.tape.Reset()
		w.m.Run(w.tape, w.next(prompt[:chunk]))
		prompt = prompt[chunk:]
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.step(prompt), nil
}

// next returns the batch of the tokens that follow.
func (w *writer) next(tokens []int32) *model.Batch {
	b := w.batch(tokens, w.pos)
	b.Cache, b.Source = w.cache, w.source
	w.pos += len(tokens)
	w.source = nil
	return b
}

// step appends tokens to the sequence and returns the logits after the last one.
func (w *writer) step(tokens []int32) []float32 {
	w.tape.Reset()
	return w.m.Logits(w.tape, w.next(tokens), []int32{int32(len(tokens) - 1)}).Mat().Row(0)
}

// Text continues a prompt and decodes what is written. emit, when not nil, gets
// the text in pieces of whole characters.
func Text(ctx context.Context, m *model.Model, tok *tokenizer.Tokenizer, prompt []int32, o Options, emit func(piece string) error) (string, *Result, error) {
	var d *tokenizer.StreamDecoder
	if m.EncoderDecoder() {
		d = tok.Target().NewDecoder()
	} else {
		d = behind(tok, prompt)
	}
	var text strings.Builder
	write := func(piece string) error {
		text.WriteString(piece)
		if emit == nil || piece == "" {
			return nil
		}
		return emit(piece)
	}
	r, err := Tokens(ctx, m, prompt, o, func(id int32) error { return write(d.Push(id)) })
	if e := write(d.Flush()); err == nil {
		err = e
	}
	return text.String(), r, err
}

// behind returns a decoder of what stands behind a prompt: the first token of a
// text may lose a space; one behind a prompt is not the first.
func behind(tok *tokenizer.Tokenizer, prompt []int32) *tokenizer.StreamDecoder {
	d := tok.NewDecoder()
	for _, id := range prompt {
		d.Push(id)
	}
	d.Flush()
	return d
}

// rng returns the generator of a seed.
func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x67656e)) }
