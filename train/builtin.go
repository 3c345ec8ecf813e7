package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/peftkit/peftkit/internal/atomicfile"
)

// builtIn returns the hooks that the configuration asks for, in the order in
// which they run: what is written last knows of what was before.
func (t *Trainer) builtIn() []Hook {
	var out []Hook
	m := &metricsFile{}
	if t.Config.Output != "" {
		out = append(out, m.hook(filepath.Join(t.Config.Output, "metrics.jsonl")))
	}
	if t.Config.Valid != nil {
		out = append(out, t.validation(m))
	}
	if t.Config.Output != "" {
		out = append(out, t.checkpoints())
	}
	return out
}

// checkpoints saves every SaveSteps steps, at the end and when the run is interrupted.
func (t *Trainer) checkpoints() Hook {
	c := &t.Config
	saved := func() bool { return t.Checkpoint == filepath.Join(c.Output, checkpointName(t.step)) }
	save := func(ctx context.Context) error {
		if saved() {
			return nil
		}
		if err := t.Save(ctx, filepath.Join(c.Output, checkpointName(t.step))); err != nil {
			return err
		}
		return prune(c.Output, c.Keep)
	}
	return Hook{
		Step: func(ctx context.Context, t *Trainer, s *Step) error {
			if c.SaveSteps > 0 && (t.step%c.SaveSteps == 0 || t.step == t.Total) {
				return save(context.WithoutCancel(ctx))
			}
			return nil
		},
		End: func(t *Trainer, err error) error {
			if errors.Is(err, ErrInterrupted) {
				return save(context.Background())
			}
			return nil
		},
	}
}

// prune removes all but the newest keep checkpoints.
func prune(dir string, keep int) error {
	have, err := Checkpoints(dir)
	if err != nil || keep == 0 {
		return err
	}
	for len(have) > keep {
		if err := atomicfile.RemoveAll(have[0]); err != nil {
			return err
		}
		have = have[1:]
	}
	return nil
}

// validation evaluates every EvalSteps steps and at the end.
func (t *Trainer) validation(m *metricsFile) Hook {
	every := t.Config.EvalSteps
	return Hook{
		Start: func(t *Trainer) error { return fits(t.Model, t.Config.Valid) },
		Step: func(ctx context.Context, t *Trainer, s *Step) error {
			if t.step != t.Total && (every == 0 || t.step%every != 0) {
				return nil
			}
			t.tape.Reset()
			r, err := Evaluate(ctx, t.Model, t.Config.Valid)
			if err != nil {
				return err
			}
			t.Valid = r
			s.Valid = r
			line := map[string]any{"step": s.Step, "val_loss": jsonNumber(r.Loss), "val_tokens": r.Tokens, "val_top1": r.Top1}
			for name, v := range r.Metrics {
				line["val_"+name] = jsonNumber(v)
			}
			return m.put(line)
		},
	}
}

// metricsFile is metrics.jsonl: a JSON object for each step and validation.
type metricsFile struct{ f *os.File }

func (m *metricsFile) hook(path string) Hook {
	return Hook{
		Start: func(t *Trainer) error { return m.open(path, t.step) },
		Step: func(_ context.Context, _ *Trainer, s *Step) error {
			return m.put(metricsLine{
				Step: s.Step, Loss: s.Loss, LR: s.LearningRate, GradNorm: s.GradNorm, Tokens: s.Tokens, Labels: s.Labels,
				TokensPerSecond: round(s.TokensPerSecond()), Memory: s.Memory.Resident, Peak: s.Memory.Peak, Epoch: s.Epoch,
			})
		},
		End: func(*Trainer, error) error {
			if m.f == nil {
				return nil
			}
			return m.f.Close()
		},
	}
}

// metricsLine is the line of a step.
type metricsLine struct {
	Step            int     `json:"step"`
	Loss            float64 `json:"loss"`
	LR              float64 `json:"lr"`
	GradNorm        float64 `json:"grad_norm"`
	Tokens          int     `json:"tokens"`
	Labels          int     `json:"trained_tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	Memory          int64   `json:"memory_bytes"`
	Peak            int64   `json:"peak_memory_bytes"`
	Epoch           float64 `json:"epoch"`
}

// open keeps the lines up to a step and appends from there.
func (m *metricsFile) open(path string, step int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	var kept []byte
	if step > 0 {
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for line := range bytes.Lines(old) {
			var l struct {
				Step int `json:"step"`
			}
			// A line that a crash cut short is no line.
			if json.Unmarshal(line, &l) == nil && l.Step <= step {
				kept = append(kept, line...)
			}
		}
	}
	if err := atomicfile.WriteBytes(path, kept); err != nil {
		return err
	}
	var err error
	m.f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o666)
	return err
}

func (m *metricsFile) put(v any) error {
	if m.f == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	_, err = m.f.Write(append(b, '\n'))
	return err
}

// jsonNumber is a number that JSON can hold: infinity and NaN become null.
func jsonNumber(x float64) any {
	if !finite(x) {
		return nil
	}
	return x
}

// round keeps three decimals of a measured value.
func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }
