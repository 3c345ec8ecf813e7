package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
	"github.com/spf13/cobra"
)

// inspection is what inspect found out about a path without touching the data
// of its tensors.
type inspection struct {
	Path          string           `json:"path"`
	Kind          string           `json:"kind"` // model, adapter, combination or tensors
	Format        string           `json:"format"`
	Files         int              `json:"files"`
	Bytes         int64            `json:"bytes"`
	Family        string           `json:"family,omitempty"`
	Problem       string           `json:"problem,omitempty"` // why this build cannot compute it
	Notes         []string         `json:"notes,omitempty"`   // what of the file is not used
	Method        string           `json:"method,omitempty"`
	Parts         []partEntry      `json:"parts,omitempty"` // of a combination
	Parameters    int64            `json:"parameters"`
	BitsPerWeight float64          `json:"bits_per_weight"`
	Facts         map[string]any   `json:"facts,omitempty"`
	Types         []typeCount      `json:"types"`
	Metadata      []metaEntry      `json:"metadata,omitempty"`
	Config        json.RawMessage  `json:"config,omitempty"`
	Tensors       []tensorEntry    `json:"tensors"`
	Modules       []moduleEntry    `json:"modules,omitempty"`
	Places        *places          `json:"places,omitempty"`
	facts         [][2]string      // the same for people
	meta          formats.Meta     // unshortened
	raw           []*tensor.Tensor // in file order
}

// partEntry is one adapter of a combination.
type partEntry struct {
	Path       string `json:"path"`
	Method     string `json:"method"`
	Format     string `json:"format"`
	Parameters int64  `json:"parameters"`
	Tensors    int    `json:"tensors"`
	Bytes      int64  `json:"bytes"`
}

type typeCount struct {
	Type       string `json:"type"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
	Bytes      int64  `json:"bytes"`
}

type metaEntry struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value any    `json:"value"`
	// Length is that of an array whose value is left out.
	Length int `json:"length,omitempty"`
}

type tensorEntry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Shape  []int  `json:"shape"`
	Bytes  int64  `json:"bytes"`
	Offset int64  `json:"offset"`
	File   string `json:"file,omitempty"`
}

type moduleEntry struct {
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Shape []int  `json:"shape"`
	Type  string `json:"type"`
	// Head marks the head of a task, which every method trains in full.
	Head bool `json:"head,omitempty"`
}

// places are where methods without a module of their own attach.
type places struct {
	Task       model.Task       `json:"task,omitempty"`
	Labels     []string         `json:"labels,omitempty"`
	Head       []string         `json:"head,omitempty"`  // modules of a task's head
	Fresh      []string         `json:"fresh,omitempty"` // tensors of it that the file does not have
	Inputs     []inputEntry     `json:"inputs"`
	Attentions []attentionEntry `json:"attentions"`
	Sublayers  []sublayerEntry  `json:"sublayers"`
}

type inputEntry struct {
	Stack     model.Stack `json:"stack"`
	Embedding string      `json:"embedding"`
}

type attentionEntry struct {
	Path    string      `json:"path"`
	Stack   model.Stack `json:"stack"`
	Layer   int         `json:"layer"`
	Cross   bool        `json:"cross"`
	Heads   int         `json:"heads"`
	KVHeads int         `json:"kv_heads"`
	HeadDim int         `json:"head_dim"`
}

type sublayerEntry struct {
	Path  string             `json:"path"`
	Kind  model.SublayerKind `json:"kind"`
	Stack model.Stack        `json:"stack"`
	Layer int                `json:"layer"`
}

func placesOf(m *model.Model) *places {
	p := &places{Task: m.Options.Task, Labels: m.Options.Labels, Head: m.HeadModules, Fresh: m.Fresh,
		Inputs: []inputEntry{}, Attentions: []attentionEntry{}, Sublayers: []sublayerEntry{}}
	for _, in := range m.Inputs {
		p.Inputs = append(p.Inputs, inputEntry{in.Stack, in.Embedding.Path})
	}
	for _, a := range m.Attentions {
		p.Attentions = append(p.Attentions, attentionEntry{a.Path, a.Stack, a.Layer, a.Cross, a.Heads, a.KVHeads, a.HeadDim})
	}
	for _, s := range m.Sublayers {
		p.Sublayers = append(p.Sublayers, sublayerEntry{s.Path, s.Kind, s.Stack, s.Layer})
	}
	return p
}

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect PATH", GroupID: groupLook,
		Short: "Show what is in a model, adapter or tensor file",
		Long: "Show what is in a file or folder: format, model family, parameters, types, sizes,\n" +
			"metadata, tensors and the module names that --target-modules of train accepts.\n" +
			"Reads a GGUF file, a Hugging Face folder, a safetensors file on its own, a PEFT\n" +
			"folder, one of the adapters library, a combination of adapters, a GGUF adapter or a\n" +
			"llama2.c checkpoint. Only headers are read, so a file of many gigabytes takes no\n" +
			"longer than a small one.",
		Example: "peftkit inspect model.gguf\n" +
			"peftkit inspect model.gguf --tensors\n" +
			"peftkit inspect model.gguf --get tokenizer.chat_template\n" +
			"peftkit inspect adapters --json",
		Args: exactArgs("PATH"),
	}
	f := flagsOf(cmd)
	tensors := f.Bool("tensors", false, "list all tensors")
	metadata := f.Bool("metadata", false, "list all metadata, or the configuration")
	modules := f.Bool("modules", false, "list the modules that methods can attach to")
	get := f.text("get", "", "KEY", "", "print the whole value of one metadata key")
	task := addTaskFlags(f)
	asJSON := f.Bool("json", false, "print one JSON object")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o, err := task.options()
		if err != nil {
			return err
		}
		i, closer, err := inspect(args[0], *modules || *asJSON, o)
		if err != nil {
			return err
		}
		defer closer()
		switch {
		case *get != "":
			return a.printKey(i, *get)
		case *asJSON:
			return printJSON(a.out, i)
		}
		a.printInspection(i)
		if *metadata {
			a.printMetadata(i)
		}
		if *modules {
			a.printModules(i)
		}
		if *tensors {
			a.printTensors(i)
		}
		if !*metadata && !*modules && !*tensors {
			fmt.Fprintf(a.out, "\n  More: %s\n", a.out.paint(cyan, "--tensors --metadata --modules --json"))
		}
		return nil
	}
	return cmd
}

// inspect opens a path as whatever it is.
func inspect(path string, modules bool, o model.Options) (*inspection, func() error, error) {
	i := &inspection{Path: path, Facts: map[string]any{}}
	switch {
	case loneSafetensors(path):
		f, err := safetensors.Open(path)
		if err != nil {
			return nil, nil, err
		}
		i.Kind, i.Format, i.raw = "tensors", "safetensors file", f.Tensors
		for _, k := range sortedKeys(f.Metadata) {
			i.meta = append(i.meta, formats.KV{Key: k, Value: f.Metadata[k]})
		}
		i.finish([]string{path})
		return i, f.Close, nil
	case isCombination(path):
		return inspectCombination(path)
	case formats.IsAdapter(path):
		ad, err := formats.OpenAdapter(path)
		if err != nil {
			return nil, nil, err
		}
		i.adapter(ad)
		i.task(path)
		return i, ad.Close, nil
	}
	m, err := formats.OpenModel(path)
	if err != nil {
		return nil, nil, err
	}
	i.model(m, modules, o)
	return i, m.Close, nil
}

// loneSafetensors reports a safetensors file given by itself: its tensors are
// shown even when a model or adapter folder surrounds it.
func loneSafetensors(path string) bool {
	st, err := os.Stat(path)
	if err != nil || st.IsDir() || !strings.HasSuffix(strings.ToLower(path), ".safetensors") {
		return false
	}
	head, err := formats.Head(path, 512)
	return err == nil && formats.Impostor(path, head) == nil
}

func (i *inspection) model(m *formats.Model, modules bool, o model.Options) {
	i.Kind, i.Format, i.meta, i.raw, i.Config = "model", m.Format, m.Meta, m.Tensors, m.Config
	i.finish(m.Sources)
	c, err := model.FromFile(m)
	config := m.Config
	if err == nil {
		i.Family, config, i.Notes = c.Family.Name(), c.Config, c.Notes
		if modules {
			i.modules(c, o)
		}
	} else {
		i.Problem = strings.TrimPrefix(err.Error(), m.Path+": ")
	}
	i.modelFacts(m, config)
}

// modules lists what the network is made of; the problem is noted when it cannot be built.
// A bare encoder is built without a head unless o asks for one.
func (i *inspection) modules(c *model.Checkpoint, o model.Options) {
	m, err := model.Build(c, o)
	if err != nil && o.Task == "" {
		o.Task = model.FeatureExtraction
		if bare, e := model.Build(c, o); e == nil {
			m, err = bare, nil
		}
	}
	if err != nil {
		i.Problem = err.Error()
		return
	}
	i.Places = placesOf(m)
	for _, mod := range m.Modules {
		e := moduleEntry{Path: mod.Path, Kind: mod.Kind(), Head: mod.Head}
		t := c.Tensor(mod.Path + ".weight")
		switch {
		case t != nil:
			e.Shape, e.Type = t.Shape, t.Type.Name
		case mod.Output && m.TiedHead:
			e.Shape, e.Type = []int{mod.Linear.W.Out, mod.Linear.W.In}, "tied"
		case mod.Linear != nil:
			e.Shape, e.Type = []int{mod.Linear.W.Out, mod.Linear.W.In}, "new"
		}
		i.Modules = append(i.Modules, e)
	}
}

// isCombination reports a folder of several adapters with an index.
func isCombination(path string) bool {
	_, err := os.Stat(filepath.Join(path, peft.IndexName))
	return err == nil
}

// inspectCombination opens all parts of a combination.
func inspectCombination(path string) (*inspection, func() error, error) {
	folders, err := peft.Parts(path)
	if err != nil {
		return nil, nil, err
	}
	i := &inspection{Path: path, Kind: "combination", Facts: map[string]any{}}
	var open []*formats.Adapter
	closer := func() error {
		var errs []error
		for _, ad := range open {
			errs = append(errs, ad.Close())
		}
		return errors.Join(errs...)
	}
	var sources, methods, kinds []string
	base := ""
	for _, folder := range folders {
		ad, err := formats.OpenAdapter(folder)
		if err != nil {
			return nil, nil, errors.Join(err, closer())
		}
		open = append(open, ad)
		part := &inspection{Path: folder, Facts: map[string]any{}}
		part.adapter(ad)
		i.Parts = append(i.Parts, partEntry{folder, part.Method, ad.Format, part.Parameters, len(part.Tensors), part.Bytes})
		if part.Problem != "" && i.Problem == "" {
			i.Problem = folder + ": " + part.Problem
		}
		if v, ok := part.Facts["base_model_name_or_path"].(string); ok && base == "" {
			base = v
		}
		sources, methods, i.raw = append(sources, ad.Sources...), append(methods, part.Method), append(i.raw, ad.Tensors...)
		if !slices.Contains(kinds, ad.Format) {
			kinds = append(kinds, ad.Format)
		}
	}
	i.Method, i.Format = strings.Join(methods, "+"), strings.Join(kinds, " and ")
	i.finish(sources)
	i.fact("base model", "base_model_name_or_path", base)
	i.task(path)
	return i, closer, nil
}

// task tells what an adapter's head is for, with the labels and tasks beside it.
func (i *inspection) task(path string) {
	o, err := adapterOptions(path)
	if err != nil {
		if i.Problem == "" {
			i.Problem = err.Error()
		}
		return
	}
	if o.Task != "" {
		i.Facts["task"] = string(o.Task)
		text := taskText(o.Task)
		if o.Problem == model.MultiLabel || o.Problem == model.Regression {
			text += ", " + strings.ReplaceAll(string(o.Problem), "_", " ")
		}
		i.facts = append(i.facts, [2]string{"task", text})
	}
	if len(o.Labels) > 0 {
		i.Facts["labels"] = o.Labels
		i.facts = append(i.facts, [2]string{"labels", someNames(o.Labels)})
	}
	if names, err := readTasks(path, nil); err == nil && len(names) > 0 {
		i.Facts["tasks"] = names
		i.facts = append(i.facts, [2]string{"told apart", someNames(names)})
	}
}

// someNames lists the first of many names.
func someNames(names []string) string {
	const most = 12
	if len(names) > most {
		return fmt.Sprintf("%s … (%d)", strings.Join(names[:most], ", "), len(names))
	}
	return strings.Join(names, ", ")
}

func (i *inspection) adapter(ad *formats.Adapter) {
	i.Kind, i.Format, i.meta, i.raw, i.Config = "adapter", ad.Format, ad.Meta, ad.Tensors, ad.Config
	i.finish(ad.Sources)
	if ad.Config == nil {
		i.Method = ad.Meta.Str("adapter.type")
		i.fact("base", "general.architecture", ad.Meta.Str("general.architecture"))
		if v, ok := ad.Meta.Float("adapter.lora.alpha"); ok {
			i.fact("alpha", "adapter.lora.alpha", v)
		}
		return
	}
	var config map[string]any
	if err := json.Unmarshal(ad.Config, &config); err != nil {
		i.Problem = "adapter_config.json: " + err.Error()
		return
	}
	m, err := peft.MethodOf(ad)
	if err != nil {
		i.Method, _ = config["peft_type"].(string)
		i.Problem = strings.TrimPrefix(err.Error(), ad.Path+": ")
	} else {
		i.Method = m.Info().Name
	}
	i.fact("base model", "base_model_name_or_path", config["base_model_name_or_path"])
	// The adapters library names the model and its class, and nests the method's options.
	i.fact("base model", "model_name", config["model_name"])
	i.fact("model class", "model_class", config["model_class"])
	i.fact("name", "name", config["name"])
	i.fact("library", "version", config["version"])
	if err == nil {
		options := config
		if own, ok := config["config"].(map[string]any); ok {
			options = own
		}
		for _, o := range m.Info().Options {
			if v := options[o.Key]; !blank(v) {
				i.fact(o.Key, o.Key, v)
			}
		}
	}
}

// blank reports a configuration value that says nothing.
func blank(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case bool:
		return !x
	case string:
		return x == ""
	case []any:
		return len(x) == 0
	case map[string]any:
		return len(x) == 0
	}
	return false
}

// fact records one thing for people and programs.
func (i *inspection) fact(label, key string, v any) {
	if blank(v) {
		return
	}
	i.Facts[key] = v
	i.facts = append(i.facts, [2]string{label, valueText(v)})
}

// finish counts what the tensors are made of.
func (i *inspection) finish(files []string) {
	i.Files = len(files)
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			i.Bytes += st.Size()
		}
	}
	var bits int64
	byType := map[string]*typeCount{}
	for _, t := range i.raw {
		c := byType[t.Type.Name]
		if c == nil {
			c = &typeCount{Type: t.Type.Name}
			byType[t.Type.Name] = c
		}
		n := t.Elements()
		c.Tensors++
		c.Parameters += n
		c.Bytes += int64(len(t.Data))
		i.Parameters += n
		bits += 8 * int64(len(t.Data))
		i.Tensors = append(i.Tensors, tensorEntry{Name: t.Name, Type: t.Type.Name, Shape: t.Shape, Bytes: int64(len(t.Data)), Offset: t.Offset, File: filepath.Base(t.File)})
	}
	for _, c := range byType {
		i.Types = append(i.Types, *c)
	}
	slices.SortFunc(i.Types, func(a, b typeCount) int {
		if a.Bytes != b.Bytes {
			return int(max(-1, min(1, b.Bytes-a.Bytes)))
		}
		return strings.Compare(a.Type, b.Type)
	})
	if i.Parameters > 0 {
		i.BitsPerWeight = float64(bits) / float64(i.Parameters)
	}
	for _, kv := range i.meta {
		e := metaEntry{Key: kv.Key, Type: metaType(kv.Value), Value: kv.Value}
		if n, ok := arrayLen(kv.Value); ok && n > 16 {
			e.Value, e.Length = nil, n
		}
		i.Metadata = append(i.Metadata, e)
	}
}

// modelFacts collects the architecture from the Hugging Face configuration (as
// read, or as the family made it from GGUF), or from GGUF keys alone.
func (i *inspection) modelFacts(m *formats.Model, config json.RawMessage) {
	c := map[string]any{}
	if config != nil {
		_ = json.Unmarshal(config, &c) // a config.json that is no object has no facts
	}
	arch := m.Meta.Str("general.architecture")
	number := func(hf, gguf string) (int64, bool) {
		if v, ok := c[hf].(float64); ok {
			return int64(v), true
		}
		return m.Meta.Int(arch + "." + gguf)
	}
	i.fact("name", "general.name", m.Meta.Str("general.name"))
	i.fact("licence", "general.license", m.Meta.Str("general.license"))
	if arch == "" {
		arch, _ = c["model_type"].(string)
	}
	var parts []string
	for _, p := range []struct{ hf, gguf, text string }{
		{"num_hidden_layers", "block_count", "%d layers"}, {"hidden_size", "embedding_length", "hidden %d"},
		{"intermediate_size", "feed_forward_length", "feed-forward %d"}, {"num_attention_heads", "attention.head_count", "%d heads"},
		{"num_key_value_heads", "attention.head_count_kv", "%d key/value heads"}, {"vocab_size", "vocab_size", "vocabulary %d"},
	} {
		if v, ok := number(p.hf, p.gguf); ok {
			i.Facts[p.hf] = v
			parts = append(parts, fmt.Sprintf(p.text, v))
		}
	}
	if len(parts) > 0 {
		i.facts = append(i.facts, [2]string{"network", strings.Join(parts, ", ")})
	}
	if v, ok := number("max_position_embeddings", "context_length"); ok {
		i.Facts["max_position_embeddings"] = v
		i.facts = append(i.facts, [2]string{"context", fmt.Sprintf("%d tokens", v)})
	}
	i.Facts["architecture"] = arch
	if text := i.tokenizerFact(m); text != "" {
		i.facts = append(i.facts, [2]string{"tokenizer", text})
	}
}

func (i *inspection) tokenizerFact(m *formats.Model) string {
	var parts []string
	template := false
	switch {
	case m.Meta.Str("tokenizer.ggml.model") != "":
		parts = append(parts, m.Meta.Str("tokenizer.ggml.model"))
		if pre := m.Meta.Str("tokenizer.ggml.pre"); pre != "" {
			parts = append(parts, "pre "+pre)
		}
		if n, ok := arrayLen(m.Meta.Get("tokenizer.ggml.tokens")); ok {
			parts = append(parts, fmt.Sprintf("%d tokens", n))
		}
		template = m.Meta.Str("tokenizer.chat_template") != ""
	case m.Files["tokenizer.json"] != nil:
		parts = append(parts, "tokenizer.json")
		template = m.Files["chat_template.jinja"] != nil || strings.Contains(string(m.Files["tokenizer_config.json"]), `"chat_template"`)
	default:
		return "none"
	}
	i.Facts["chat_template"] = template
	return strings.Join(append(parts, map[bool]string{true: "chat template", false: "no chat template"}[template]), ", ")
}

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
	if near := nearest(key, keys); near != "" {
		return withHint(err, "--get %s", near)
	}
	return withHint(err, "peftkit inspect %s --metadata lists them", i.Path)
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
