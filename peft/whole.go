package peft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/tensor"
)

// WholeModule makes a module trainable on its own, untied from any other, and
// returns its weight and bias under the names of modules_to_save.
func WholeModule(mod *model.Module) []*nn.Param {
	mod.Untie()
	p := mod.Weight().Unfreeze()
	p.Name = Prefix + mod.Path + ".weight"
	out := []*nn.Param{p}
	if b := mod.Bias(); b != nil {
		q := b.Unfreeze()
		q.Name = Prefix + mod.Path + ".bias"
		out = append(out, q)
	}
	return out
}

// TensorSet hands out the tensors of an adapter file and knows which were never
// asked for.
type TensorSet struct {
	path   string
	byName map[string]*tensor.Tensor
	order  []string
	taken  int
}

// NewTensorSet indexes an adapter's tensors under the names that PEFT 0.21
// writes; some tools leave the adapter's name ("default") or modules_to_save in.
func NewTensorSet(a *formats.Adapter) (*TensorSet, error) {
	return tensorSet(a, func(name string) string {
		name = strings.Replace(name, ".modules_to_save.default.", ".", 1)
		if i := strings.LastIndex(name, ".default"); i >= 0 && (i+8 == len(name) || name[i+8:] == ".weight" || name[i+8:] == ".bias") {
			name = name[:i] + name[i+8:]
		}
		return name
	})
}

// ExactTensorSet indexes an adapter's tensors under the names in the file.
func ExactTensorSet(a *formats.Adapter) (*TensorSet, error) {
	return tensorSet(a, func(name string) string { return name })
}

func tensorSet(a *formats.Adapter, rename func(string) string) (*TensorSet, error) {
	s := &TensorSet{path: a.Path, byName: map[string]*tensor.Tensor{}}
	for _, t := range a.Tensors {
		name := rename(t.Name)
		if s.byName[name] != nil {
			return nil, fmt.Errorf("%s: two tensors are named %s: %w", a.Path, name, ErrTensors)
		}
		s.byName[name] = t
		s.order = append(s.order, name)
	}
	return s, nil
}

// Has reports whether a tensor is there and was not taken.
func (s *TensorSet) Has(name string) bool { return s.byName[name] != nil }

// Peek returns a tensor that was not taken, nil when there is none.
func (s *TensorSet) Peek(name string) *tensor.Tensor { return s.byName[name] }

// Take returns a tensor and marks it as used; nil when there is none.
func (s *TensorSet) Take(name string) *tensor.Tensor {
	t := s.byName[name]
	if t != nil {
		s.byName[name] = nil
		s.taken++
	}
	return t
}

// Rename lets a tensor that was not taken be found under another name.
func (s *TensorSet) Rename(from, to string) {
	for i, n := range s.order {
		if n == from {
			s.order[i] = to
		}
	}
	s.byName[to] = s.byName[from]
	delete(s.byName, from)
}

// Rest lists the tensors that nothing took, in file order.
func (s *TensorSet) Rest() []string {
	var out []string
	for _, n := range s.order {
		if s.byName[n] != nil {
			out = append(out, n)
		}
	}
	return out
}

// Taken counts the tensors that were used.
func (s *TensorSet) Taken() int { return s.taken }

// Fill reads the parameters from the file: each must be there in its shape, and
// nothing may be left over. The error tells all that is wrong.
func (s *TensorSet) Fill(params ...*nn.Param) error {
	var missing []string
	for _, p := range params {
		t := s.Take(p.Name)
		if t == nil {
			missing = append(missing, p.Name)
			continue
		}
		if !slices.Equal(t.Shape, p.Shape) {
			return fmt.Errorf("%s: %s has shape %v, the model and the configuration want %v: %w", s.path, p.Name, t.Shape, p.Shape, ErrTensors)
		}
		if err := t.Floats(p.V.Data, 0, t.Rows()); err != nil {
			return formats.At(s.path, err)
		}
	}
	rest := s.Rest()
	if len(missing)+len(rest) == 0 {
		return nil
	}
	var parts []string
	if len(missing) > 0 {
		parts = append(parts, fmt.Sprintf("%d of the %d tensors that its configuration wants in this model are missing, the first is %s", len(missing), len(params), missing[0]))
	}
	if len(rest) > 0 {
		parts = append(parts, fmt.Sprintf("%d tensors have no place in this model, the first is %s", len(rest), rest[0]))
	}
	kind := ErrTensors
	if s.taken == 0 {
		kind = ErrNoMatch
	}
	return fmt.Errorf("%s: %s: %w", s.path, strings.Join(parts, "; "), kind)
}

// BuildFor builds the base model of a saved adapter, with the head that its
// task_type asks for: the model that its tensors are about.
func BuildFor(a *formats.Adapter, c *model.Checkpoint) (*model.Model, error) {
	o, err := OptionsFor(a)
	if err != nil {
		return nil, err
	}
	return model.Build(c, o)
}

// OptionsFor returns the task of a saved adapter, and as many labels with made-up
// names as the head that it carries has.
func OptionsFor(a *formats.Adapter) (model.Options, error) {
	if m, err := MethodOf(a); err == nil {
		if t, ok := m.(Tasker); ok {
			return t.OptionsFor(a)
		}
	}
	cfg, err := ParseConfig(a.Config)
	if err != nil {
		return model.Options{}, formats.At(a.Path, err)
	}
	o := model.Options{Task: cfg.TaskType}
	if o.Task == model.SequenceClassification || o.Task == model.TokenClassification {
		if n := headLabels(a); n > 0 {
			for i := range n {
				o.Labels = append(o.Labels, fmt.Sprintf("LABEL_%d", i))
			}
		}
	}
	return o, nil
}

// headLabels returns the number of labels of the head that an adapter carries, 0
// when it has none: the rows of its last matrix.
func headLabels(a *formats.Adapter) int {
	n := 0
	for _, t := range a.Tensors {
		if len(t.Shape) != 2 {
			continue
		}
		for _, head := range []string{"score.weight", "classifier.weight", "out_proj.weight"} {
			if strings.HasSuffix(t.Name, "."+head) && (head != "out_proj.weight" || strings.Contains(t.Name, "classif")) {
				n = t.Shape[0]
			}
		}
	}
	return n
}

// ReplaceBy is the change that puts a whole parameter in the place of the base's
// tensor, or beside the base's where it is the head of a task.
func ReplaceBy(p *nn.Param, m *model.Model) Change {
	name := strings.TrimPrefix(strings.Replace(p.Name, ".base_layer.", ".", 1), Prefix)
	c := Change{Tensor: name, Shape: p.Shape, Replace: func(dst []float32, r0, r1 int) error {
		copy(dst, p.V.Data[r0*p.V.Cols:r1*p.V.Cols])
		return nil
	}}
	for _, mod := range m.Modules {
		if mod.Head && strings.HasPrefix(name, mod.Path+".") {
			c.New = true
		}
	}
	if !c.New {
		c.stored(p, m)
	}
	return c
}

// stored finds the base's tensor of a parameter that it keeps under another name
// than the module's (BART's shared embeddings), and whether several modules have it.
func (c *Change) stored(p *nn.Param, m *model.Model) {
	users, name := 0, ""
	for _, mod := range m.Modules {
		if w := mod.Weight(); w.P == p {
			users, name = users+1, w.Name
		}
		if b := mod.Bias(); b != nil && b.P == p {
			name = b.Name
		}
	}
	c.Tied = users > 1
	if m.Checkpoint == nil || m.Checkpoint.Tensor(c.Tensor) != nil || name == "" || users == 1 {
		return // a weight that was untied is a tensor of its own
	}
	t := m.Checkpoint.Tensor(name)
	if t != nil && t.Elements() == int64(len(p.V.Data)) && (users == 0 || slices.Equal(t.Shape, c.Shape)) {
		c.Tensor, c.Shape = name, t.Shape
	}
}

// ShortNames returns the distinct last components of module paths, sorted; with
// them PEFT selects the same modules in a model where every linear layer but the
// head was chosen.
func ShortNames(paths []string) []string {
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

// Endings lists the distinct last components of the paths of linear layers and
// embeddings.
func Endings(m *model.Model) []string {
	var out []string
	seen := map[string]bool{}
	for _, mod := range m.Modules {
		e := mod.Path[strings.LastIndexByte(mod.Path, '.')+1:]
		if mod.Norm == nil && !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return out
}
