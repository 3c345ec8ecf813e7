package peft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
)

// IndexName is the file that makes a folder a combination.
const IndexName = "peftkit_combination.json"

const (
	indexKind    = "peftkit combination"
	indexVersion = 1
)

// index is the content of IndexName.
type index struct {
	Kind    string      `json:"kind"`
	Version int         `json:"version"`
	Parts   []indexPart `json:"parts"`
}

// indexPart is one method: its name, and the folder of its adapter below the
// index, which other programs can use by itself.
type indexPart struct {
	Method string `json:"method"`
	Folder string `json:"folder"`
}

// Part is one method of a combination with its options.
type Part struct {
	Method  Method
	Options Options
}

// Combination is two or more adapters on one model, trained, saved and loaded
// as one. Its learning rate is that of its first part; the others keep the ratio
// that their defaults have to it.
type Combination struct {
	Parts []Adapter
	Infos []Info
}

var (
	_ Adapter     = (*Combination)(nil)
	_ Saver       = (*Combination)(nil)
	_ Described   = (*Combination)(nil)
	_ Rater       = (*Combination)(nil)
	_ Stateful    = (*Combination)(nil)
	_ Stepper     = (*Combination)(nil)
	_ Penalizer   = (*Combination)(nil)
	_ Calibrator  = (*Combination)(nil)
	_ DataStarter = (*Combination)(nil)
)

// ParseMethods reads the word of --method: one name, or several joined by +.
func ParseMethods(word string) ([]Method, error) {
	if m, err := ByName(word); err == nil { // a name may end in plus signs
		return []Method{m}, nil
	}
	var out []Method
	for _, name := range strings.Split(word, "+") {
		if name = strings.TrimSpace(name); name == "" {
			name = word // nothing beside a plus sign
		}
		m, err := ByName(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o Method) bool { return o.Info().Name == m.Info().Name }) {
			return nil, fmt.Errorf("method %s stands twice in %q: %w", m.Info().Name, word, ErrConfig)
		}
		out = append(out, m)
	}
	return out, nil
}

// SplitOptions gives each method its options: a key with the method's name in
// front ("lora.r") is for that method, any other for all methods that have it. A
// key that no method has is an error.
func SplitOptions(methods []Method, o Options) ([]Part, error) {
	parts := make([]Part, len(methods))
	for i, m := range methods {
		parts[i] = Part{m, Options{}}
	}
	for name, v := range o {
		owner, key, named := strings.Cut(name, ".")
		found := false
		for i, m := range methods {
			info := m.Info()
			if named && (owner == info.Name || slices.Contains(info.Aliases, owner)) {
				parts[i].Options[key], found = v, true
			}
		}
		for i, m := range methods {
			if !found || !named {
				if slices.ContainsFunc(m.Info().Options, func(opt Option) bool { return opt.Key == name || opt.Flag == name }) {
					parts[i].Options[name] = v
					found = true
				}
			}
		}
		if !found {
			var infos []Info
			for _, m := range methods {
				infos = append(infos, m.Info())
			}
			return nil, unknownOption(name, infos...)
		}
	}
	return parts, nil
}

// New attaches a fresh adapter of each part to the model, in order; a single part
// gives its own adapter.
func New(m *model.Model, parts []Part, seed uint64) (Adapter, error) {
	c := &Combination{}
	for _, p := range parts {
		ad, err := p.Method.New(m, p.Options, seed)
		if err != nil {
			return nil, err
		}
		c.Parts, c.Infos = append(c.Parts, ad), append(c.Infos, p.Method.Info())
	}
	switch len(parts) {
	case 0:
		return nil, fmt.Errorf("no method given: %w", ErrConfig)
	case 1:
		return c.Parts[0], nil
	}
	return c, nil
}

// Params implements Adapter. What several parts train (the head of a task)
// counts once.
func (c *Combination) Params() []*nn.Param {
	var out []*nn.Param
	seen := map[*nn.Param]bool{}
	for _, p := range c.Parts {
		for _, q := range p.Params() {
			if !seen[q] {
				seen[q] = true
				out = append(out, q)
			}
		}
	}
	return out
}

// Config implements Adapter: the index with the configuration of each part. It
// identifies the combination; the files hold one configuration a part.
func (c *Combination) Config() (json.RawMessage, error) {
	var parts []json.RawMessage
	for _, p := range c.Parts {
		raw, err := p.Config()
		if err != nil {
			return nil, err
		}
		parts = append(parts, raw)
	}
	return json.MarshalIndent(map[string]any{"kind": indexKind, "version": indexVersion, "parts": parts}, "", "  ")
}

// Summary implements Adapter.
func (c *Combination) Summary() string {
	var s []string
	for _, p := range c.Parts {
		s = append(s, p.Summary())
	}
	return strings.Join(s, "; ")
}

// Info implements Described: the learning rate and weight decay are those of the
// first part, to which the others keep their ratio.
func (c *Combination) Info() Info {
	out := Info{LearningRate: c.Infos[0].LearningRate, WeightDecay: c.Infos[0].WeightDecay}
	var names []string
	for _, i := range c.Infos {
		names = append(names, i.Name)
	}
	out.Name = strings.Join(names, "+")
	return out
}

// Rate implements Rater.
func (c *Combination) Rate(p *nn.Param) (lr, decay float64) {
	for i, part := range c.Parts {
		if !slices.Contains(part.Params(), p) {
			continue
		}
		lr, decay = 1, 1
		if r, ok := part.(Rater); ok {
			lr, decay = r.Rate(p)
		}
		if first, own := c.Infos[0].LearningRate, c.Infos[i].LearningRate; first > 0 && own > 0 {
			lr *= own / first
		}
		if first, own := c.Infos[0].WeightDecay, c.Infos[i].WeightDecay; first > 0 {
			decay *= own / first
		}
		return lr, decay
	}
	return 1, 1
}

// State implements Stateful.
func (c *Combination) State() []*nn.Param {
	var out []*nn.Param
	for _, p := range c.Parts {
		if s, ok := p.(Stateful); ok {
			out = append(out, s.State()...)
		}
	}
	return out
}

// Begin implements Stepper.
func (c *Combination) Begin(done, total int) error {
	for _, p := range c.Parts {
		if s, ok := p.(Stepper); ok {
			if err := s.Begin(done, total); err != nil {
				return err
			}
		}
	}
	return nil
}

// BeforeUpdate implements Stepper.
func (c *Combination) BeforeUpdate(step int) {
	for _, p := range c.Parts {
		if s, ok := p.(Stepper); ok {
			s.BeforeUpdate(step)
		}
	}
}

// AfterUpdate implements Stepper.
func (c *Combination) AfterUpdate(step int) {
	for _, p := range c.Parts {
		if s, ok := p.(Stepper); ok {
			s.AfterUpdate(step)
		}
	}
}

// Penalty implements Penalizer.
func (c *Combination) Penalty() float64 {
	sum := 0.0
	for _, p := range c.Parts {
		if s, ok := p.(Penalizer); ok {
			sum += s.Penalty()
		}
	}
	return sum
}

// StartData implements DataStarter.
func (c *Combination) StartData(texts iter.Seq[[]int32]) error {
	for _, p := range c.Parts {
		if s, ok := p.(DataStarter); ok {
			if err := s.StartData(texts); err != nil {
				return err
			}
		}
	}
	return nil
}

// Calibrate implements Calibrator.
func (c *Combination) Calibrate(ctx context.Context, m *model.Model, batches iter.Seq[*model.Batch]) error {
	for _, p := range c.Parts {
		if s, ok := p.(Calibrator); ok {
			if err := s.Calibrate(ctx, m, batches); err != nil {
				return err
			}
		}
	}
	return nil
}

// SaveTo implements Saver: one folder a part, and the index.
func (c *Combination) SaveTo(ctx context.Context, path string, files map[string][]byte) error {
	ix := index{Kind: indexKind, Version: indexVersion}
	for i, info := range c.Infos {
		ix.Parts = append(ix.Parts, indexPart{info.Name, fmt.Sprintf("%d-%s", i+1, info.Name)})
	}
	text, err := json.MarshalIndent(ix, "", "  ")
	if err != nil {
		return err
	}
	owned := func(name string) bool {
		return name == IndexName || files[name] != nil || slices.ContainsFunc(ix.Parts, func(p indexPart) bool { return p.Folder == name })
	}
	return atomicfile.WriteDir(ctx, path, atomicfile.DirOptions{Owned: owned, OwnedDirs: true, KeepOthers: true, Marker: IndexName}, func(stage string) error {
		for i, p := range c.Parts {
			if err := Save(ctx, filepath.Join(stage, ix.Parts[i].Folder), p, nil); err != nil {
				return err
			}
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(stage, name), b, 0o666); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(stage, IndexName), append(text, '\n'), 0o666)
	})
}

// Parts returns the adapter folders of a combination, in the order in which they
// were attached; a path that is no combination is its own only part.
func Parts(path string) ([]string, error) {
	file := filepath.Join(path, IndexName)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err != nil && !isDir(path) {
		return []string{path}, nil
	}
	if err != nil {
		return nil, err
	}
	bad := func(found string) error {
		return &formats.FileError{File: file, Err: formats.ErrHeader, Found: found, Want: fmt.Sprintf("the index of a combination: kind %q, version %d, parts with method and folder", indexKind, indexVersion)}
	}
	var ix index
	if err := json.Unmarshal(raw, &ix); err != nil {
		return nil, bad(err.Error())
	}
	if ix.Kind != indexKind || ix.Version != indexVersion {
		return nil, bad(fmt.Sprintf("kind %q, version %d", ix.Kind, ix.Version))
	}
	if len(ix.Parts) == 0 {
		return nil, bad("no parts")
	}
	var out []string
	for _, p := range ix.Parts {
		if !filepath.IsLocal(p.Folder) {
			return nil, bad(fmt.Sprintf("folder %q, which is outside", p.Folder))
		}
		out = append(out, filepath.Join(path, p.Folder))
	}
	return out, nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
