package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/kernels"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
	"github.com/spf13/cobra"
)

// machine is what doctor finds out about the computer.
type machine struct {
	Version  string   `json:"version"`
	System   string   `json:"system"`
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Logical  int      `json:"logical_cores"`
	Threads  int      `json:"threads"`
	Features []string `json:"features"`
	Tier     string   `json:"tier"`
	Tiers    []string `json:"tiers"`
	Forced   string   `json:"forced,omitempty"` // value of PEFTKIT_KERNELS
	// Measured rates.
	PeakF32   float64 `json:"gemm_f32_gflops"`
	PeakQ4    float64 `json:"gemm_q4_0_gflops"`
	Bandwidth float64 `json:"read_gigabytes_per_second"`
	// Memory in bytes, 0 where the system does not tell.
	MemoryTotal     int64    `json:"memory_total"`
	MemoryAvailable int64    `json:"memory_available"`
	MemoryLimit     int64    `json:"memory_limit,omitempty"` // of the container
	Warnings        []string `json:"warnings"`
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor [PATH]", GroupID: groupLook,
		Short: "Check this computer, or an adapter or model",
		Long: "Without a path: the processor, the kernels in use, their measured speed, memory.\n" +
			"With the path of an adapter or model: read every number in it and look for what\n" +
			"makes it useless (NaN, all zero, modules that the base model given with -m lacks).",
		Example: "peftkit doctor\npeftkit doctor adapters\npeftkit doctor adapters -m model.gguf",
		Args:    cobra.MaximumNArgs(1),
	}
	f := flagsOf(cmd)
	base := f.text("model", "m", "MODEL", "", "base model that the adapter belongs to")
	threads := threadsFlag(f)
	asJSON := f.Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tierErr := kernels.TierError()
		if err := threads(); err != nil && tierErr == nil {
			return err
		}
		if len(args) == 1 {
			return ofAdapter(a.doctorPath(cmd.Context(), args[0], *base, *asJSON))
		}
		if *base != "" {
			return usagef("-m needs the path of an adapter to check: peftkit doctor ADAPTER -m %s", quote(*base))
		}
		m := examine()
		if tierErr != nil {
			m.Warnings = append(m.Warnings, tierErr.Error())
		}
		if *asJSON {
			return printJSON(a.out, m)
		}
		a.printMachine(m)
		return nil
	}
	return cmd
}

// examine looks at the computer and measures for about half a second.
func examine() *machine {
	m := &machine{
		Version: version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpuid.CPU.BrandName, Cores: cpuid.CPU.PhysicalCores, Logical: runtime.NumCPU(), Threads: kernels.Threads(),
		Features: kernels.Features(), Tier: kernels.Tier(), Tiers: kernels.Tiers(), Forced: os.Getenv(kernels.EnvTier), Warnings: []string{},
	}
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	mem := systemMemory()
	m.MemoryTotal, m.MemoryAvailable, m.MemoryLimit = mem.total, mem.available, mem.limit
	for range 2 { // taking turns, so that a moment of other load hits both
		m.PeakF32 = max(m.PeakF32, gemmRate(nil))
		m.PeakQ4 = max(m.PeakQ4, gemmRate(tensor.Q4_0))
	}
	m.Bandwidth = readRate()
	if m.Threads < m.Logical {
		m.Warnings = append(m.Warnings, fmt.Sprintf("%s of %d cores in use", plural(m.Threads, "thread"), m.Logical))
	}
	if m.Tier == "generic" && len(m.Tiers) == 1 {
		m.Warnings = append(m.Warnings, "no fast kernels for this processor: everything works, slowly")
	}
	if m.Tier != m.Tiers[len(m.Tiers)-1] && m.Forced != "" {
		m.Warnings = append(m.Warnings, fmt.Sprintf("%s=%s forces a slower tier than %s", kernels.EnvTier, m.Forced, m.Tiers[len(m.Tiers)-1]))
	}
	return m
}

// probeTime bounds each measurement.
const probeTime = 80 * time.Millisecond

// gemmRate measures the float32 product of a training step's shape, with the
// right operand stored as typ (nil: float32 in memory), in GFLOP/s.
func gemmRate(typ *tensor.DType) float64 {
	const rows, in, out = 512, 576, 1536
	x, y := kernels.NewMat(rows, in), kernels.NewMat(rows, out)
	for i := range x.Data {
		x.Data[i] = float32(i%7) - 3
	}
	term := kernels.Term{A: x, TransB: true}
	w := make([]float32, out*in)
	for i := range w {
		w[i] = float32(i%5) - 2
	}
	if typ == nil {
		term.B = kernels.MatOf(w, out, in)
	} else {
		size, ok := typ.Size(int64(len(w)))
		if !ok {
			return 0
		}
		b := make([]byte, size)
		typ.Encode(b, w)
		t := tensor.Tensor{Name: "probe", Type: typ, Shape: []int{out, in}, Data: b}
		kw, err := t.Weight()
		if err != nil {
			return 0
		}
		term.W = kw
	}
	kernels.Gemm(y, false, term)
	best, began := math.Inf(1), time.Now()
	for time.Since(began) < probeTime {
		t0 := time.Now()
		kernels.Gemm(y, false, term)
		best = min(best, time.Since(t0).Seconds())
	}
	return 2 * rows * in * out / best / 1e9
}

// readRate measures how fast all threads read memory that no cache holds, in GB/s.
func readRate() float64 {
	const n = 24 << 20 // float32 values: 96 MiB
	v := make([]float32, n)
	for i := 0; i < n; i += 1024 {
		v[i] = 1
	}
	best, began := math.Inf(1), time.Now()
	for time.Since(began) < probeTime {
		t0 := time.Now()
		kernels.Parallel(n, 1<<16, func(lo, hi int) {
			for i := lo; i < hi; i += 1 << 13 {
				e := min(hi, i+1<<13)
				kernels.Max(v[i:e])
			}
		})
		best = min(best, time.Since(t0).Seconds())
	}
	return 4 * n / best / 1e9
}

func (a *app) printMachine(m *machine) {
	title := func(t string) { fmt.Fprintln(a.out, a.out.paint(bold, t)) }
	title("Computer")
	f := facts{s: a.out}
	f.add("processor", "%s", m.CPU)
	cores := fmt.Sprintf("%d logical", m.Logical)
	if m.Cores > 0 && m.Cores != m.Logical {
		cores += fmt.Sprintf(", %d physical", m.Cores)
	}
	f.add("cores", "%s, %s in use", cores, plural(m.Threads, "thread"))
	f.add("features", "%s", strings.Join(m.Features, " "))
	if m.MemoryTotal > 0 {
		mem := bytesText(m.MemoryTotal)
		if m.MemoryAvailable > 0 {
			mem += ", " + bytesText(m.MemoryAvailable) + " available"
		}
		if m.MemoryLimit > 0 {
			mem += ", container limit " + bytesText(m.MemoryLimit)
		}
		f.add("memory", "%s", mem)
	}
	f.add("system", "%s", m.System)
	f.print()

	fmt.Fprintln(a.out)
	title("Kernels")
	f = facts{s: a.out}
	tier := m.Tier
	if len(m.Tiers) > 1 {
		tier += fmt.Sprintf(" (of %s; force one with %s)", strings.Join(m.Tiers, ", "), kernels.EnvTier)
	}
	f.add("tier", "%s", tier)
	f.add("matrix product", "%s GFLOP/s float32, %s GFLOP/s on a Q4_0 weight", digits(m.PeakF32), digits(m.PeakQ4))
	f.add("memory read", "%s GB/s", digits(m.Bandwidth))
	f.add("peftkit", "%s", m.Version)
	f.print()
	for _, w := range m.Warnings {
		a.warn("%s", w)
	}
}

// health is what doctor finds in an adapter or model.
type health struct {
	Path       string   `json:"path"`
	Kind       string   `json:"kind"`
	Method     string   `json:"method,omitempty"`
	Tensors    int      `json:"tensors"`
	NotFinite  []string `json:"not_finite"`
	Zero       []string `json:"all_zero"`
	LargestAbs float64  `json:"largest_abs"`
	Base       string   `json:"base,omitempty"`
	Matched    int      `json:"matched,omitempty"`
	Unmatched  []string `json:"unmatched,omitempty"`
	Changed    int      `json:"changed,omitempty"`
	// Strength is the size of the change of the weights relative to the weights
	// (Frobenius norms), over all changed tensors.
	Strength  float64  `json:"strength,omitempty"`
	Strongest string   `json:"strongest,omitempty"`
	Findings  []string `json:"findings"`
	// Ignored are keys of an adapter that nothing reads.
	Ignored []peft.IgnoredKey `json:"ignored_keys,omitempty"`
}

func (a *app) doctorPath(ctx context.Context, path, base string, asJSON bool) error {
	h := &health{Path: path, NotFinite: []string{}, Zero: []string{}, Findings: []string{}, Base: base}
	var err error
	if formats.IsAdapter(path) {
		err = h.adapter(ctx, path, base)
	} else {
		if base != "" {
			ad, err := peft.Read(path) // says what is there in its place
			if err == nil {
				err = errors.Join(usagef("%s is no adapter, so -m has no meaning", path), ad.Close())
			}
			return err
		}
		err = h.model(ctx, path)
	}
	if err != nil {
		return err
	}
	a.warnIgnored(h.Ignored)
	if asJSON {
		if err := printJSON(a.out, h); err != nil {
			return err
		}
	} else {
		a.printHealth(h)
	}
	if len(h.Findings) > 0 {
		return &quietError{withCode(exitFormat, errors.New(plural(len(h.Findings), "finding")))}
	}
	return nil
}

func (h *health) model(ctx context.Context, path string) error {
	m, err := formats.OpenModel(path)
	if err != nil {
		return err
	}
	defer m.Close()
	h.Kind = "model"
	if err := h.scan(ctx, m.Tensors); err != nil {
		return err
	}
	c, err := model.FromFile(m)
	if err == nil {
		_, err = model.Build(c, model.Options{})
	}
	if err != nil {
		h.Findings = append(h.Findings, err.Error())
	}
	if len(h.Zero) > 0 {
		h.Findings = append(h.Findings, fmt.Sprintf("%s all zero, the first is %s", countAre(len(h.Zero)), h.Zero[0]))
	}
	return nil
}

func (h *health) adapter(ctx context.Context, path, base string) error {
	ad, err := peft.Read(path)
	if err != nil {
		return err
	}
	defer ad.Close()
	h.Kind = "adapter"
	h.Method, h.Ignored = ad.Meta.Str("adapter.type"), peft.Ignored(ad)
	if ad.Config != nil {
		m, err := peft.MethodOf(ad)
		if err != nil {
			h.Findings = append(h.Findings, err.Error())
		} else {
			h.Method = m.Info().Name
		}
	}
	if err := h.scan(ctx, ad.Tensors); err != nil {
		return err
	}
	if 2*len(h.Zero) >= len(ad.Tensors) {
		h.Findings = append(h.Findings, fmt.Sprintf("%s of %d all zero, the first is %s: an adapter that was never trained, or saved before it was",
			countAre(len(h.Zero)), len(ad.Tensors), h.Zero[0]))
	}
	if err := peft.Check(ad); err != nil {
		if !errors.Is(err, peft.ErrNotFinite) { // scan has told that
			h.Findings = append(h.Findings, strings.TrimPrefix(err.Error(), path+": "))
		}
		return nil // it fits no base
	}
	if base == "" {
		return nil
	}
	return h.fit(path, base)
}

func countAre(n int) string {
	if n == 1 {
		return "1 tensor is"
	}
	return fmt.Sprintf("%d tensors are", n)
}

// scan reads every number.
func (h *health) scan(ctx context.Context, tensors []*tensor.Tensor) error {
	h.Tensors = len(tensors)
	for _, t := range tensors {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.Type.Decode == nil {
			continue
		}
		cols := max(1, t.Cols())
		step := max(1, (1<<20)/cols)
		buf := make([]float32, min(step, t.Rows())*cols)
		zero, finite := true, true
		for r := 0; r < t.Rows(); r += step {
			e := min(t.Rows(), r+step)
			b := buf[:(e-r)*cols]
			if err := t.Floats(b, r, e); err != nil {
				return err
			}
			for _, v := range b {
				x := math.Abs(float64(v))
				switch {
				case math.IsNaN(x) || math.IsInf(x, 0):
					finite = false
				case x > h.LargestAbs:
					h.LargestAbs = x
				}
				zero = zero && v == 0
			}
		}
		if !finite {
			h.NotFinite = append(h.NotFinite, t.Name)
		} else if zero {
			h.Zero = append(h.Zero, t.Name)
		}
	}
	if n := len(h.NotFinite); n > 0 {
		h.Findings = append(h.Findings, fmt.Sprintf("NaN or infinity in %s, the first is %s", plural(n, "tensor"), h.NotFinite[0]))
	}
	return nil
}

// fit compares the adapter with its base model and measures how much it changes.
func (h *health) fit(path, base string) error {
	c, err := model.Open(base)
	if err != nil {
		return err
	}
	defer c.Close()
	ad, err := peft.Open(path, c)
	if err != nil {
		return err
	}
	defer ad.Close()
	if h.Method == "" {
		if m, err := peft.MethodOf(ad); err == nil {
			h.Method = m.Info().Name
		}
	}
	if name := baseName(ad.Config); name != "" && name != base {
		// Paths differ between computers; only their last parts can be compared.
		if x, y := lastPart(name), lastPart(base); x != y {
			h.Base = base + " (the adapter names " + name + ")"
		}
	}
	set, err := peft.Changes(ad, c, 1)
	switch {
	case errors.Is(err, peft.ErrNotMergeable):
		return nil
	case err != nil:
		h.Findings = append(h.Findings, strings.TrimPrefix(err.Error(), path+": "))
		return nil
	}
	h.Matched, h.Unmatched, h.Changed = set.Matched, set.Unmatched, len(set.Changes)
	if n := len(set.Unmatched); n > 0 {
		h.Findings = append(h.Findings, fmt.Sprintf("%s of the adapter fit nothing in the base model, the first is %s", plural(n, "tensor"), set.Unmatched[0]))
	}
	return h.strength(set, c)
}

func (h *health) strength(set *peft.ChangeSet, c *model.Checkpoint) error {
	var sumW, sumD, strongest float64
	for _, ch := range set.Changes {
		t := c.Tensor(ch.Tensor)
		if t == nil || ch.Apply == nil {
			continue
		}
		step := max(1, (1<<20)/max(1, t.Cols()))
		var w2, d2 float64
		for r := 0; r < t.Rows(); r += step {
			e := min(t.Rows(), r+step)
			w := make([]float32, (e-r)*t.Cols())
			if err := t.Floats(w, r, e); err != nil {
				return err
			}
			changed := append([]float32(nil), w...)
			ch.Apply(changed, r, e)
			for i := range w {
				d := float64(changed[i]) - float64(w[i])
				w2 += float64(w[i]) * float64(w[i])
				d2 += d * d
			}
		}
		sumW += w2
		sumD += d2
		if s := math.Sqrt(d2 / max(w2, 1e-30)); s > strongest {
			strongest = s
			h.Strongest = ch.Tensor
		}
	}
	if sumW > 0 {
		h.Strength = math.Sqrt(sumD / sumW)
	}
	switch {
	case h.Changed > 0 && sumD == 0:
		h.Findings = append(h.Findings, "the adapter changes nothing: its update is exactly zero")
	case h.Strength > 1:
		h.Findings = append(h.Findings, fmt.Sprintf("the update is %.3g times as large as the weights: a wrong scale (alpha), or training that diverged", h.Strength))
	}
	return nil
}

func baseName(config json.RawMessage) string {
	var c struct {
		Base string `json:"base_model_name_or_path"`
	}
	_ = json.Unmarshal(config, &c) // a missing name is no finding
	return c.Base
}

func lastPart(path string) string {
	path = strings.TrimRight(path, `/\`)
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

func (a *app) printHealth(h *health) {
	fmt.Fprintf(a.out, "%s\n\n", a.out.paint(bold, h.Path))
	f := facts{s: a.out}
	what := h.Kind
	if h.Method != "" {
		what += ", method " + h.Method
	}
	f.add("kind", "%s", what)
	f.add("tensors", "%d, largest value %s", h.Tensors, floatText(h.LargestAbs))
	f.add("not finite", "%s", noneOr(len(h.NotFinite)))
	f.add("all zero", "%s", noneOr(len(h.Zero)))
	f.add("base", "%s", h.Base)
	if h.Changed > 0 {
		f.add("fit", "%d of %s matched, %s of the base changed", h.Matched, plural(h.Matched+len(h.Unmatched), "tensor"), plural(h.Changed, "tensor"))
		f.add("strength", "update is %.3g %% of the weights; strongest in %s", 100*h.Strength, h.Strongest)
	}
	f.print()
	fmt.Fprintln(a.out)
	if len(h.Findings) == 0 {
		fmt.Fprintf(a.out, "  %s\n", a.out.paint(green, "nothing wrong found"))
	}
	for _, x := range h.Findings {
		for n, l := range wrap(x, max(20, a.out.textWidth()-4)) {
			fmt.Fprintf(a.out, "  %s %s\n", map[bool]string{true: a.out.paint(red, "!"), false: " "}[n == 0], l)
		}
	}
}

func noneOr(n int) string {
	if n == 0 {
		return "none"
	}
	return plural(n, "tensor")
}
