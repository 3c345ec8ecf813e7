package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// Auto as Config.Resume takes the newest checkpoint below the output folder.
const Auto = "auto"

// A checkpoint folder is an adapter folder with two more files.
const (
	checkpointPrefix = "checkpoint-"
	stateName        = "state.json"
	momentsName      = "optimizer.safetensors"
	paramsName       = "parameters.safetensors" // where the adapter's own file has others
	weightsName      = "adapter_model.safetensors"
	stateVersion     = 1
)

// state is state.json.
type state struct {
	Version int `json:"version"`
	Step    int `json:"step"`
	Total   int `json:"total_steps"`
	// Missed is AdamW's, where a parameter has missed a step.
	Missed []int `json:"missed,omitempty"`
	// Epoch and MicroBatch say where the next step takes its data. They follow
	// from Step and are there to be read.
	Epoch      int    `json:"epoch"`
	MicroBatch int    `json:"micro_batch"`
	Seed       string `json:"seed"`
	// Kernels is the tier that computed; another one rounds differently.
	Kernels string `json:"kernels"`
	// Content is the SHA-256 of parameters and moments.
	Content  string   `json:"content_sha256"`
	Identity identity `json:"run"`
}

// Save writes a checkpoint folder at dir, which appears when it is complete.
func (t *Trainer) Save(ctx context.Context, dir string) error {
	if t.ids.Data == "" {
		var err error
		if t.ids, err = t.identify(); err != nil {
			return err
		}
	}
	st := state{
		Version: stateVersion, Step: t.step, Total: t.Total,
		Epoch: t.step / t.PerEpoch, MicroBatch: t.step % t.PerEpoch * t.Config.GradAccum,
		Seed: fmt.Sprint(t.Config.Seed), Kernels: kernels.Tier(), Content: t.content(), Identity: t.ids,
	}
	if slices.Max(append(t.Opt.Missed, 0)) > 0 {
		st.Missed = t.Opt.Missed
	}
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	own := func(string) bool { return true }
	err = atomicfile.WriteDir(ctx, dir, atomicfile.DirOptions{Owned: own, Marker: stateName}, func(stage string) error {
		if err := peft.Save(ctx, stage, t.Adapter, t.Config.Files); err != nil {
			return err
		}
		if t.ownParams() {
			if err := safetensors.WriteFile(ctx, filepath.Join(stage, paramsName), nil, t.params(), map[string]string{"format": "pt"}); err != nil {
				return err
			}
		}
		if err := safetensors.WriteFile(ctx, filepath.Join(stage, momentsName), nil, t.moments(), map[string]string{"format": "pt"}); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(stage, stateName), append(text, '\n'), 0o666)
	})
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrCheckpoint, dir, reason(err))
	}
	t.Checkpoint = dir
	return nil
}

// moments lists the tensors of optimizer.safetensors, named as the state of a
// torch optimizer names them.
func (t *Trainer) moments() []formats.OutTensor {
	var out []formats.OutTensor
	add := func(name string, shape []int, v []float32) {
		out = append(out, formats.OutTensor{Name: name, Type: tensor.F32, Shape: shape, WriteTo: func(w io.Writer) error {
			return peft.WriteFloats(w, tensor.F32, v)
		}})
	}
	for i, p := range t.Opt.Params {
		add("exp_avg."+p.Name, p.Shape, t.Opt.M[i])
		add("exp_avg_sq."+p.Name, p.Shape, t.Opt.V[i])
	}
	for _, p := range t.state() {
		add("state."+p.Name, p.Shape, p.V.Data)
	}
	return out
}

// state lists what the method remembers between steps.
func (t *Trainer) state() []*nn.Param {
	if s, ok := t.Adapter.(peft.Stateful); ok {
		return s.State()
	}
	return nil
}

// ownParams reports whether the adapter's file does not hold the trained
// parameters themselves, so that a checkpoint must.
func (t *Trainer) ownParams() bool {
	_, exports := t.Adapter.(peft.Exporter)
	_, saves := t.Adapter.(peft.Saver)
	return exports || saves
}

func (t *Trainer) params() []formats.OutTensor {
	var out []formats.OutTensor
	for _, p := range t.Opt.Params {
		out = append(out, peft.OutParam(p))
	}
	return out
}

// content hashes parameters, moments and the method's state in order.
func (t *Trainer) content() string {
	h := sha256.New()
	buf := make([]byte, 0, 1<<16)
	add := func(v []float32) {
		for c := range slices.Chunk(v, 1<<14) {
			buf = buf[:0]
			for _, x := range c {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
			}
			h.Write(buf)
		}
	}
	for i, p := range t.Opt.Params {
		for _, v := range [][]float32{p.V.Data, t.Opt.M[i], t.Opt.V[i]} {
			add(v)
		}
	}
	for _, p := range t.state() {
		add(p.V.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Checkpoints lists the checkpoint folders below a folder, the oldest first.
func Checkpoints(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), checkpointPrefix))
		if err != nil || n < 0 || !e.IsDir() || e.Name() != checkpointName(n) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name(), stateName)); err == nil {
			steps = append(steps, n)
		}
	}
	slices.Sort(steps)
	out := make([]string, len(steps))
	for i, n := range steps {
		out[i] = filepath.Join(dir, checkpointName(n))
	}
	return out, nil
}

// reason is an error of the system without the path of the temporary file.
func reason(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

func checkpointName(step int) string { return checkpointPrefix + strconv.Itoa(step) }

// load restores a checkpoint, after making sure that it belongs to this run.
func (t *Trainer) load(dir string) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w %w", ErrCheckpoint, formats.At(dir, fmt.Errorf(format, args...)))
	}
	raw, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		return fail("%w", err)
	}
	var st state
	if err := json.Unmarshal(raw, &st); err != nil {
		return fail("%s: %w", stateName, err)
	}
	if st.Version != stateVersion {
		return fail("%s is of version %d; this peftkit reads %d", stateName, st.Version, stateVersion)
	}
	if d := st.Identity.drift(&t.ids); len(d) > 0 {
		return fmt.Errorf("%w: %s: %s; continue with the settings, data and base of then, or train anew in another output folder", ErrDrift, dir, strings.Join(d, "; "))
	}
	if st.Step < 0 || st.Step > t.Total {
		return fail("%s: step %d of %d", stateName, st.Step, t.Total)
	}
	if n := len(st.Missed); n != 0 && n != len(t.Opt.Missed) {
		return fail("%s: missed steps of %d parameters, expected %d", stateName, n, len(t.Opt.Missed))
	}
	// The same data give the parameters the sizes that they had.
	if err := t.calibrate(context.Background()); err != nil {
		return fail("%w", err)
	}
	weights := weightsName
	if t.ownParams() {
		weights = paramsName
	}
	if err := t.loadTensors(filepath.Join(dir, weights), nil, func(i int) map[string][]float32 {
		return map[string][]float32{t.Opt.Params[i].Name: t.Opt.Params[i].V.Data}
	}); err != nil {
		return fail("%w", err)
	}
	if err := t.loadTensors(filepath.Join(dir, momentsName), t.state(), func(i int) map[string][]float32 {
		name := t.Opt.Params[i].Name
		return map[string][]float32{"exp_avg." + name: t.Opt.M[i], "exp_avg_sq." + name: t.Opt.V[i]}
	}); err != nil {
		return fail("%w", err)
	}
	if st.Content != t.content() {
		return fail("the weights or moments are not those that were saved: the checkpoint is damaged; use an earlier one")
	}
	if st.Kernels != kernels.Tier() {
		t.Notes = append(t.Notes, fmt.Sprintf("the checkpoint was computed with %s kernels, now it is %s: the result will differ in the last bits", st.Kernels, kernels.Tier()))
	}
	copy(t.Opt.Missed, st.Missed)
	t.step, t.resumed, t.Opt.Step, t.Checkpoint = st.Step, st.Step, st.Step, dir
	return nil
}

// loadTensors fills the slices that want names for each parameter from a file,
// which must have exactly these tensors.
func (t *Trainer) loadTensors(path string, state []*nn.Param, want func(param int) map[string][]float32) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n := 0
	read := func(name string, shape []int, dst []float32) error {
		x := f.Tensor(name)
		if x == nil {
			return fmt.Errorf("%s: no tensor %q", path, name)
		}
		if x.Type != tensor.F32 || !slices.Equal(x.Shape, shape) {
			return fmt.Errorf("%s: %q is %s %v, expected F32 %v", path, name, x.Type, x.Shape, shape)
		}
		n++
		if err := x.Floats(dst, 0, x.Rows()); err != nil {
			return err
		}
		if i := slices.IndexFunc(dst, func(v float32) bool { return v != v || v > math.MaxFloat32 }); i >= 0 {
			return fmt.Errorf("%s: %q holds %v (value %d): the run had diverged; use an earlier checkpoint: %w", path, name, dst[i], i, peft.ErrNotFinite)
		}
		return nil
	}
	for i, p := range t.Opt.Params {
		for name, dst := range want(i) {
			if err := read(name, p.Shape, dst); err != nil {
				return err
			}
		}
	}
	for _, p := range state {
		if err := read("state."+p.Name, p.Shape, p.V.Data); err != nil {
			return err
		}
	}
	if n != len(f.Tensors) {
		return fmt.Errorf("%s: %d tensors, expected %d", path, len(f.Tensors), n)
	}
	return nil
}

// prepare sets the hooks and finds the state to begin with.
func (t *Trainer) prepare() error {
	c := &t.Config
	if c.Output == "" && c.Resume == "" {
		t.hooks = append(t.builtIn(), c.Hooks...)
		return nil
	}
	var err error
	if t.ids, err = t.identify(); err != nil {
		return err
	}
	var have []string
	if c.Output != "" {
		if have, err = Checkpoints(c.Output); err != nil {
			return err
		}
	}
	switch {
	case c.Resume == "" && len(have) > 0:
		return fmt.Errorf("%w: %s is of an earlier run; resume it (--resume), remove it, or choose another output folder", ErrCheckpoint, have[len(have)-1])
	case c.Resume == Auto && len(have) == 0:
		return fmt.Errorf("%w: none to resume in %s: %w", ErrCheckpoint, c.Output, fs.ErrNotExist)
	case c.Resume == Auto:
		err = t.load(have[len(have)-1])
	case c.Resume != "":
		err = t.load(c.Resume)
	}
	t.hooks = append(t.builtIn(), c.Hooks...)
	return err
}
