// Package generate lets a model continue a prompt, greedily or by sampling, with
// a key-value cache, and scores answers by exact match.
package generate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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
	// Stop lists the tokens that end the text; they are not part of it.
	Stop []int32
	// Chunk is the number of prompt tokens computed at once, 256 when 0.
	Chunk int
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

// Tokens continues a prompt. emit, when not nil, gets each token as it is
// written; its error ends the text. A cancelled context returns what was written
// so far beside the context's error.
func Tokens(ctx context.Context, m *model.Model, prompt []int32, o Options, emit func(id int32) error) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := checkPrompt(m, prompt); err != nil {
		return nil, err
	}
	room := m.MaxPositions - len(prompt)
	if o.MaxTokens == 0 || o.MaxTokens > room {
		o.MaxTokens = room
	}
	r := &Result{StopToken: -1, PromptTokens: len(prompt)}
	// The cache grows by doubling: the limit may be far beyond what is written.
	w := &writer{m: m, tape: nn.NewTape(), cache: m.NewCache(len(prompt) + min(o.MaxTokens, 256))}
	defer w.tape.Close()
	begin := time.Now()
	logits, err := w.read(ctx, prompt, o.Chunk)
	if err != nil {
		return r, err
	}
	r.PromptTime = time.Since(begin)
	begin = time.Now()
	s := newSampler(o)
	for len(r.Tokens) < o.MaxTokens {
		id := s.next(logits)
		if id < 0 {
			return r, fmt.Errorf("token %d: the model's logits are not numbers", len(r.Tokens)+1)
		}
		if slices.Contains(o.Stop, id) {
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
		if len(r.Tokens) == o.MaxTokens {
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

func checkPrompt(m *model.Model, prompt []int32) error {
	if len(prompt) == 0 {
		return fmt.Errorf("%w: it has no tokens, and the model's tokenizer adds none", ErrPrompt)
	}
	if len(prompt) >= m.MaxPositions {
		return fmt.Errorf("%w: it has %d tokens, the model takes %d with what it writes", ErrPrompt, len(prompt), m.MaxPositions)
	}
	for i, id := range prompt {
		if id < 0 || int(id) >= m.VocabSize {
			return fmt.Errorf("%w: token %d is %d, the vocabulary has %d", ErrPrompt, i+1, id, m.VocabSize)
		}
	}
	return nil
}

// writer holds the state of one growing sequence. n counts its tokens: the cache
// also holds rows that a method has put before them.
type writer struct {
	m     *model.Model
	tape  *nn.Tape
	cache *model.Cache
	n     int
}

// read computes the prompt in chunks and returns the logits after its last token.
func (w *writer) read(ctx context.Context, prompt []int32, chunk int) ([]float32, error) {
	if chunk < 1 {
		chunk = 256
	}
	for len(prompt) > chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := model.Sequence(prompt[:chunk], w.n)
		b.Cache = w.cache
		w.tape.Reset()
		w.m.Hidden(w.tape, b)
		w.n += chunk
		prompt = prompt[chunk:]
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.step(prompt), nil
}

// step appends tokens to the sequence and returns the logits after the last one.
func (w *writer) step(tokens []int32) []float32 {
	if w.cache.Room(len(tokens)) != nil {
		w.cache.Grow(min(w.m.MaxPositions, 2*(w.cache.Len()+len(tokens))))
	}
	b := model.Sequence(tokens, w.n)
	b.Cache = w.cache
	w.tape.Reset()
	w.n += len(tokens)
	return w.m.Logits(w.tape, b, []int32{int32(len(tokens) - 1)}).Mat().Row(0)
}

// Text continues a prompt and decodes what is written. emit, when not nil, gets
// the text in pieces of whole characters.
func Text(ctx context.Context, m *model.Model, tok *tokenizer.Tokenizer, prompt []int32, o Options, emit func(piece string) error) (string, *Result, error) {
	d := tok.NewDecoder()
	for _, id := range prompt {
		d.Push(id) // the first token of a text may lose a space; ours is not the first
	}
	d.Flush()
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

// rng returns the generator of a seed.
func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x67656e)) }
