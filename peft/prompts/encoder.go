package prompts

import (
	"math"
	"math/rand/v2"

	"github.com/peftkit/peftkit/nn"
)

// Saved is the name of the tensor that every method of this kind saves.
const Saved = "prompt_embeddings"

// Encoder computes prompt_embeddings from what is trained.
type Encoder interface {
	// Params lists what is trained.
	Params() []*nn.Param
	// Init draws the parameters of a fresh adapter.
	Init(rng *rand.Rand)
	// Forward returns prompt_embeddings, [rows, columns].
	Forward(t *nn.Tape) *nn.Var
}

// Direct is the encoder that computes nothing: the embeddings are trained.
type Direct struct{ P *nn.Param }

// NewDirect declares the embeddings.
func NewDirect(rows, cols int) *Direct { return &Direct{nn.NewParam(Saved, rows, cols)} }

// Params implements Encoder.
func (d *Direct) Params() []*nn.Param { return []*nn.Param{d.P} }

// Init implements Encoder, with torch.nn.Embedding's N(0, 1).
func (d *Direct) Init(rng *rand.Rand) { Normal(rng, d.P.V.Data, 1) }

// Forward implements Encoder.
func (d *Direct) Forward(*nn.Tape) *nn.Var { return d.P.V }

// EncoderPrefix stands before the names of an encoder's parameters in checkpoints
// and in files that carry them so that training can go on.
const EncoderPrefix = "prompt_encoder."

// Embedding is the table that an encoder begins with.
type Embedding struct{ P *nn.Param }

// NewEmbedding declares a table.
func NewEmbedding(rows, cols int) *Embedding {
	return &Embedding{nn.NewParam(EncoderPrefix+"embedding.weight", rows, cols)}
}

// Init draws N(0, 1).
func (e *Embedding) Init(rng *rand.Rand) { Normal(rng, e.P.V.Data, 1) }

// Linear is a trained linear layer with a bias, as torch.nn.Linear.
type Linear struct{ W, B *nn.Param }

// NewLinear declares a layer; name is its path below the encoder: "mlp_head.0".
func NewLinear(name string, out, in int) *Linear {
	return &Linear{nn.NewParam(EncoderPrefix+name+".weight", out, in), nn.NewParam(EncoderPrefix+name+".bias", out)}
}

// Params lists weight and bias.
func (l *Linear) Params() []*nn.Param { return []*nn.Param{l.W, l.B} }

// Init draws both as torch.nn.Linear does, uniformly within 1/sqrt(in).
func (l *Linear) Init(rng *rand.Rand) {
	bound := 1 / math.Sqrt(float64(l.W.V.Cols))
	Uniform(rng, l.W.V.Data, bound)
	Uniform(rng, l.B.V.Data, bound)
}

// Forward returns x·Wᵀ + b.
func (l *Linear) Forward(t *nn.Tape, x *nn.Var) *nn.Var {
	return nn.AddRow(t, nn.MatMulT(t, x, l.W.V), l.B.V)
}

// Normal fills v with N(0, sigma²).
func Normal(rng *rand.Rand, v []float32, sigma float64) {
	for i := range v {
		v[i] = float32(sigma * rng.NormFloat64())
	}
}

// Uniform fills v with uniform numbers between -bound and bound.
func Uniform(rng *rand.Rand, v []float32, bound float64) {
	for i := range v {
		v[i] = float32(bound * (2*rng.Float64() - 1))
	}
}
