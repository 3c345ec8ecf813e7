package lora

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/internal/linalg"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/tuner"
)

// start is the product that PiSSA and OLoRA take out of the base weight when they
// begin. The weight itself is left alone: the layer adds -s B A as a second,
// constant low-rank term, which costs no copy of the weight.
type start struct{ a, b *nn.Var }

func (s *start) term(scale float32) nn.LowRank {
	return nn.LowRank{A: s.a, B: s.b, Scale: -scale}
}

func constant(v []float32, rows int) *nn.Var {
	return &nn.Var{Rows: rows, Cols: len(v) / rows, Data: append([]float32(nil), v...)}
}

// begin sets A and B of a fresh adapter. Embeddings begin as PEFT's whatever the
// initialisation, A zero and B standard normal, but for MiCA.
func (s *site) begin(rng *rand.Rand) error {
	if err := s.Check(); err != nil {
		return err
	}
	kaiming := func(p *nn.Param) {
		tuner.Uniform(p.V.Data, 1/math.Sqrt(float64(p.V.Cols)), rng.Float64)
	}
	isEmbedding := s.at.Mod.Embedding != nil
	switch kind := s.cfg.initKind; {
	case kind == initMiCA:
		return s.minor()
	case isEmbedding:
		tuner.Normal(s.b.V.Data, 1, rng.NormFloat64)
		if kind == initRandom {
			tuner.Normal(s.a.V.Data, 1, rng.NormFloat64)
		}
	case s.cfg.changesBase():
		return s.decompose()
	case s.fitted:
		return nil
	case kind == initOrthogonal:
		return s.orthogonal(rng)
	case kind == initGaussian:
		tuner.Normal(s.a.V.Data, 1/float64(s.a.V.Rows), rng.NormFloat64)
	default: // EVA sets A when it has seen data
		kaiming(s.a)
		if kind == initRandom {
			kaiming(s.b)
			if s.bias != nil {
				tuner.Uniform(s.bias.V.Data, 1/math.Sqrt(float64(s.rank)), rng.Float64)
			}
		}
	}
	return nil
}

// Check implements tuner.Checker: it refuses what the initialisation cannot begin.
func (s *site) Check() error {
	kind, most := s.cfg.initKind, min(s.at.In, s.at.Out)
	isEmbedding := s.at.Mod.Embedding != nil
	takes := !isEmbedding && (s.cfg.changesBase() || kind == initLoftQ)
	switch {
	case takes && s.scale <= 0:
		return fmt.Errorf("init_lora_weights %s divides by the scale, which is %g: lora_alpha must be positive: %w", kind, s.scale, peft.ErrConfig)
	case (takes || kind == initMiCA) && s.rank > most:
		return fmt.Errorf("init_lora_weights %s: rank %d exceeds that of a weight [%d,%d]: %w", kind, s.rank, s.at.Out, s.at.In, peft.ErrConfig)
	case !isEmbedding && kind == initOrthogonal && s.rank%2 != 0:
		return fmt.Errorf("init_lora_weights orthogonal wants an even rank, and that of this module is %d: %w", s.rank, peft.ErrConfig)
	case s.cfg.FrozenA && s.rank > s.at.In:
		return fmt.Errorf("lora_fa: the rank %d exceeds the %d inputs: %w", s.rank, s.at.In, peft.ErrConfig)
	}
	return nil
}

// decompose computes PiSSA's or OLoRA's first A and B of the base weight, and
// remembers them: they are what the base lost. Both are deterministic, so a saved
// adapter's are found again.
func (s *site) decompose() error {
	if err := s.Check(); err != nil {
		return err
	}
	w := s.at.Weight()
	if s.cfg.initKind == initOLoRA {
		q, r := linalg.LeadingQR(w.Data, w.Rows, w.Cols, s.rank)
		copy(s.a.V.Data, r)
		copy(s.b.V.Data, q)
	} else {
		u, sigma, vt, err := s.principal(w)
		if err != nil {
			return err
		}
		s.split(u, sigma, vt, s.scale)
	}
	s.start = &start{constant(s.a.V.Data, s.rank), constant(s.b.V.Data, s.at.Out)}
	return nil
}

// principal returns the first singular triplets of w. pissa_niter_k computes them
// by k power iterations, which is fast and near enough: the layer takes out exactly
// what they are. Residual files want the exact ones, which are found again.
func (s *site) principal(w kernels.Mat) (u, sigma, vt []float32, err error) {
	_, count, fast := strings.Cut(s.cfg.initKind, "_niter_")
	if !fast || s.cfg.Residual {
		return exact(w, s.rank)
	}
	iterations, err := strconv.Atoi(count)
	if err != nil {
		return nil, nil, nil, err
	}
	return powers(w, s.rank, iterations)
}

func exact(w kernels.Mat, rank int) (u, sigma, vt []float32, err error) {
	return linalg.TruncatedSVD(w.Data, w.Rows, w.Cols, rank)
}

// powers returns nearly the first singular triplets of w, by power iterations from
// a fixed start.
func powers(w kernels.Mat, rank, iterations int) (u, sigma, vt []float32, err error) {
	n := min(rank+8, w.Rows, w.Cols)
	x, y, small := kernels.NewMat(w.Cols, n), kernels.NewMat(w.Rows, n), kernels.NewMat(n, w.Cols)
	tuner.Normal(x.Data, 1, rand.New(rand.NewPCG(0x9155a, 0)).NormFloat64)
	for i := range iterations + 1 {
		if i > 0 {
			kernels.Gemm(x, false, kernels.Term{A: w, TransA: true, B: y})
			x.Data, _ = linalg.QR(x.Data, x.Rows, n)
		}
		kernels.Gemm(y, false, kernels.Term{A: w, B: x})
		y.Data, _ = linalg.QR(y.Data, y.Rows, n)
	}
	kernels.Gemm(small, false, kernels.Term{A: y, TransA: true, B: w})
	q, sigma, vt, err := linalg.SVD(small.Data, n, w.Cols)
	if err != nil {
		return nil, nil, nil, err
	}
	whole := kernels.NewMat(w.Rows, n)
	kernels.Gemm(whole, false, kernels.Term{A: y, B: kernels.MatOf(q, n, n)})
	for o := range w.Rows {
		u = append(u, whole.Row(o)[:rank]...)
	}
	return u, sigma, vt, nil
}

// split makes A and B of singular triplets so that scale times B A is their
// product; each factor gets the root of the values.
func (s *site) split(u, sigma, vt []float32, scale float32) {
	for k, v := range sigma[:s.rank] {
		root := float32(math.Sqrt(float64(v / scale)))
		row := s.a.V.Data[k*s.at.In : (k+1)*s.at.In]
		for i := range row {
			row[i] = root * vt[k*s.at.In+i]
		}
		for o := range s.at.Out {
			s.b.V.Data[o*s.rank+k] = root * u[o*s.rank+k]
		}
	}
}

// orthogonal begins with A and B whose rows and columns come from the two halves
// of one orthogonal matrix, so that B A is zero but neither factor is.
func (s *site) orthogonal(rng *rand.Rand) error {
	r := s.rank
	normal := func(n int) []float32 {
		v := make([]float32, n)
		tuner.Normal(v, 1, rng.NormFloat64)
		return v
	}
	q, _ := linalg.QR(normal(r*r), r, r)
	half := func(first int) kernels.Mat {
		m := kernels.NewMat(r/2, r)
		for i := range r / 2 {
			copy(m.Row(i), q[(2*i+first)*r:(2*i+first+1)*r])
		}
		return m
	}
	x, y := kernels.MatOf(normal(s.at.In*r/2), s.at.In, r/2), kernels.MatOf(normal(r/2*s.at.Out), r/2, s.at.Out)
	kernels.Gemm(s.a.V.Mat(), false, kernels.Term{A: half(0), TransA: true, B: x, TransB: true, Scale: 0.1})
	kernels.Gemm(s.b.V.Mat(), false, kernels.Term{A: y, TransA: true, B: half(1), Scale: 0.1})
	return nil
}

// minor begins with B of the left singular vectors of the smallest values and A
// zero (MiCA, arXiv 2604.01694); B is not trained.
func (s *site) minor() error {
	w := s.at.Weight()
	if s.at.Mod.Embedding != nil { // features are columns
		w = transposed(w)
	}
	u, _, _, err := linalg.SVD(w.Data, w.Rows, w.Cols)
	if err != nil {
		return err
	}
	k := min(w.Rows, w.Cols)
	for o := range w.Rows {
		copy(s.b.V.Data[o*s.rank:(o+1)*s.rank], u[(o+1)*k-s.rank:(o+1)*k])
	}
	return nil
}

func transposed(m kernels.Mat) kernels.Mat {
	return kernels.MatOf(transpose(m.Data, m.Rows, m.Cols), m.Cols, m.Rows)
}

// Loading implements tuner.Loader: it computes again what the base lost, and reads
// DoRA's magnitudes under either of their names.
func (c *config) Loading(_ *tuner.Adapter, set *peft.TensorSet) error {
	for _, s := range c.sites {
		if s.mag != nil && !set.Has(s.mag.Name) && set.Has(s.mag.Name+".weight") {
			set.Rename(s.mag.Name+".weight", s.mag.Name)
		}
		if !c.changesBase() || s.at.Mod.Embedding != nil {
			continue
		}
		if err := c.reproducible(s); err != nil {
			return fmt.Errorf("%s: %w", s.at.Path, err)
		}
		if err := s.decompose(); err != nil {
			return fmt.Errorf("%s: %w", s.at.Path, err)
		}
	}
	return nil
}

const convertAdvice = "save it in PEFT with path_initial_model_for_weight_conversion, which makes it one of the base model as it is, and use that"

// reproducible refuses files whose beginning cannot be computed again.
func (c *config) reproducible(s *site) error {
	if c.initKind != initPiSSA && c.initKind != initOLoRA {
		return fmt.Errorf("init_lora_weights %s took a randomised decomposition out of the base model, which cannot be computed again; %s: %w", c.initKind, convertAdvice, peft.ErrConfig)
	}
	if c.initKind == initOLoRA && s.at.Mod.Weight().Conv1D {
		return fmt.Errorf("init_lora_weights olora: PEFT decomposes the transpose of this kind of layer (Conv1D) and cannot run such an adapter; %s: %w", convertAdvice, peft.ErrConfig)
	}
	return nil
}
