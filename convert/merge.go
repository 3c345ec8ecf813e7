package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// Merge writes the base model with the adapters' changes in its weights to dst.
// All changes of a tensor are added in float32, in the order of the adapters, and
// rounded once to the output type: the numbers of merge_and_unload of Hugging
// Face PEFT, within 1e-6 for float32 and one unit in the last place for bfloat16
// and float16. A tensor that no adapter changes is copied.
//
// An adapter tensor that finds no place in the base is an error
// (peft.ErrTensors), as is an adapter of which none does (peft.ErrNoMatch).
func Merge(ctx context.Context, base string, adapters []AdapterRef, dst string, o Options) (*Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(adapters) == 0 {
		return nil, fmt.Errorf("no adapter to merge: give at least one with --lora: %w", ErrOption)
	}
	to, err := modelWriter(o.To, dst)
	if err != nil {
		return nil, err
	}
	paths := []string{base}
	for _, a := range adapters {
		paths = append(paths, a.Path)
	}
	if err := checkOutput(dst, paths...); err != nil {
		return nil, err
	}
	ck, err := model.Open(base)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	j, err := newJob(ctx, ck, to, o)
	if err != nil {
		return nil, err
	}
	m := &merging{job: j, owner: map[string]string{}, replaced: map[string]peft.Change{}}
	refs, err := expand(adapters)
	if err != nil {
		return nil, err
	}
	for _, ref := range adapters {
		keys, err := peft.IgnoredIn(ref.Path)
		if err != nil {
			return nil, err
		}
		j.report.Ignored = append(j.report.Ignored, keys...)
	}
	for _, ref := range refs {
		a, err := peft.Open(ref.Path, ck)
		if err != nil {
			return nil, err
		}
		defer a.Close() // its tensors are read while the output is written
		if ref.part && m.stays(a) {
			continue
		}
		if err := m.adapter(a, ref.AdapterRef); err != nil {
			return nil, err
		}
	}
	if len(m.report.Adapters) == 0 {
		return nil, fmt.Errorf("%s: none of its parts can be merged: use them as adapters with --lora: %w", adapters[0].Path, peft.ErrNotMergeable)
	}
	if err := m.heads(); err != nil {
		return nil, err
	}
	if err := m.embeddings(); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	if err := j.plan(); err != nil {
		return nil, err
	}
	return j.run(dst)
}

// merging collects the changes of all adapters.
type merging struct {
	*job
	owner map[string]string // tensor -> last adapter that changed it
	// replaced holds what replaces a tensor, by tensor.
	replaced map[string]peft.Change
	task     model.Task // of the head that an adapter brings
	// labels are the keys of config.json about its labels.
	labels map[string]json.RawMessage
	grown  *formats.Adapter // the adapter that changes the vocabulary
}

// adapter adds one adapter's changes.
func (m *merging) adapter(a *formats.Adapter, ref AdapterRef) error {
	set, err := peft.Changes(a, m.ck, ref.Scale)
	if err != nil {
		return err
	}
	if err := m.readTask(a); err != nil {
		return err
	}
	m.report.Matched += set.Matched
	m.report.Unmatched = append(m.report.Unmatched, set.Unmatched...)
	if set.Matched == 0 || len(set.Changes) == 0 {
		return fmt.Errorf("%s: none of its %d tensors has a place in %s: %w", ref.Path, len(a.Tensors), m.ck.Source.Path, peft.ErrNoMatch)
	}
	if n := len(set.Unmatched); n > 0 {
		return fmt.Errorf("%s: %d of %d tensors have no place in %s: %s; nothing was written, because the result would not be what was trained: %w",
			ref.Path, n, len(a.Tensors), m.ck.Source.Path, some(set.Unmatched), peft.ErrTensors)
	}
	if ref.Scale == 0 {
		m.notes.say("%s: scale 0, it has no effect", ref.Path)
	}
	changed := map[string]bool{}
	for _, c := range set.Changes {
		if c.Replace != nil {
			if old, twice := m.replaced[c.Tensor]; twice && sameChange(old, c) {
				continue // parts of a combination share the head of a task
			}
			m.replaced[c.Tensor] = c
			if first := m.owner[c.Tensor]; first != "" {
				return fmt.Errorf("%s: replaces %s, which %s has changed before: merge it first: %w", ref.Path, c.Tensor, first, peft.ErrTensors)
			}
			if err := m.resize(a, c); err != nil {
				return formats.At(ref.Path, err)
			}
			m.notes.about("replaced by the copy that "+ref.Path+" carries", c.Tensor)
		}
		m.changes[c.Tensor] = append(m.changes[c.Tensor], c)
		changed[c.Tensor] = true
	}
	for _, t := range []string{m.embedName(), m.headName()} {
		if m.grown != nil && changed[t] && (m.grown != a || m.owner[t] != "") {
			return fmt.Errorf("%s: changes %s, which another adapter changes too, and one of both brings a vocabulary of %d tokens: they belong to different models: %w", ref.Path, t, m.vocab, peft.ErrTensors)
		}
	}
	for t := range changed {
		m.owner[t] = ref.Path
	}
	m.sources = append(m.sources, a.Sources...)
	m.report.Adapters = append(m.report.Adapters, AdapterReport{Path: ref.Path, Scale: ref.Scale, Matched: set.Matched, Changed: len(changed)})
	return nil
}

// expanded is an adapter, perhaps a part of a combination.
type expanded struct {
	AdapterRef
	part bool
}

// expand replaces combinations by their parts.
func expand(adapters []AdapterRef) ([]expanded, error) {
	var out []expanded
	for _, a := range adapters {
		parts, err := peft.Parts(a.Path)
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			out = append(out, expanded{AdapterRef{p, a.Scale}, len(parts) > 1})
		}
	}
	return out, nil
}

// stays notes a part of a combination that weights cannot hold: it stays an adapter.
func (m *merging) stays(a *formats.Adapter) bool {
	method, err := peft.MethodOf(a)
	if err != nil {
		return false // told when it is merged
	}
	_, merges := method.(peft.Merger)
	why := method.Info().NotMergeable
	if merges && why == "" {
		return false
	}
	m.report.Left = append(m.report.Left, a.Path)
	m.notes.say("%s (%s) stays an adapter: %s; use it with the merged model: --lora %s", a.Path, method.Info().Name, why, a.Path)
	return true
}

// sameChange reports whether two changes put the same values in a tensor's place.
func sameChange(a, b peft.Change) bool {
	if a.Replace == nil || b.Replace == nil || a.Apply != nil || b.Apply != nil || !slices.Equal(a.Shape, b.Shape) {
		return false
	}
	n := 1
	for _, d := range a.Shape {
		n *= d
	}
	rows := 1
	if len(a.Shape) > 1 {
		rows = a.Shape[0]
	}
	x, y := make([]float32, n), make([]float32, n)
	return a.Replace(x, 0, rows) == nil && b.Replace(y, 0, rows) == nil && slices.Equal(x, y)
}

// heads makes tensors for the head of a task that an adapter brings and the base
// lacks, and has the configuration say what the model then is.
func (m *merging) heads() error {
	for _, name := range slices.Sorted(maps.Keys(m.changes)) {
		list := m.changes[name]
		if m.target(name) != nil || len(list) == 0 || !list[0].New {
			continue
		}
		n := 1
		for _, d := range list[0].Shape {
			n *= d
		}
		m.fresh = append(m.fresh, tensor.FromFloats(name, list[0].Shape, make([]float32, n)))
		m.notes.about("the head of the task: the base model has none, the adapter brings it", name)
	}
	if m.task == "" || m.task.Generates() {
		return nil
	}
	var classes []string
	if raw := m.config.get("architectures"); raw != nil {
		if err := json.Unmarshal(raw, &classes); err != nil {
			return fmt.Errorf("config.json: architectures: %w", err)
		}
	}
	if len(classes) > 0 {
		if now := model.Architecture(classes[0], m.task); now != classes[0] {
			m.notes.say("architectures: %s -> %s", classes[0], now)
			if err := m.config.set("architectures", []string{now}); err != nil {
				return err
			}
		}
	}
	for _, key := range []string{"id2label", "label2id", "problem_type"} {
		if v, ok := m.labels[key]; ok {
			if err := m.config.set(key, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// labelFile names the classes of the head that an adapter carries, with the keys
// of config.json.
const labelFile = "label_map.json"

// readTask notes the task of an adapter and the names of its labels. Those of a
// combination lie beside its index.
func (m *merging) readTask(a *formats.Adapter) error {
	o, err := peft.OptionsFor(a)
	if err != nil || o.Task == "" {
		return err
	}
	if m.task != "" && m.task != o.Task {
		return fmt.Errorf("%s: it is for task %s, another adapter for %s: %w", a.Path, o.Task, m.task, peft.ErrConfig)
	}
	m.task = o.Task
	if len(o.Labels) == 0 {
		return nil
	}
	raw := a.Files[labelFile]
	if raw == nil {
		raw, err = os.ReadFile(filepath.Join(filepath.Dir(a.Path), labelFile))
		if _, missing := os.Stat(filepath.Join(filepath.Dir(a.Path), peft.IndexName)); err != nil || missing != nil {
			raw = nil
		}
	}
	if raw != nil {
		if err := json.Unmarshal(raw, &m.labels); err != nil {
			return fmt.Errorf("%s: %s: %w", a.Path, labelFile, err)
		}
		return nil
	}
	ids := map[string]string{}
	for i, l := range o.Labels {
		ids[strconv.Itoa(i)] = l
	}
	if b, err := json.Marshal(ids); err == nil && m.config.get("id2label") == nil {
		m.labels = map[string]json.RawMessage{"id2label": b}
	}
	return nil
}

// resize accepts a replacement of the base's shape, or an embedding with another
// number of tokens than the base's.
func (m *merging) resize(a *formats.Adapter, c peft.Change) error {
	t := m.target(c.Tensor)
	if t == nil || slices.Equal(c.Shape, t.Shape) {
		return nil // check reports a missing tensor
	}
	embedding := c.Tensor == m.embedName() || c.Tensor == m.headName()
	if !embedding || len(c.Shape) != 2 || len(t.Shape) != 2 || c.Shape[1] != t.Shape[1] {
		return fmt.Errorf("tensor %s: the adapter carries %v, the base model has %v: %w", c.Tensor, c.Shape, t.Shape, peft.ErrTensors)
	}
	if m.vocab > 0 && m.vocab != c.Shape[0] {
		return fmt.Errorf("tensor %s has %d tokens, another embedding %d: %w", c.Tensor, c.Shape[0], m.vocab, peft.ErrTensors)
	}
	m.vocab, m.grown = c.Shape[0], a
	return nil
}

// target returns the base tensor that a change starts from.
func (m *merging) target(name string) *tensor.Tensor {
	t := m.ck.Tensor(name)
	for _, f := range m.fresh {
		if f.Name == name {
			t = f
		}
	}
	if t == nil && name == m.headName() {
		return m.ck.Tensor(m.embedName())
	}
	return t
}

// embeddings decides about the output embedding of a base that ties it to the
// input embedding. An adapter sees two modules there: a change of one must not
// reach the other, so they become two tensors.
func (m *merging) embeddings() error {
	embed, head := m.embedName(), m.headName()
	base := m.ck.Tensor(embed)
	tied := base != nil && (m.ck.Tensor(head) == nil || m.dropHead)
	switch {
	case !tied || m.names.ToHF["output"] == "" || len(m.changes[embed])+len(m.changes[head]) == 0:
		return m.growth(false)
	case len(m.changes[head]) == 0 && !slices.ContainsFunc(m.changes[embed], func(c peft.Change) bool { return !c.Tied }):
		m.notes.about("trained as one with the input embedding, to which it stays tied", head)
		return m.growth(true)
	case m.sameReplacement():
		delete(m.changes, head)
		m.notes.about("the adapter's copy is the same as that of the input embedding, so they stay tied", head)
		return m.growth(true)
	}
	// What an adapter does to both reaches the head too, before what others do to it:
	// trained rows replace the base's.
	var both []peft.Change
	for _, c := range m.changes[embed] {
		if c.Tied {
			c.Tensor = head
			both = append(both, c)
		}
	}
	if len(both) > 0 {
		m.changes[head] = append(both, m.changes[head]...)
	}
	t := *base
	t.Name = head
	m.head = &t
	if len(m.changes[head]) > 0 {
		m.notes.about("the base model ties it to the input embedding; written as a tensor of its own with the adapter's change, tie_word_embeddings is now false", head)
	} else {
		m.notes.about("the adapter changes the input embedding only; the output embedding keeps the base model's values as a tensor of its own, tie_word_embeddings is now false", head)
	}
	return m.growth(false)
}

// sameReplacement reports whether both embeddings are replaced by the same values.
func (m *merging) sameReplacement() bool {
	a, b := m.changes[m.embedName()], m.changes[m.headName()]
	if len(a) != 1 || len(b) != 1 || a[0].Replace == nil || b[0].Replace == nil || a[0].Apply != nil || b[0].Apply != nil || !slices.Equal(a[0].Shape, b[0].Shape) {
		return false
	}
	rows, cols := a[0].Shape[0], a[0].Shape[1]
	step := max(1, stepFloats/max(1, cols))
	x, y := make([]float32, step*cols), make([]float32, step*cols)
	for r := 0; r < rows; r += step {
		end := min(rows, r+step)
		if a[0].Replace(x, r, end) != nil || b[0].Replace(y, r, end) != nil || !slices.Equal(x[:(end-r)*cols], y[:(end-r)*cols]) {
			return false
		}
	}
	return true
}

// growth checks that another vocabulary is consistent and finds its tokenizer.
func (m *merging) growth(tied bool) error {
	if m.vocab == 0 {
		return nil
	}
	embeddings := []string{m.embedName()}
	if !tied && m.target(m.headName()) != nil {
		embeddings = append(embeddings, m.headName())
	}
	for _, name := range embeddings {
		size := 0
		for _, c := range m.changes[name] {
			if c.Replace != nil {
				size = c.Shape[0]
			}
		}
		if size != m.vocab {
			return fmt.Errorf("%s brings a vocabulary of %d tokens but carries no %s of that size; save it with save_embedding_layers=True: %w",
				m.grown.Path, m.vocab, name, peft.ErrTensors)
		}
	}
	old, _ := m.config.number("vocab_size")
	m.notes.say("vocabulary: %d -> %d tokens", old, m.vocab)
	files := map[string][]byte{}
	for name, b := range m.grown.Files {
		if name != "README.md" {
			files[name] = b
		}
	}
	if files["tokenizer.json"] == nil {
		if m.to.Naming() == formats.GGUF {
			return &formats.FileError{File: m.grown.Path, Err: formats.ErrMissing, Found: fmt.Sprintf("a vocabulary of %d tokens without a tokenizer", m.vocab),
				Want: "tokenizer.json beside the adapter", Hint: "Save the tokenizer the adapter was trained with into its folder"}
		}
		m.notes.say("%s brings no tokenizer.json: the base model's is written, which does not know the new tokens", m.grown.Path)
		return nil
	}
	m.files = files
	m.notes.say("the tokenizer files are those of %s", m.grown.Path)
	return nil
}

// check refuses changes of tensors that do not exist.
func (m *merging) check() error {
	var lost []string
	for name, changes := range m.changes {
		if len(changes) > 0 && m.target(name) == nil {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		return fmt.Errorf("%s: %s: the adapters change tensors that the base model does not have: %w", m.ck.Source.Path, strings.TrimSpace(some(lost)), peft.ErrTensors)
	}
	return nil
}
