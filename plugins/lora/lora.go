// Package lora is low-rank adaptation (Hu et al. 2021, arXiv 2106.09685) as a
// peftkit method: y = W x + s B A dropout(x), with rsLoRA's scale (Kalajdzievski
// 2023, arXiv 2312.03732), per-module ranks and alphas, adapted embeddings,
// trained biases and modules_to_save. Files, keys and defaults of the file format
// are those of Hugging Face PEFT's LORA type.
package lora

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

func init() { peft.Register(method{}) }

type method struct{}

var (
	_ peft.Method        = method{}
	_ peft.Merger        = method{}
	_ peft.GGUFConverter = method{}
)

// Info implements peft.Method. The defaults for training are peftkit's (rank 16,
// alpha 32, every linear layer); those of a file that lacks a key are PEFT's.
func (method) Info() peft.Info {
	return peft.Info{
		Name: "lora", PeftType: "LORA", Group: peft.Reparametrisation,
		Doc:          "adds a product of two thin matrices to the weights it targets",
		Reference:    "Hu et al. 2021, arXiv 2106.09685; rsLoRA: arXiv 2312.03732",
		LearningRate: 2e-4,
		Options: []peft.Option{
			{Key: "r", Flag: "rank", Default: 16, Doc: "rank of the update"},
			{Key: "lora_alpha", Flag: "alpha", Default: 32.0, Doc: "scale times rank"},
			{Key: "lora_dropout", Flag: "dropout", Default: 0.0, Doc: "dropout on the input of A"},
			{Key: "target_modules", Flag: "target-modules", Default: peft.AllLinear, Doc: "suffixes, a regular expression, or all-linear"},
			{Key: "exclude_modules", Doc: "suffixes or a regular expression of modules to leave alone"},
			{Key: "use_rslora", Default: false, Doc: "scale by alpha/sqrt(rank) instead of alpha/rank"},
			{Key: "rank_pattern", Doc: "rank of single modules: {pattern: rank}"},
			{Key: "alpha_pattern", Doc: "alpha of single modules: {pattern: alpha}"},
			{Key: "bias", Default: "none", Doc: "biases to train too: none, lora_only or all"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
			{Key: "layers_to_transform", Doc: "only these layers: a number or a list"},
			{Key: "layers_pattern", Doc: "name of the list of layers, where it is not the first numbered one"},
			{Key: "init_lora_weights", Default: true, Doc: "true (A uniform, B zero), gaussian, or false (both random)"},
		},
	}
}

// site is one adapted module: A is [r, in] and B is [out, r]; for an embedding
// [r, vocab] and [dim, r].
type site struct {
	mod   *model.Module
	a, b  *nn.Param
	scale float32
}

type adapter struct {
	cfg   *config
	sites []site
	full  []*nn.Param // biases and modules_to_save
}

var _ peft.Adapter = (*adapter)(nil)

const prefix = "base_model.model."

// New implements peft.Method.
func (m method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	cfg, err := fromOptions(o, m.Info())
	if err != nil {
		return nil, err
	}
	cfg.set("base_model_name_or_path", mod.Source.Path)
	ad, err := build(mod, cfg)
	if err != nil {
		return nil, err
	}
	for i := range ad.sites {
		ad.sites[i].initialise(cfg, seed)
	}
	ad.attach(1)
	return ad, nil
}

// Load implements peft.Method.
func (method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	cfg, err := parse(a.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: adapter_config.json: %w", a.Path, err)
	}
	set, err := readTensors(a)
	if err != nil {
		return nil, err
	}
	ad, err := build(mod, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Path, err)
	}
	params := ad.Params()
	if scale != 1 && len(ad.full) > 0 {
		return nil, fmt.Errorf("%s: a scale of %g cannot apply to the biases and whole modules that the adapter carries: %w", a.Path, scale, peft.ErrConfig)
	}
	var missing []string
	for _, p := range params {
		t := set.take(p.Name)
		if t == nil {
			missing = append(missing, p.Name)
			continue
		}
		if !slices.Equal(t.Shape, p.Shape) {
			return nil, fmt.Errorf("%s: %s has shape %v, the model and the configuration want %v: %w", a.Path, p.Name, t.Shape, p.Shape, peft.ErrTensors)
		}
		if err := t.Floats(p.V.Data, 0, t.Rows()); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
	}
	// A file may carry the base's own embedding beside an adapted one.
	for _, s := range ad.sites {
		name := prefix + s.mod.Path + ".base_layer.weight"
		if t := set.take(name); t != nil {
			w := nn.Weight{Name: name, Out: t.Rows(), In: t.Cols()}
			if w.Out != s.mod.Weight().Out || w.In != s.mod.Weight().In {
				return nil, fmt.Errorf("%s: %s has shape %v, the model has [%d %d]; an adapter with a resized vocabulary must be merged with peftkit merge-lora: %w", a.Path, name, t.Shape, s.mod.Weight().Out, s.mod.Weight().In, peft.ErrTensors)
			}
			var err error
			if w.Frozen, err = t.Weight(); err != nil {
				return nil, fmt.Errorf("%s: %w", a.Path, err)
			}
			copied := *w.Frozen
			copied.Data = append([]byte(nil), copied.Data...) // outlives the adapter file
			w.Frozen = &copied
			s.mod.SetWeight(&w)
		}
	}
	if rest := set.rest(); len(missing) > 0 || len(rest) > 0 {
		return nil, fmt.Errorf("%s: %s: %w", a.Path, describe(missing, rest, params), errKind(len(params)-len(missing)))
	}
	ad.attach(scale)
	return ad, nil
}

func errKind(matched int) error {
	if matched == 0 {
		return peft.ErrNoMatch
	}
	return peft.ErrTensors
}

func describe(missing, rest []string, params []*nn.Param) string {
	var parts []string
	if len(missing) > 0 {
		parts = append(parts, fmt.Sprintf("%d of the %d tensors that its configuration targets in this model are missing, the first is %s", len(missing), len(params), missing[0]))
	}
	if len(rest) > 0 {
		parts = append(parts, fmt.Sprintf("%d tensors have no place in this model, the first is %s", len(rest), rest[0]))
	}
	return strings.Join(parts, "; ")
}

// build finds the targets and makes zeroed parameters for them.
func build(m *model.Model, cfg *config) (*adapter, error) {
	ad := &adapter{cfg: cfg}
	for _, mod := range m.Modules {
		if cfg.saves(mod.Path) {
			ad.full = append(ad.full, wholeModule(mod)...)
			continue
		}
		hit, err := cfg.targets(mod.Path, mod.Kind(), mod.Output)
		if err != nil {
			return nil, err
		}
		if hit && mod.Norm != nil {
			return nil, fmt.Errorf("target_modules hits %s, a norm: LoRA adapts linear layers and embeddings; to train the norm in full, put it in modules_to_save: %w", mod.Path, peft.ErrConfig)
		}
		if hit {
			s, err := newSite(mod, cfg)
			if err != nil {
				return nil, err
			}
			ad.sites = append(ad.sites, s)
		}
		if mod.Linear != nil && mod.Linear.Bias != nil && (cfg.Bias == "all" || cfg.Bias == "lora_only" && hit) {
			p := mod.Linear.Bias.Unfreeze()
			p.Name = prefix + mod.Path + ".bias"
			if hit {
				p.Name = prefix + mod.Path + ".base_layer.bias"
			}
			ad.full = append(ad.full, p)
		}
	}
	if len(ad.sites) == 0 {
		return nil, noTarget(m, cfg)
	}
	if cfg.Bias != "none" && !hasBias(ad.full) {
		return nil, fmt.Errorf("bias %q: this model has no biases to train; use bias none: %w", cfg.Bias, peft.ErrConfig)
	}
	for _, item := range cfg.TargetModules.List {
		if !fits(m, item) {
			return nil, fmt.Errorf("target_modules: %q fits no module of this model; its modules end in %s: %w", item, endings(m), peft.ErrNoMatch)
		}
	}
	return ad, nil
}

func hasBias(full []*nn.Param) bool {
	for _, p := range full {
		if strings.HasSuffix(p.Name, ".bias") {
			return true
		}
	}
	return false
}

// fits reports whether an item of target_modules names a module of the model,
// be it one that exclude_modules or layers_to_transform leave out.
func fits(m *model.Model, item string) bool {
	for _, mod := range m.Modules {
		if peft.Suffix(mod.Path, item) {
			return true
		}
	}
	return false
}

func noTarget(m *model.Model, cfg *config) error {
	t, _ := cfg.TargetModules.MarshalJSON()
	return fmt.Errorf("target_modules %s hits none of the model's modules, which end in %s: %w", t, endings(m), peft.ErrNoMatch)
}

// endings lists the distinct last components of the linear and embedding paths.
func endings(m *model.Model) string {
	var out []string
	seen := map[string]bool{}
	for _, mod := range m.Modules {
		e := mod.Path[strings.LastIndexByte(mod.Path, '.')+1:]
		if mod.Norm == nil && !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return strings.Join(out, ", ")
}

// wholeModule makes a module trainable on its own, untied from any other.
func wholeModule(mod *model.Module) []*nn.Param {
	mod.Untie()
	p := mod.Weight().Unfreeze()
	p.Name = prefix + mod.Path + ".weight"
	out := []*nn.Param{p}
	if mod.Linear != nil && mod.Linear.Bias != nil {
		b := mod.Linear.Bias.Unfreeze()
		b.Name = prefix + mod.Path + ".bias"
		out = append(out, b)
	}
	return out
}

func newSite(mod *model.Module, cfg *config) (site, error) {
	r, alpha, err := cfg.rankAlpha(mod.Path)
	if err != nil {
		return site{}, err
	}
	w := mod.Weight()
	s := site{mod: mod, scale: float32(scaleOf(alpha, r, cfg.UseRSLoRA))}
	name := prefix + mod.Path
	if mod.Embedding != nil {
		s.a = nn.NewParam(name+".lora_embedding_A", r, w.Out)
		s.b = nn.NewParam(name+".lora_embedding_B", w.In, r)
		return s, nil
	}
	s.a = nn.NewParam(name+".lora_A.weight", r, w.In)
	s.b = nn.NewParam(name+".lora_B.weight", w.Out, r)
	return s, nil
}

// scaleOf returns alpha/r, or alpha/sqrt(r) for rsLoRA.
func scaleOf(alpha float64, r int, rs bool) float64 {
	if rs {
		return alpha / math.Sqrt(float64(r))
	}
	return alpha / float64(r)
}

// initialise fills A and B as PEFT does by default: linear layers get A uniform
// within 1/sqrt(in) (Kaiming with a = sqrt 5) and B zero, embeddings A zero and B
// standard normal. The numbers depend on the seed and the module's path alone.
func (s *site) initialise(cfg *config, seed uint64) {
	h := fnv.New64a()
	h.Write([]byte(s.mod.Path))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	uniform := func(p *nn.Param, bound float64) {
		for i := range p.V.Data {
			p.V.Data[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
	normal := func(p *nn.Param, sigma float64) {
		for i := range p.V.Data {
			p.V.Data[i] = float32(rng.NormFloat64() * sigma)
		}
	}
	kaiming := func(p *nn.Param) { uniform(p, 1/math.Sqrt(float64(p.V.Cols))) }
	switch {
	case s.mod.Embedding != nil:
		normal(s.b, 1)
		if cfg.initKind == "false" {
			normal(s.a, 1)
		}
	case cfg.initKind == "gaussian":
		normal(s.a, 1/float64(s.a.V.Rows))
	default:
		kaiming(s.a)
		if cfg.initKind == "false" {
			kaiming(s.b)
		}
	}
}

// attach hooks the sites into the model, their effect multiplied by scale.
func (ad *adapter) attach(scale float32) {
	p := float32(ad.cfg.Dropout)
	for _, s := range ad.sites {
		eff := s.scale * scale
		if s.mod.Linear != nil {
			s.mod.Linear.AddLowRank(func(t *nn.Tape, x *nn.Var) nn.LowRank {
				lr := nn.LowRank{A: s.a.V, B: s.b.V, Scale: eff}
				if p > 0 && t.Train {
					lr.X = nn.Dropout(t, x, p)
				}
				return lr
			})
			continue
		}
		// PEFT applies no dropout to an embedding's input: it is a table look-up.
		b := &nn.Weight{Name: s.b.Name, Out: s.b.V.Rows, In: s.b.V.Cols, P: s.b}
		s.mod.Embedding.Wrap(func(t *nn.Tape, ids []int32, next func(*nn.Tape, []int32) *nn.Var) *nn.Var {
			z := nn.GatherCols(t, s.a.V, ids)
			return nn.Add(t, next(t, ids), nn.Scale(t, nn.LinearOp(t, z, b, nil), eff))
		})
	}
}

// Params implements peft.Adapter.
func (ad *adapter) Params() []*nn.Param {
	var out []*nn.Param
	for _, s := range ad.sites {
		out = append(out, s.a, s.b)
	}
	return append(out, ad.full...)
}

// Config implements peft.Adapter.
func (ad *adapter) Config() (json.RawMessage, error) {
	if ad.cfg.TargetModules.IsAllLinear() {
		cfg := *ad.cfg
		var paths []string
		for _, s := range ad.sites {
			paths = append(paths, s.mod.Path)
		}
		cfg.TargetModules = peft.Targets{List: shortNames(paths)}
		return cfg.json()
	}
	return ad.cfg.json()
}

// shortNames returns the distinct last components of the paths, sorted; with
// them PEFT selects the same modules in a model where every linear layer but
// the head was chosen.
func shortNames(paths []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, p := range paths {
		e := p[strings.LastIndexByte(p, '.')+1:]
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	slices.Sort(out)
	return out
}

// Summary implements peft.Adapter.
func (ad *adapter) Summary() string {
	r := map[int]bool{}
	var paths []string
	for _, s := range ad.sites {
		r[s.a.V.Rows] = true
		paths = append(paths, s.mod.Path)
	}
	rank := "mixed ranks"
	if len(r) == 1 {
		rank = fmt.Sprintf("rank %d", ad.sites[0].a.V.Rows)
	}
	return fmt.Sprintf("LoRA %s on %d modules (%s)", rank, len(ad.sites), strings.Join(shortNames(paths), ", "))
}
