package multitaskprompt

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
	"github.com/peftkit/peftkit/tensor"
)

// fromSource begins from the prompt of other tasks: from its embeddings alone, or
// also from the matrix of one of its tasks, or from the mean of all. The saved
// configuration then says RANDOM: PEFT would want the source again to load it.
func fromSource(a *prompts.Adapter, c config) error {
	if c.Path == "" {
		return fmt.Errorf("prompt_tuning_init is %s, but prompt_tuning_init_state_dict_path is empty: %w", c.Init, peft.ErrConfig)
	}
	path := c.Path
	if filepath.Ext(path) != "" {
		path = filepath.Dir(path)
	}
	f, err := peft.Read(path)
	if err != nil {
		return fmt.Errorf("prompt_tuning_init_state_dict_path: %w", err)
	}
	defer f.Close()
	if err := peft.Check(f); err != nil {
		return fmt.Errorf("prompt_tuning_init_state_dict_path: %w", err)
	}
	d, ok := a.Encoder.(*prompts.Direct)
	if !ok {
		return fmt.Errorf("the prompt has an encoder: %w", peft.ErrConfig)
	}
	shared, err := source(f, prompts.Saved, d.P.Shape)
	if err != nil {
		return err
	}
	copy(d.P.V.Data, shared)
	a.Cfg.Set("prompt_tuning_init", random)
	if c.Init == onlyShared {
		return nil
	}
	if c.Tasks != 1 {
		return fmt.Errorf("prompt_tuning_init %s gives the matrix of one task, num_tasks is %d: %w", c.Init, c.Tasks, peft.ErrConfig)
	}
	for _, p := range a.Beside {
		if err := matrices(f, p, c); err != nil {
			return err
		}
	}
	return nil
}

// matrices fills cols or rows, [1, ...], from those of the source, [tasks, ...].
func matrices(f *formats.Adapter, p *nn.Param, c config) error {
	i := slices.IndexFunc(f.Tensors, func(t *tensor.Tensor) bool { return t.Name == p.Name })
	if i < 0 || len(f.Tensors[i].Shape) != 3 || f.Tensors[i].Shape[0] < 1 {
		return fmt.Errorf("%s: no %s of a multitask prompt: %w", f.Path, p.Name, peft.ErrTensors)
	}
	tasks := f.Tensors[i].Shape[0]
	v, err := source(f, p.Name, []int{tasks, p.Shape[1], p.Shape[2]})
	if err != nil {
		return err
	}
	n := len(p.V.Data)
	if c.Init == exactTask {
		if c.Task < 0 || c.Task >= tasks {
			return fmt.Errorf("prompt_tuning_init_task is %d, %s has %d tasks: %w", c.Task, f.Path, tasks, peft.ErrConfig)
		}
		copy(p.V.Data, v[c.Task*n:])
		return nil
	}
	for k := range n {
		sum := 0.0
		for t := range tasks {
			sum += float64(v[t*n+k])
		}
		p.V.Data[k] = float32(sum / float64(tasks))
	}
	return nil
}

// source reads a tensor of the source, which must have the given shape.
func source(f *formats.Adapter, name string, shape []int) ([]float32, error) {
	for _, t := range f.Tensors {
		if t.Name != name {
			continue
		}
		if !slices.Equal(t.Shape, shape) {
			return nil, fmt.Errorf("%s: %s has shape %v, the new prompt wants %v: %w", f.Path, name, t.Shape, shape, peft.ErrTensors)
		}
		return t.AllFloats()
	}
	return nil, fmt.Errorf("%s: no tensor %s: %w", f.Path, name, peft.ErrTensors)
}
