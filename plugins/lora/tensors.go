package lora

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// tensorSet hands out the tensors of a file and knows which were never asked for.
type tensorSet struct {
	byName map[string]*tensor.Tensor
	order  []string
}

// readTensors indexes an adapter's tensors under the names that PEFT 0.21
// writes; some tools leave the adapter's name ("default") or modules_to_save in.
func readTensors(a *formats.Adapter) (*tensorSet, error) {
	s := &tensorSet{byName: map[string]*tensor.Tensor{}}
	for _, t := range a.Tensors {
		name := strings.Replace(t.Name, ".modules_to_save.default.", ".", 1)
		name = strings.Replace(name, ".lora_A.default.weight", ".lora_A.weight", 1)
		name = strings.Replace(name, ".lora_B.default.weight", ".lora_B.weight", 1)
		if s.byName[name] != nil {
			return nil, fmt.Errorf("%s: two tensors are named %s: %w", a.Path, name, peft.ErrTensors)
		}
		s.byName[name] = t
		s.order = append(s.order, name)
	}
	return s, nil
}

// take returns a tensor and marks it as used; nil when there is none.
func (s *tensorSet) take(name string) *tensor.Tensor {
	t := s.byName[name]
	if t != nil {
		s.byName[name] = nil
	}
	return t
}

// rest lists the tensors that nothing took, in file order.
func (s *tensorSet) rest() []string {
	var out []string
	for _, n := range s.order {
		if s.byName[n] != nil {
			out = append(out, n)
		}
	}
	return out
}

// pair is the two factors of one module, by its path.
type pair struct {
	path      string
	a, b      *tensor.Tensor
	embedding bool
}

// pairs collects the factor pairs of a file and takes them from the set.
func (s *tensorSet) pairs(file string) ([]pair, error) {
	var out []pair
	for _, name := range s.order {
		for _, kind := range []struct {
			a, b      string
			embedding bool
		}{{".lora_A.weight", ".lora_B.weight", false}, {".lora_embedding_A", ".lora_embedding_B", true}} {
			base, ok := strings.CutSuffix(name, kind.a)
			if !ok {
				continue
			}
			p := pair{path: strings.TrimPrefix(base, prefix), a: s.take(name), b: s.take(base + kind.b), embedding: kind.embedding}
			if p.b == nil {
				return nil, fmt.Errorf("%s: %s has no partner %s: %w", file, name, base+kind.b, peft.ErrTensors)
			}
			if len(p.a.Shape) != 2 || len(p.b.Shape) != 2 || p.a.Shape[0] != p.b.Shape[1] {
				return nil, fmt.Errorf("%s: %s: A %v and B %v are no pair of factors (r,in) and (out,r): %w", file, p.path, p.a.Shape, p.b.Shape, peft.ErrTensors)
			}
			out = append(out, p)
		}
	}
	return out, nil
}
