"""How far two engines may be apart that compute the same: each number with where it comes from.

The arithmetic is that of the Go package internal/bound: a float32 sum of n products, in any order, is off by up to
4*sqrt(n)*U times the root of the sum of the products' squares (its size), ten standard deviations of independent
roundings. Two engines differ by sqrt(2) of that. What stands behind an output is counted as the terms of all sums
of the network, as if one followed the other:

    small models   2 layers, hidden 64, feed-forward 160, some 30 keys: 4*64 + 2*64 + 160 + 2*(16+30), and the head:
                   1400 at the most. Logits of 1.5 in the root mean square: a size of 2.
    SmolLM2        30 layers, hidden 576, feed-forward 1536: 170 000. Logits of 7 to 13 around a mean of their own:
                   the products that make one have a size of about 5.

Attention with scores of several units passes errors on up to 4 times, exp(s) having |s| times the error of s.

What a table or a file rounds to half precision or bfloat16 is named so. What chance decides, the training of many
steps, cannot be bounded from roundings alone; see DRIFT. A factor that is room and no more is called a safety factor,
with what was measured.

What must change is asked to change by 1e-2 or 1e-3, 100 or 10 times LOGITS; where one step of a small rate is all that was
trained, by 1e-4.
"""

U = 2.0**-24  # unit roundoffs: half a step at 1, of float32,
F16 = 2.0**-11  # of half precision,
BF16 = 2.0**-8  # of bfloat16,
F64 = 2.0**-53  # of float64


def spread(n: int) -> float:
    """The relative error of n float32 roundings that do not depend on each other."""
    return 4 * n**0.5 * U


def network(terms: int, size: float) -> float:
    """The difference of an output between two engines, of so many terms and of that size."""
    return 2**0.5 * spread(terms) * size


#: Logits and features of the small models, with adapters or without: 1.0e-4. Measured: up to 1.4e-5 without
#: adapters, 6.3e-5 with (PiSSA), 7.1e-5 for gated T5, whose attention has no scale.
LOGITS = 4 * network(1400, 2)

#: The same where two stacks or a learned prefix stand behind each other, or an adapter makes a factor of the weights: each
#: hands on the errors of the one before.
TWICE = 2 * LOGITS

#: Logits of SmolLM2, 7.0e-4 without the factor for attention, whose scores training has made moderate. Measured: up to 1.8e-4,
#: with a real adapter 2.5e-4.
LARGE = network(170_000, 5)

#: Outputs of the encoders: 850 terms, as the Go tests of model/encoder count them, of a size up to 2: 2.0e-5. Measured: 4.9e-6.
ENCODED = network(850, 2)

#: Features of MiniLM: 6 layers, hidden 384, feed-forward 1536, normed at the end: 21 400 terms of a size of about 1: 4.9e-5.
#: Measured: 3.8e-6.
MINILM = network(21_400, 1)

#: The same weights, twice in the same engine: no rounding differs (measured: 0), unless the order of a sum hangs on
#: where memory lies. Room for a handful of roundings.
SAME = spread(16)

#: Elements of merged weights: W + s*B*A, sums of up to 16 terms, of numbers of up to about 1.
MERGED = spread(16)

#: Merged by several matrix products after one another (rotations, Kronecker products, norms over a row): sums of up to 160
#: terms, of which some ten are chained, of numbers of up to about 1.6: 1e-5 is spread(1600) and spread(640) * 1.6.
CHAINED = spread(1760)

#: Merged by a decomposition that PEFT does in float32 and peftkit in float64. No bound from the arithmetic: vectors answer to rounding
#: with the largest singular value over the gap to the next, which is chance. A safety factor of three over what was
#: measured, 2.9e-5 (PSOFT on all layers; PiSSA 9.5e-6).
DECOMPOSED = 3 * 2.9e-5

#: Copies of numbers that both engines compute from few terms: embeddings, means, keys and values of one layer.
COPIED = spread(16)

#: Learning rates: a few float64 operations, of up to 0.01, and their digits in JSON. Measured: 7e-19.
RATE = 8 * F64

#: A difference of float32 norms to which a GGUF adds one: w+1 lies below 4, where half a step is 2*U.
PLUS_ONE = 2 * U

#: ggml looks GELU up in a table whose arguments and values are float16: an activation is off by 2*F16 of its size. The rest as of
#: LOGITS: a size of 2, and attention: 7.8e-3. Measured: 2.6e-3.
GGML_GELU = 4 * 2 * F16 * 2

#: Of an encoder, whose GELU is by erf where ggml's is by tanh: those are up to 4.8e-4 apart, 4.1e-3 over two layers of a size of 2,
#: whose attention is moderate. Measured: 1.4e-3.
GGML_ERF = 2**0.5 * (2 * F16 + 4.8e-4) * 2

#: Weights stored as float16, and activations rounded to it by ggml: 15 products behind each other, each of two roundings of F16.
#: Measured: 5.6e-3.
GGML_F16 = 4 * F16 * (2 * 15) ** 0.5 * 2

#: Training. One step of Adam moves an element by the rate times the sign of its gradient, more or less, however small that is:
#: where it is smaller than its own error (relative to all: network(2800, 1) = 1.8e-5, forward and back), its sign is chance. The share
#: of such elements is about that number and what they are off by is twice the step, so that an update is off by the
#: root of it, 4.2e-3 of its size, in a direction that has nothing to do with the gradient.
DRIFT = network(2800, 1) ** 0.5

#: Losses of 4 to 20 steps, relative: a run changes its loss by up to a half, by a direction that is not the gradient's by
#: half as much again or less: a quarter of DRIFT, rounded down. Measured: 1.6e-5 for LoRA on a Llama.
LOSS = 1e-3

#: Of their gradients' norms, which a run may double or halve, and which bends faster than the loss: two and a half times DRIFT, rounded down. Measured
#: for LoRA on a Llama: 6.8e-5.
GRADIENT = 1e-2

#: Of methods whose gradients run through products of the parameters, twice that. Measured: 4.7e-5 for PSOFT.
GRADIENT_FAR = 2 * GRADIENT

#: Logits after them, absolute: the change is about as large as the logits (1.5), of which the largest of some thousand differences
#: is three deviations off. Measured for LoRA on a Llama: 2.3e-4.
TRAINED = DRIFT * 1.5 * 3

#: Losses, relative, of the first step or of several so small that no drift counts: a loss is off by no more than its logits (LOGITS
#: without attention's factor, 2.5e-5), over a loss of some units.
FIRST = network(1400, 2) / 2.5

#: The same over four small steps, relative: twice that.
PADDED = 2 * FIRST

#: Of their gradients' norms: forward and back, through attention, and four steps of a rate of 1e-3 on weights of about 0.1, off by
#: DRIFT: 7.4e-4. Measured: 1.7e-4 (T5 in full, whose attention has no scale). A wrong mask moves a norm by per cents.
PADDED_GRADIENT = 4 * (network(2800, 1) + DRIFT * 4 * 1e-3 / 0.1)

#: Logits of any method on any family, T5 among them: its attention has no scale and its logits no norm behind them, and
#: some methods multiply their random factors by each other. LOGITS times a safety factor of ten.
FAMILY = 10 * LOGITS

#: Factors by a truncated decomposition: the file's own limit of what it leaves out, 1e-3 of a change of weights that moves logits
#: by up to their own size.
TRUNCATED = 1e-3 * 2
