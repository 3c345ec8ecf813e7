package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/internal/spell"
)

func (a *app) printInspection(i *inspection) {
	fmt.Fprintf(a.out, "%s\n\n", a.out.paint(bold, i.Path))
	f := facts{s: a.out}
	what := i.Format + " " + i.Kind
	switch {
	case i.Kind == "tensors":
		what = i.Format
	case i.Kind == "adapter" && i.Format == "adapters":
		what = "adapter of the adapters library"
	case i.Kind == "combination":
		what = "combination of " + plural(len(i.Parts), "adapter")
	}
	f.add("format", "%s, %s, %s", what, plural(i.Files, "file"), bytesText(i.Bytes))
	switch {
	case i.Family != "":
		f.add("family", "%s", i.Family)
	case i.Kind == "model":
		f.add("family", "%v", i.Facts["architecture"])
	case i.Kind == "adapter", i.Kind == "combination":
		f.add("method", "%s", i.Method)
	}
	f.add("parameters", "%s in %s, %.3g bits each", countText(i.Parameters), plural(len(i.Tensors), "tensor"), i.BitsPerWeight)
	for _, x := range i.facts {
		f.add(x[0], "%s", x[1])
	}
	f.print()
	if len(i.Parts) > 0 {
		fmt.Fprintln(a.out)
		t := newTable(a.out, "part", "~folder", "format", ">tensors", ">parameters", ">size")
		for _, p := range i.Parts {
			t.row(p.Method, filepath.Base(p.Path), p.Format, fmt.Sprint(p.Tensors), countText(p.Parameters), bytesText(p.Bytes))
		}
		t.print()
	}
	notes := i.Notes
	if i.Problem != "" {
		notes = append([]string{i.Problem}, notes...)
	}
	for k, note := range notes {
		if k == 0 {
			fmt.Fprintln(a.out)
		}
		for n, l := range wrap(note, max(20, a.out.textWidth()-8)) {
			fmt.Fprintf(a.out, "  %s %s\n", pad(map[bool]string{true: a.out.paint(yellow, "note:")}[n == 0], 5), l)
		}
	}
	fmt.Fprintln(a.out)
	t := newTable(a.out, "type", ">tensors", ">parameters", ">size", ">share")
	var total int64
	for _, c := range i.Types {
		total += c.Bytes
	}
	for _, c := range i.Types {
		t.row(c.Type, fmt.Sprint(c.Tensors), countText(c.Parameters), bytesText(c.Bytes), percentText(c.Bytes, total))
	}
	t.print()
}

func (a *app) printMetadata(i *inspection) {
	fmt.Fprintf(a.out, "\n%s\n", a.out.paint(bold, "Metadata"))
	if i.Config != nil {
		var v any
		if err := json.Unmarshal(i.Config, &v); err != nil {
			fmt.Fprintf(a.out, "%s\n", i.Config)
		} else {
			_ = printJSON(a.out, v)
		}
	}
	if len(i.meta) == 0 {
		if i.Config == nil {
			fmt.Fprintln(a.out, "  none")
		}
		return
	}
	t := newTable(a.out, "key", "type", "value")
	keys, types := 0, 0
	for _, kv := range i.meta {
		keys, types = max(keys, textLen(kv.Key)), max(types, textLen(metaType(kv.Value)))
	}
	room := max(24, a.out.width()-keys-types-6)
	if !a.out.tty {
		room = 100
	}
	for _, kv := range i.meta {
		t.row(kv.Key, metaType(kv.Value), shorten(valueText(kv.Value), room))
	}
	t.print()
}

// printKey writes one value as it is, a long text or array in full.
func (a *app) printKey(i *inspection, key string) error {
	for _, kv := range i.meta {
		if kv.Key != key {
			continue
		}
		if s, ok := kv.Value.(string); ok {
			_, err := fmt.Fprintln(a.out, s)
			return err
		}
		return printJSONLine(a.out, kv.Value)
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(i.Config, &config) == nil && config[key] != nil {
		_, err := fmt.Fprintf(a.out, "%s\n", config[key])
		return err
	}
	var keys []string
	for _, kv := range i.meta {
		keys = append(keys, kv.Key)
	}
	for k := range config {
		keys = append(keys, k)
	}
	err := usagef("%s: no metadata key %q", i.Path, key)
	if near := spell.Nearest(key, keys); near != "" {
		return withHint(err, "did you mean %q? --get %s", near, quote(near))
	}
	return withHint(err, "peftkit inspect %s --metadata lists them", quote(i.Path))
}

func (a *app) printTensors(i *inspection) {
	fmt.Fprintf(a.out, "\n%s\n", a.out.paint(bold, "Tensors"))
	t := newTable(a.out, "~name", "type", "shape", ">size")
	for _, e := range i.Tensors {
		t.row(e.Name, e.Type, shapeText(e.Shape), bytesText(e.Bytes))
	}
	t.print()
}

// printModules lists modules with layer numbers collapsed.
func (a *app) printModules(i *inspection) {
	fmt.Fprintf(a.out, "\n%s\n", a.out.paint(bold, "Modules"))
	if i.Kind != "model" {
		t := newTable(a.out, "~tensors", "shape", ">count")
		for _, g := range groupNames(i.Tensors, func(e tensorEntry) (string, string) { return e.Name, shapeText(e.Shape) }) {
			t.row(g.name, g.detail, fmt.Sprint(g.count))
		}
		t.print()
		return
	}
	if len(i.Modules) == 0 {
		fmt.Fprintln(a.out, "  unknown: this build cannot compute the model")
		return
	}
	t := newTable(a.out, "~module", "kind", "shape", "type", ">count")
	for _, g := range groupNames(i.Modules, func(m moduleEntry) (string, string) {
		return m.Path, m.Kind + "\x00" + shapeText(m.Shape) + "\x00" + m.Type
	}) {
		d := strings.Split(g.detail, "\x00")
		t.row(g.name, d[0], d[1], d[2], fmt.Sprint(g.count))
	}
	t.print()
	var ends []string
	for _, m := range i.Modules {
		if e := m.Path[strings.LastIndexByte(m.Path, '.')+1:]; m.Kind == "linear" && m.Type != "tied" && !m.Head && !slices.Contains(ends, e) {
			ends = append(ends, e)
		}
	}
	fmt.Fprintf(a.out, "\n  %s %s\n", a.out.paint(dim, "--target-modules"), strings.Join(ends, ","))
	if p := i.Places; p != nil {
		fmt.Fprintf(a.out, "\n%s\n", a.out.paint(bold, "Places of prompts, prefixes and adapters"))
		t := newTable(a.out, "~place", "kind", "stack", ">count")
		for _, in := range p.Inputs {
			t.row(in.Embedding, "input", string(in.Stack), "1")
		}
		for _, g := range groupNames(p.Attentions, func(e attentionEntry) (string, string) {
			kind := "attention"
			if e.Cross {
				kind = "cross-attention"
			}
			return e.Path, kind + "\x00" + string(e.Stack)
		}) {
			d := strings.Split(g.detail, "\x00")
			t.row(g.name, d[0], d[1], fmt.Sprint(g.count))
		}
		for _, g := range groupNames(p.Sublayers, func(e sublayerEntry) (string, string) { return e.Path, string(e.Kind) + "\x00" + string(e.Stack) }) {
			d := strings.Split(g.detail, "\x00")
			t.row(g.name, "sublayer: "+d[0], d[1], fmt.Sprint(g.count))
		}
		t.print()
	}
}

type nameGroup struct {
	name, detail string
	count        int
}

// groupNames collapses names that differ in numbers only and share the detail.
func groupNames[T any](items []T, of func(T) (name, detail string)) []*nameGroup {
	var out []*nameGroup
	index := map[[2]string]*nameGroup{}
	for _, it := range items {
		name, detail := of(it)
		parts := strings.Split(name, ".")
		for i, p := range parts {
			if p != "" && strings.Trim(p, "0123456789") == "" {
				parts[i] = "*"
			}
		}
		name = strings.Join(parts, ".")
		key := [2]string{name, detail}
		if index[key] == nil {
			index[key] = &nameGroup{name: name, detail: detail}
			out = append(out, index[key])
		}
		index[key].count++
	}
	return out
}
