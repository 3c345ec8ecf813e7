// Package multitaskprompt is multitask prompt tuning (Wang et al. 2023, arXiv
// 2303.02861) as a peftkit method: tasks share a prompt, and each multiplies it by
// a matrix of low rank. Files are those of Hugging Face PEFT's
// MULTITASK_PROMPT_TUNING.
package multitaskprompt

import (
	"fmt"
	"math/rand/v2"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/peft/prompts"
)

func init() { peft.Register(Method) }

// Method is multitask prompt tuning. The learning rate is the paper's; the head of
// a classifier has a hundredth of it.
var Method = &prompts.Method{
	Facts: peft.Info{
		Name: "multitask-prompt-tuning", Aliases: []string{"multitask_prompt_tuning", "multitask-prompt", "mpt"},
		PeftType: "MULTITASK_PROMPT_TUNING", Group: peft.PromptBased,
		Doc:          "trains a prompt that tasks share, times a matrix of low rank for each task",
		Reference:    "Wang et al. 2023, arXiv 2303.02861",
		NotMergeable: "its rows stand before the text: no weight of the model holds them",
		LearningRate: 3e-1,
		Options: []peft.Option{
			{Key: "num_virtual_tokens", Flag: "virtual-tokens", Default: 20, Doc: "number of trained embeddings; 100 in the paper"},
			{Key: "num_tasks", Flag: "tasks", Default: 1, Doc: "number of tasks; a batch says which one each text is of"},
			{Key: "num_ranks", Default: 1, Doc: "rank of each task's matrix"},
			{Key: "prompt_tuning_init", Flag: "prompt-init", Default: random, Doc: "RANDOM, TEXT, or from a trained source: ONLY_SOURCE_SHARED (its prompt), EXACT_SOURCE_TASK, AVERAGE_SOURCE_TASKS"},
			{Key: "prompt_tuning_init_text", Flag: "prompt-text", Doc: "text whose embeddings TEXT begins with"},
			{Key: "prompt_tuning_init_state_dict_path", Flag: "prompt-source", Doc: "folder of the source adapter, or its adapter_model.safetensors"},
			{Key: "prompt_tuning_init_task", Default: 0, Doc: "task of the source for EXACT_SOURCE_TASK"},
			{Key: "tokenizer_name_or_path", Doc: "where PEFT finds the tokenizer of the text; the model's own is used here"},
			{Key: "modules_to_save", Doc: "modules to train in full and keep in the adapter"},
		},
	},
	HeadRate: 0.01,
	Encoder:  encoder,
	Init:     initialise,
	Attach:   attach,
	Wrap:     prompts.WaitForText,
}

const (
	random       = "RANDOM"
	onlyShared   = "ONLY_SOURCE_SHARED"
	exactTask    = "EXACT_SOURCE_TASK"
	averageTasks = "AVERAGE_SOURCE_TASKS"
)

type config struct {
	Tasks int    `json:"num_tasks"`
	Ranks int    `json:"num_ranks"`
	Init  string `json:"prompt_tuning_init"`
	Path  string `json:"prompt_tuning_init_state_dict_path"`
	Task  int    `json:"prompt_tuning_init_task"`
}

func read(a *prompts.Adapter) (config, error) {
	c := config{Tasks: 1, Ranks: 1, Init: random}
	if err := a.Cfg.Decode(&c); err != nil {
		return c, err
	}
	if c.Tasks < 1 || c.Ranks < 1 {
		return c, fmt.Errorf("num_tasks is %d and num_ranks %d, expected 1 or more: %w", c.Tasks, c.Ranks, peft.ErrConfig)
	}
	return c, nil
}

// encoder declares the shared prompt, cols [tasks, rows, ranks] and rows [tasks,
// ranks, width].
func encoder(a *prompts.Adapter, _ bool) (prompts.Encoder, error) {
	c, err := read(a)
	if err != nil {
		return nil, err
	}
	g := a.Geometry
	a.Beside = []*nn.Param{
		nn.NewParam("prefix_task_cols", c.Tasks, g.Rows(), c.Ranks),
		nn.NewParam("prefix_task_rows", c.Tasks, c.Ranks, g.Width),
	}
	return prompts.NewDirect(g.Rows(), g.Width), nil
}

func initialise(a *prompts.Adapter, rng *rand.Rand) error {
	c, err := read(a)
	if err != nil {
		return err
	}
	for _, p := range a.Beside {
		prompts.Normal(rng, p.V.Data, 0.02)
	}
	switch c.Init {
	case onlyShared, exactTask, averageTasks:
		return fromSource(a, c)
	}
	return prompts.Begin(a, rng)
}

// attach puts the prompt of each sequence's task before it: in an encoder-decoder
// model the first half of the rows in the encoder and the second in the decoder,
// as PEFT does in training.
func attach(a *prompts.Adapter) error {
	c, err := read(a)
	if err != nil {
		return err
	}
	g := a.Geometry
	if n := a.Model.Tasks; n == 0 || c.Tasks < n {
		a.Model.Tasks = c.Tasks
	}
	cols, rows := a.Beside[0].V, a.Beside[1].V
	for i, in := range a.Model.Inputs {
		if i >= g.Submodules {
			break
		}
		first := i * g.Tokens
		in.Hook(func(t *nn.Tape, r *model.Rows) {
			if r.Continues() {
				r.Shift(g.Tokens)
				return
			}
			tasks := tasksOf(r, c.Tasks)
			shared := prompts.Part(t, a.Encoder.Forward(t), first, first+g.Tokens)
			made := map[int32]*nn.Var{}
			parts := make([]*nn.Var, len(tasks))
			for k, task := range tasks {
				if made[task] == nil {
					from := int(task)*g.Rows() + first
					u := prompts.Part(t, cols, from, from+g.Tokens)
					v := prompts.Part(t, rows, int(task)*c.Ranks, (int(task)+1)*c.Ranks)
					made[task] = nn.Mul(t, shared, nn.MatMul(t, u, v))
				}
				parts[k] = made[task]
			}
			if len(made) == 1 {
				r.Insert(t, parts[0], g.Tokens)
				return
			}
			r.Insert(t, nn.Concat(t, parts...), g.Tokens)
		})
	}
	return nil
}

// tasksOf returns the task of each sequence. A number that the adapter does not
// have panics, as a token outside of the vocabulary does.
func tasksOf(r *model.Rows, n int) []int32 {
	tasks := r.Batch.Tasks
	if tasks == nil {
		return make([]int32, len(r.Seqs))
	}
	if len(tasks) != len(r.Seqs) {
		panic(fmt.Sprintf("multitaskprompt: tasks of %d sequences for %d", len(tasks), len(r.Seqs)))
	}
	for _, task := range tasks {
		if task < 0 || int(task) >= n {
			panic(fmt.Sprintf("multitaskprompt: task %d of %d", task, n))
		}
	}
	return tasks
}
