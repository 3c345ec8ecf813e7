// Package tuner is what methods share that change single modules of a model: it
// finds the modules, names, initialises, saves and loads their parameters, trains
// biases and whole modules beside them, and merges. A method brings a [Tuner]:
// which parameters a module gets, what they do to its forward pass and to its
// weight. Files are those of Hugging Face PEFT.
package tuner

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/spell"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
)

// Method is a [peft.Method] and [peft.Merger] made of a Tuner.
type Method struct {
	Facts peft.Info
	// Configure reads the method's own keys of a configuration and checks them.
	Configure func(c *peft.Config) (Tuner, error)
	// Targets chooses the modules of an adapter without target_modules; it may set
	// other keys. nil when there is no such choice.
	Targets func(c *peft.Config, m *model.Model) error
	// Aim, when not nil, may change c.TargetModules, as it was read or chosen, into
	// the paths of modules of the model; the saved key stays.
	Aim func(c *peft.Config, m *model.Model) error
	// NoExclude and NoLayers say that PEFT's configuration of the method has no
	// exclude_modules, or no layers_to_transform and layers_pattern: it would pass over
	// such a key, so the modules that it leaves are saved by their paths instead.
	NoExclude, NoLayers bool
}

// Tuner is a configured method.
type Tuner interface {
	// Site declares the parameters of one module of target_modules. An error that
	// wraps peft.ErrConfig says why the module cannot be changed.
	Site(p *Place) (Site, error)
}

// Site is what the method does to one module.
type Site interface {
	// Init sets the parameters of a fresh adapter. rng depends on the seed and the
	// module's path alone.
	Init(rng *rand.Rand) error
	// Attach hooks into the module, its effect multiplied by scale.
	Attach(scale float32) error
}

// Merging is a Site that can be written into its module's weight.
type Merging interface {
	Site
	// Merge changes the weight, [out, in] of the linear map in float32 whatever the
	// stored orientation; for an embedding [vocabulary, features].
	Merge(w kernels.Mat, scale float32)
}

// RowMerging is a Merging whose change of a row of [out, in] needs no other row:
// it is streamed.
type RowMerging interface {
	Site
	// MergeRows changes rows r0 to r1, given as w. It may be called from several
	// goroutines on different rows.
	MergeRows(w kernels.Mat, r0, r1 int, scale float32)
}

// BiasMerging is a Site that also changes its module's bias.
type BiasMerging interface {
	MergeBias(b []float32, scale float32)
	// NeedsBias says that a module without a bias cannot be merged.
	NeedsBias() bool
}

// TiedMerging is a Site that changes the one weight of several modules (an output
// embedding that is the input embedding) in all of them.
type TiedMerging interface {
	MergesTied() bool
}

// Finisher is a Tuner with work to do when all sites are declared: shared
// tensors. It is called before Init and Attach.
type Finisher interface {
	Finish(a *Adapter) error
}

// Initialiser is a Tuner with shared parameters to initialise, before the sites'.
type Initialiser interface {
	InitShared(seed uint64) error
}

// Checker is a Site or Initialiser that begins with much work. Check returns what
// would be in its way, so that the size of an adapter costs nothing.
type Checker interface {
	Check() error
}

// Describer is a Tuner that says in a few words what it is: "LoHa rank 8".
type Describer interface {
	Describe() string
}

// Place is one target module.
type Place struct {
	Path string
	Mod  *model.Module
	// Out and In are the sizes of the linear map; for an embedding the number of
	// tokens and of features, for a norm 1 and the features.
	Out, In int
	Model   *model.Model
	// Tensors are the base's tensors that hold the weight; nil for that of Path.
	Tensors []string

	ad *Adapter
}

// Place returns the place of a module that is no target, for a tuner that declares
// parameters there.
func (a *Adapter) Place(m *model.Module, of *model.Model) *Place {
	return &Place{Path: m.Path, Mod: m, Out: m.Weight().Out, In: m.Weight().In, Model: of, ad: a}
}

// Linear returns the linear layer, or an error that says that the method adapts
// no other kind of module.
func (p *Place) Linear() (*nn.LinearLayer, error) {
	if p.Mod.Linear == nil {
		return nil, fmt.Errorf("target_modules hits %s, %s %s: the method changes linear layers: %w", p.Path, article(p.Mod.Kind()), p.Mod.Kind(), peft.ErrConfig)
	}
	return p.Mod.Linear, nil
}

func article(word string) string {
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an"
	}
	return "a"
}

// Param declares a trained parameter, saved as base_model.model.PATH.name.
func (p *Place) Param(name string, shape ...int) *nn.Param {
	return p.ad.add(nn.NewParam(peft.Prefix+p.Path+"."+name, shape...), true)
}

// Buffer declares a tensor that is saved with the adapter but not trained.
func (p *Place) Buffer(name string, shape ...int) *nn.Param {
	return p.ad.add(nn.NewParam(peft.Prefix+p.Path+"."+name, shape...), false)
}

// Shared declares a tensor of the whole adapter, saved once as
// base_model.NAME; later calls return the same one. Its shape is that of the
// first call.
func (p *Place) Shared(name string, trained bool, shape ...int) *nn.Param {
	full := "base_model." + name
	for _, q := range p.ad.saved {
		if q.Name == full {
			return q
		}
	}
	return p.ad.add(nn.NewParam(full, shape...), trained)
}

// Weight decodes the module's base weight as [Out, In] of the linear map.
func (p *Place) Weight() kernels.Mat {
	w := p.Mod.Weight()
	m := kernels.NewMat(p.Out, p.In)
	if !w.Transposed {
		kernels.Parallel(p.Out, 64, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				w.Row(m.Row(r), r)
			}
		})
		return m
	}
	row := make([]float32, p.Out)
	for i := range p.In {
		w.Row(row, i)
		for o, v := range row {
			m.Data[o*m.Stride+i] = v
		}
	}
	return m
}

// Adapter is a [peft.Adapter] made of sites.
type Adapter struct {
	Cfg   *peft.Config
	Tuner Tuner
	Sites []Site
	// Places belong to the sites one by one.
	Places []*Place

	facts  peft.Info
	byPath bool        // target_modules are saved as paths
	params []*nn.Param // trained
	saved  []*nn.Param // in the file
	whole  []*nn.Param // biases and whole modules, the last of saved
	biased bool        // biases among whole
	// kept are the base's weights that came with the file, as with a resized vocabulary.
	kept []formats.OutTensor
}

var (
	_ peft.Method = (*Method)(nil)
	_ peft.Merger = (*Method)(nil)

	_ peft.ConfigChecker = (*Method)(nil)
	_ peft.Sizer         = (*Method)(nil)
	_ peft.Adapter       = (*Adapter)(nil)
	_ peft.Exporter      = (*Adapter)(nil)
)

func (a *Adapter) add(p *nn.Param, trained bool) *nn.Param {
	a.saved = append(a.saved, p)
	if trained {
		a.params = append(a.params, p)
	} else {
		p.V.Needs = false
	}
	return p
}

// Info implements peft.Method.
func (m *Method) Info() peft.Info { return m.Facts }

// Info implements peft.Described.
func (a *Adapter) Info() peft.Info { return a.facts }

// NewAdapter implements the whole of New but for attaching.
func (m *Method) NewAdapter(mod *model.Model, o peft.Options, seed uint64) (*Adapter, error) {
	ad, err := m.fresh(mod, o)
	if err != nil {
		return nil, err
	}
	return ad, ad.init(seed, false)
}

// fresh builds an adapter from options.
func (m *Method) fresh(mod *model.Model, o peft.Options) (*Adapter, error) {
	cfg, err := peft.NewConfig(o, m.Facts, mod)
	if err != nil {
		return nil, err
	}
	ad, err := m.build(mod, cfg)
	if err != nil {
		return nil, err
	}
	if b := cfg.Bias; b != "" && b != "none" && !ad.biased {
		return nil, fmt.Errorf("bias %q: this model has no biases to train; use bias none: %w", b, peft.ErrNoFit)
	}
	return ad, allFit(mod, cfg.TargetModules.List)
}

// allFit refuses a name that fits no module, most likely a slip. A file may have such
// names, as PEFT writes lists made for several models; its tensors tell what it holds.
func allFit(mod *model.Model, list []string) error {
	for _, item := range list {
		if !slices.ContainsFunc(mod.Modules, func(x *model.Module) bool { return peft.Suffix(x.Path, item) }) {
			return noModule(mod, item)
		}
	}
	return nil
}

// noModule is the error of a name that fits no module.
func noModule(mod *model.Model, item string) error {
	ends := peft.Endings(mod)
	hint := spell.DidYouMean(item[strings.LastIndexByte(item, '.')+1:], ends)
	if hint != "" {
		hint = " " + hint
	}
	return fmt.Errorf("target_modules: %q fits no module of this model;%s its modules end in %s: %w", item, hint, strings.Join(ends, ", "), peft.ErrNoMatch)
}

// init sets the parameters of a fresh adapter. To check, work that a Checker
// answers for is left out.
func (a *Adapter) init(seed uint64, check bool) error {
	c, ok := a.Tuner.(Checker)
	if in, shared := a.Tuner.(Initialiser); check && ok {
		if err := c.Check(); err != nil {
			return err
		}
	} else if shared {
		if err := in.InitShared(seed); err != nil {
			return err
		}
	}
	for i, s := range a.Sites {
		h := fnv.New64a()
		h.Write([]byte(a.Places[i].Path))
		var err error
		if c, ok := s.(Checker); check && ok {
			err = c.Check()
		} else {
			err = s.Init(rand.New(rand.NewPCG(seed, h.Sum64())))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a.Places[i].Path, err)
		}
	}
	return nil
}

// Size implements peft.Sizer.
func (m *Method) Size(mod *model.Model, o peft.Options, seed uint64) (int64, error) {
	ad, err := m.fresh(mod, o)
	if err != nil {
		return 0, err
	}
	return peft.Elements(ad.params), ad.init(seed, true)
}

// New implements peft.Method.
func (m *Method) New(mod *model.Model, o peft.Options, seed uint64) (peft.Adapter, error) {
	ad, err := m.NewAdapter(mod, o, seed)
	if err != nil {
		return nil, err
	}
	return ad, ad.attach(1)
}

// Load implements peft.Method.
func (m *Method) Load(mod *model.Model, a *formats.Adapter, scale float32) (peft.Adapter, error) {
	f, err := open(a)
	if err != nil {
		return nil, err
	}
	ad, err := m.read(mod, f)
	if err != nil {
		return nil, err
	}
	ad.kept = f.kept
	if err := f.set.Fill(ad.saved...); err != nil {
		return nil, err
	}
	ad.settle()
	if scale != 1 && len(ad.whole) > 0 {
		return nil, wholeScale(a, scale)
	}
	return ad, ad.attach(scale)
}

func wholeScale(a *formats.Adapter, scale float32) error {
	return fmt.Errorf("%s: a scale of %g cannot apply to the biases and whole modules that the adapter carries: %w", a.Path, scale, peft.ErrConfig)
}

// CheckConfig implements peft.ConfigChecker: what Configure says.
func (m *Method) CheckConfig(a *formats.Adapter) error {
	if a.Naming == formats.GGUF {
		return nil
	}
	cfg, err := peft.ParseConfig(a.Config)
	if err == nil {
		_, err = m.Configure(cfg)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a.Path, err)
	}
	return nil
}

// read builds the sites that a file is about.
func (m *Method) read(mod *model.Model, f *file) (*Adapter, error) {
	tie, err := m.tying(f.cfg, mod)
	if err == nil {
		err = f.ownBases(mod, tie)
	}
	if err != nil {
		return nil, err
	}
	ad, err := m.build(mod, f.cfg)
	if err != nil {
		return nil, formats.At(f.a.Path, err)
	}
	if l, ok := ad.Tuner.(Loader); ok {
		if err := l.Loading(ad, f.set); err != nil {
			return nil, formats.At(f.a.Path, err)
		}
	}
	f.copies(ad)
	return ad, nil
}

// Loader is a Tuner that takes tensors from a file by itself, or changes what is
// expected of it, before the rest is read.
type Loader interface {
	Loading(a *Adapter, set *peft.TensorSet) error
}

// Drop takes a parameter off the list of those that are saved: the file does not
// carry it.
func (a *Adapter) Drop(p *nn.Param) {
	a.saved = slices.DeleteFunc(a.saved, func(q *nn.Param) bool { return q == p })
}

// build finds the targets and declares zeroed parameters for them.
func (m *Method) build(mod *model.Model, cfg *peft.Config) (*Adapter, error) {
	if cfg.TargetModules.Empty() && m.Targets != nil {
		if err := m.Targets(cfg, mod); err != nil {
			return nil, err
		}
	}
	if m.Aim != nil && !cfg.TargetModules.Empty() {
		if err := m.Aim(cfg, mod); err != nil {
			return nil, err
		}
	}
	t, err := m.Configure(cfg)
	if err != nil {
		return nil, err
	}
	ad := &Adapter{Cfg: cfg, Tuner: t, facts: m.Facts}
	ad.byPath = m.NoExclude && !cfg.ExcludeModules.Empty() || m.NoLayers && len(cfg.Layers) > 0
	if cfg.TargetModules.Empty() {
		return nil, fmt.Errorf("target_modules is empty: name modules, or use %s: %w", peft.AllLinear, peft.ErrConfig)
	}
	tie, err := m.tying(cfg, mod)
	if err != nil {
		return nil, err
	}
	var full []*nn.Param
	hitPath := map[string]bool{}
	for _, module := range mod.Modules {
		tied := tie.has(module)
		if tied && (tie.whole || module != tie.embedding) {
			continue // declared below
		}
		if cfg.Saves(module.Path) {
			full = append(full, peft.WholeModule(module)...)
			continue
		}
		hit, err := cfg.Hits(module)
		if err != nil {
			return nil, err
		}
		if hit || tied {
			p := &Place{Path: module.Path, Mod: module, Out: module.Weight().Out, In: module.Weight().In, Model: mod, ad: ad}
			s, err := t.Site(p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", module.Path, err)
			}
			ad.Sites, ad.Places = append(ad.Sites, s), append(ad.Places, p)
			hitPath[module.Path] = true
		}
	}
	if tie != nil && !tie.whole {
		if err := tie.sites(ad, mod); err != nil {
			return nil, err
		}
	}
	if len(ad.Sites) == 0 {
		if list := cfg.TargetModules.List; len(list) == 1 {
			return nil, noModule(mod, list[0])
		}
		v, _ := cfg.TargetModules.MarshalJSON()
		return nil, fmt.Errorf("target_modules %s hits none of the model's modules, which end in %s: %w", v, strings.Join(peft.Endings(mod), ", "), peft.ErrNoMatch)
	}
	if f, ok := t.(Finisher); ok {
		if err := f.Finish(ad); err != nil {
			return nil, err
		}
	}
	if full, err = ad.biases(mod, full, hitPath); err != nil {
		return nil, err
	}
	for _, p := range full {
		ad.whole = append(ad.whole, ad.add(p, true))
	}
	if tie != nil && tie.whole {
		tie.declare(ad)
	}
	return ad, nil
}

// biases makes trainable what the key bias asks for: none, all, or METHOD_only. A file
// may ask for those of a model without, as PEFT lets it.
func (a *Adapter) biases(mod *model.Model, full []*nn.Param, hit map[string]bool) ([]*nn.Param, error) {
	kind := a.Cfg.Bias
	if kind == "none" || kind == "" {
		return full, nil
	}
	if kind != "all" && !strings.HasSuffix(kind, "_only") {
		return nil, fmt.Errorf("bias is %q, expected none, all or %s_only: %w", kind, a.facts.Name, peft.ErrConfig)
	}
	for _, m := range mod.Modules {
		b := m.Bias()
		if b == nil || a.Cfg.Saves(m.Path) || kind != "all" && !hit[m.Path] {
			continue
		}
		p := b.Unfreeze()
		p.Name = peft.Prefix + m.Path + ".bias"
		if hit[m.Path] {
			p.Name = peft.Prefix + m.Path + ".base_layer.bias"
		}
		full = append(full, p)
		a.biased = true
	}
	return full, nil
}
