package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// Adapter converts the adapter at src between Hugging Face PEFT and GGUF.
// Renaming needs the base model's configuration: Options.Base, or
// base_model_name_or_path of the adapter if that is a local path. With
// Options.Type the factors are written in that type; the default is the type they
// have, F32 where the output format has none such.
func Adapter(ctx context.Context, src, dst string, o Options) (*Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	to, err := adapterWriter(o.To, dst)
	if err != nil {
		return nil, err
	}
	if err := checkOutput(dst, src); err != nil {
		return nil, err
	}
	a, err := peft.Read(src)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if err := peft.Check(a); err != nil {
		return nil, err
	}
	c := &adapterJob{a: a, to: to, opt: o, report: &Report{From: a.Format, To: to.Name(), Types: map[string]int{}}}
	if c.report.Ignored, err = peft.IgnoredIn(src); err != nil {
		return nil, err
	}
	if o.Rank > 0 {
		if err := c.factorise(); err != nil {
			return nil, err
		}
	}
	out, err := c.translate()
	if err != nil {
		return nil, err
	}
	out.Sources = a.Sources
	if err := c.types(out); err != nil {
		return nil, err
	}
	c.progress(out)
	if err := to.WriteAdapter(ctx, dst, out); err != nil {
		return nil, err
	}
	c.report.Notes = c.notes.lines()
	c.report.PeakBytes = peakMemory()
	return c.report, nil
}

type adapterJob struct {
	a      *formats.Adapter
	to     formats.AdapterWriter
	opt    Options
	notes  notebook
	report *Report
}

// translate returns the adapter in the naming of the output.
func (c *adapterJob) translate() (*formats.OutAdapter, error) {
	a := c.a
	if a.Naming == c.to.AdapterNaming() && a.Format != "memory" {
		return &formats.OutAdapter{Config: a.Config, Files: a.Files, Meta: a.Meta, Tensors: formats.Copy(a.Tensors)}, nil
	}
	if a.Naming == c.to.AdapterNaming() {
		config, err := c.nameBase(a.Config)
		return &formats.OutAdapter{Config: config, Files: a.Files, Tensors: formats.Copy(a.Tensors)}, err
	}
	if err := c.writable(); err != nil {
		return nil, err
	}
	names, family, err := c.base()
	if err != nil {
		return nil, err
	}
	c.report.Family = family
	if a.Naming == formats.HF {
		if err := c.withoutBases(names); err != nil {
			return nil, err
		}
		out, notes, err := peft.ToGGUF(a, names)
		if err != nil {
			return nil, err
		}
		for _, n := range notes {
			c.notes.say("%s", n)
		}
		for name := range a.Files {
			if name == "README.md" || name == "tokenizer.json" {
				c.notes.about("not carried: a GGUF adapter has no place for it", name)
			}
		}
		c.report.Matched = len(out.Tensors)
		return out, nil
	}
	hf, notes, err := peft.FromGGUF(a, names)
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		c.notes.say("%s", n)
	}
	c.report.Matched = len(hf.Tensors)
	out := &formats.OutAdapter{Config: hf.Config, Files: hf.Files, Tensors: formats.Copy(hf.Tensors)}
	out.Config, err = c.nameBase(hf.Config)
	return out, err
}

// writable refuses an adapter that GGUF has no form for, before anybody looks for
// its base model.
func (c *adapterJob) writable() error {
	if c.a.Naming != formats.HF || c.to.AdapterNaming() != formats.GGUF {
		return nil
	}
	m, err := peft.MethodOf(c.a)
	if err != nil {
		return err
	}
	if _, ok := m.(peft.GGUFConverter); ok {
		return nil
	}
	info := m.Info()
	if _, ok := m.(peft.Merger); !ok || info.NotMergeable != "" {
		why := info.NotMergeable
		if why == "" {
			why = "its change is none of weights"
		}
		return fmt.Errorf("%s: method %s has no GGUF form, nor can it be merged into a model: %s: %w", c.a.Path, info.Name, why, peft.ErrNotMergeable)
	}
	return fmt.Errorf("%s: method %s has no GGUF form: --svd-rank N writes the nearest LoRA of rank N (with --base), merge-lora a whole model: %w", c.a.Path, info.Name, ErrOption)
}

// factorise replaces the adapter by the nearest one made of pairs of factors.
func (c *adapterJob) factorise() error {
	path := c.basePath()
	if path == "" {
		return fmt.Errorf("%s: finding factors needs the base model's weights; give it with --base: %w", c.a.Path, ErrBase)
	}
	ck, err := model.Open(path)
	if err != nil {
		return fmt.Errorf("base model: %w", err)
	}
	defer ck.Close()
	if c.a.Naming != formats.HF {
		return fmt.Errorf("%s: it is an adapter of factors already; leave out the rank: %w", c.a.Path, ErrOption)
	}
	list, err := peft.Factorise(c.a, ck, c.opt.Rank)
	if err != nil {
		return err
	}
	var writer peft.FactorWriter
	for _, m := range peft.Methods() {
		if w, ok := m.(peft.FactorWriter); ok {
			writer = w
		}
	}
	if writer == nil {
		return fmt.Errorf("this peftkit has no method that writes factors: %w", ErrOption)
	}
	var norm, residual, worst float64
	worstPath := ""
	for _, f := range list {
		norm, residual = norm+f.Norm*f.Norm, residual+f.Residual*f.Residual
		if f.Norm > 0 && f.Residual/f.Norm > worst {
			worst, worstPath = f.Residual/f.Norm, f.Path
		}
	}
	c.report.Residual = 0
	if norm > 0 {
		c.report.Residual = math.Sqrt(residual / norm)
	}
	c.notes.say("%d modules as factors of rank %d: they leave out %.3g %% of the change (Frobenius norm)", len(list), c.opt.Rank, 100*c.report.Residual)
	if worstPath != "" && worst > c.report.Residual {
		c.notes.say("most in %s: %.3g %%", worstPath, 100*worst)
	}
	files, sources := c.a.Files, c.a.Sources
	if c.a, err = writer.FromFactors(c.a.Path, list); err != nil {
		return err
	}
	c.a.Files, c.a.Sources = files, sources
	c.opt.Base = path
	return nil
}

// basePath returns the path of the base model, "" when nobody tells one that is
// on this computer.
func (c *adapterJob) basePath() string {
	if c.opt.Base != "" {
		return c.opt.Base
	}
	if o, err := parseObject(c.a.Config); err == nil {
		return c.local(o.str("base_model_name_or_path"))
	}
	return ""
}

// nameBase enters the base model in adapter_config.json if it is not there.
func (c *adapterJob) nameBase(config json.RawMessage) (json.RawMessage, error) {
	o, err := parseObject(config)
	if err != nil {
		return nil, err
	}
	if c.opt.Base == "" || o.str("base_model_name_or_path") != "" {
		return config, nil
	}
	if err := o.set("base_model_name_or_path", c.opt.Base); err != nil {
		return nil, err
	}
	return o.bytes()
}

// base finds the base model and returns its module names and family. Only the
// configuration is needed: a folder without weights will do.
func (c *adapterJob) base() (*model.Names, string, error) {
	path := c.opt.Base
	if path == "" {
		o, err := parseObject(c.a.Config)
		named := ""
		if err == nil {
			named = o.str("base_model_name_or_path")
		}
		if path = c.local(named); path == "" {
			why := "the adapter does not say which model it belongs to"
			if named != "" {
				why = fmt.Sprintf("its base model %q is not a path on this computer", named)
			}
			return nil, "", fmt.Errorf("%s: %s; give the model, or a folder with its config.json, with --base: %w", c.a.Path, why, ErrBase)
		}
		c.notes.say("base model: %s", path)
	}
	m := &formats.Model{Path: path, Naming: formats.HF}
	config := path
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		config = filepath.Join(path, "config.json")
	}
	if filepath.Base(config) == "config.json" {
		b, err := os.ReadFile(config)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
		m.Config = b
	}
	if m.Config == nil {
		ck, err := model.Open(path)
		if err != nil {
			return nil, "", fmt.Errorf("base model: %w", err)
		}
		defer ck.Close()
		names, err := ck.Family.GGUFNames(ck.Config)
		return names, ck.Family.Name(), err
	}
	f, err := model.FamilyOf(m)
	if err != nil {
		return nil, "", fmt.Errorf("base model: %w", err)
	}
	names, err := f.GGUFNames(m.Config)
	if err != nil {
		return nil, "", fmt.Errorf("base model: %s: %w", path, err)
	}
	return names, f.Name(), nil
}

// local returns the path that a base model's name means, "" when there is none:
// as it is, or seen from the adapter's folder.
func (c *adapterJob) local(name string) string {
	if name == "" {
		return ""
	}
	for _, p := range []string{name, filepath.Join(c.a.Path, name)} {
		if exists(p) {
			return p
		}
	}
	return ""
}

// types brings the factors into the type that was asked for, or one that the
// format has.
func (c *adapterJob) types(out *formats.OutAdapter) error {
	naming := c.to.AdapterNaming()
	p, err := newPolicy(c.opt.Type, c.a.Naming, naming, &c.notes)
	if err != nil {
		return err
	}
	for i := range out.Tensors {
		t := &out.Tensors[i]
		typ := t.Type
		has := typ.SafeTensors != ""
		if naming == formats.GGUF {
			has = typ.GGUF >= 0
		}
		cols := 1
		if len(t.Shape) > 0 {
			cols = t.Shape[len(t.Shape)-1]
		}
		switch {
		case typ.Decode == nil && has:
		case typ.Decode == nil:
			return describe(t.Name, fmt.Errorf("type %s has no counterpart in %s: %w", typ, c.to.Name(), ErrOption))
		case p.want != nil && cols%p.want.Block != 0:
			c.notes.about(fmt.Sprintf("F16 instead of %s, whose blocks of %d do not divide the rows", p.want, p.want.Block), t.Name)
			typ = tensor.F16
		case p.want != nil:
			typ = p.want
		case !has:
			c.notes.about(fmt.Sprintf("%s written as F32, which %s has", typ, c.to.Name()), t.Name)
			typ = tensor.F32
		}
		r := c.report
		if typ == t.Type {
			r.Copied++
		} else {
			r.Reencoded++
			*t = recode(*t, typ)
		}
		r.Tensors++
		r.Types[typ.Name]++
		r.Bytes += t.Size()
	}
	if out.Meta != nil && p.want != nil && p.want.Quantised() && out.Meta.Get(keyQuantVersion) == nil {
		out.Meta.Set(keyQuantVersion, uint32(2))
	}
	return nil
}

// progress reports each tensor that is written.
func (c *adapterJob) progress(out *formats.OutAdapter) {
	if c.opt.Progress == nil {
		return
	}
	var done int64
	total := c.report.Bytes
	for i := range out.Tensors {
		t := &out.Tensors[i]
		inner, size, name := t.WriteTo, t.Size(), t.Name
		t.WriteTo = func(w io.Writer) error {
			err := inner(w)
			done += size
			c.opt.Progress(done, total, name)
			return err
		}
	}
}
