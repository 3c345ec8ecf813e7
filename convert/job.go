package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// job is one conversion of a model, with or without adapters merged into it.
type job struct {
	ctx    context.Context
	ck     *model.Checkpoint
	to     formats.ModelWriter
	opt    Options
	notes  notebook
	policy *policy
	config object // config.json of the output
	names  *model.Names
	report Report

	// changes lists what the adapters do, by Hugging Face tensor name.
	changes map[string][]peft.Change
	// head, when not nil, is an output embedding that the base model ties and the
	// output does not.
	head *tensor.Tensor
	// fresh are tensors that the base does not have: the head of a task.
	fresh []*tensor.Tensor
	// dropHead says that the base stores a copy of the tied head.
	dropHead bool
	// vocab is the number of tokens when an adapter changes it, else 0; files
	// are the tokenizer files that belong to it.
	vocab   int
	files   map[string][]byte
	sources []string // files of the adapters

	items []*item
	total int64
	done  int64
	delta deltaStats
	buf   scratch
	// broken is what is wrong with the values, in terms of the source.
	broken error
}

// item is one tensor of the output.
type item struct {
	name  string // in the output
	gguf  string
	src   *tensor.Tensor // rows in Hugging Face's order
	typ   *tensor.DType
	shape []int
	// place gives for each logical row the row of the output, nil when they agree.
	place   []int32
	changes []peft.Change
	// turn says that the output is the transpose of what the changes apply to, shift
	// what it is larger by.
	turn  bool
	shift float32
}

// rows and cols are those of the output, which may have more rows than src.
func (it *item) rows() int {
	n := 1
	for _, d := range it.shape[:max(0, len(it.shape)-1)] {
		n *= d
	}
	return n
}

func (it *item) cols() int { return it.src.Cols() }

// copies reports whether the stored bytes are the output's.
func (it *item) copies() bool {
	return it.typ == it.src.Type && len(it.changes) == 0 && !it.turn && it.shift == 0 && !it.src.Transposed && it.src.Shift == 0
}

// orient settles how the output's orientation and values differ from Hugging
// Face's. Where the source differs in the same way, its stored tensor is taken as
// it is.
func (it *item) orient(n *model.Names, gguf bool) {
	mod := trimParameter(it.name)
	if gguf {
		mod = n.ToHF[mod]
	}
	weight := strings.HasSuffix(it.name, ".weight")
	it.turn = gguf && weight && n.Transposed[mod]
	if gguf && weight {
		it.shift = n.Shift[mod]
	}
	if len(it.changes) == 0 && it.turn == it.src.Transposed && it.shift == -it.src.Shift {
		it.src = it.src.Stored()
		it.shape, it.turn, it.shift = it.src.Shape, false, 0
		return
	}
	if it.turn {
		it.shape = []int{it.shape[1], it.shape[0]}
	}
}

func newJob(ctx context.Context, ck *model.Checkpoint, to formats.ModelWriter, o Options) (*job, error) {
	j := &job{ctx: ctx, ck: ck, to: to, opt: o, changes: map[string][]peft.Change{}}
	for _, n := range ck.Notes {
		j.notes.say("%s", n)
	}
	var err error
	if j.config, err = parseObject(ck.Config); err != nil {
		return nil, fmt.Errorf("%s: config.json: %w", ck.Source.Path, err)
	}
	j.names, err = ck.Family.GGUFNames(ck.Config)
	if errors.Is(err, model.ErrUnsupported) && ck.Source.Naming == formats.HF && to.Naming() == formats.HF {
		j.names = &model.Names{} // a family that GGUF does not know
	} else if err != nil {
		return nil, formats.At(ck.Source.Path, err)
	}
	if j.policy, err = newPolicy(o.Type, ck.Source.Naming, to.Naming(), &j.notes); err != nil {
		return nil, err
	}
	if !strings.EqualFold(o.Type, "keep") && ck.Source.Naming == formats.GGUF && to.Naming() == formats.HF {
		if d := majority(entryTypes(ck.Entries)); d == tensor.F16 || d == tensor.BF16 {
			j.policy.narrow = d
		}
	}
	var tied bool
	if v := j.config.get("tie_word_embeddings"); v != nil {
		tied = string(v) == "true"
	}
	j.dropHead = tied && ck.Tensor(j.headName()) != nil
	return j, nil
}

// headName and embedName are the Hugging Face names of the two embeddings.
// They are of no tensor in a family that GGUF does not know.
func (j *job) headName() string  { return j.names.ToHF["output"] + ".weight" }
func (j *job) embedName() string { return j.names.ToHF["token_embd"] + ".weight" }

// typeCount is a type with the number of weights stored in it.
type typeCount struct {
	typ *tensor.DType
	n   int64
}

// entryTypes lists the types of the matrices.
func entryTypes(entries []model.Entry) []typeCount {
	var out []typeCount
	for _, e := range entries {
		if !isVector(e.GGUF, e.T.Shape) {
			out = append(out, typeCount{e.T.Type, e.T.Elements()})
		}
	}
	return out
}

// majority returns the type that holds most weights, nil when there are none.
func majority(types []typeCount) *tensor.DType {
	sum := map[*tensor.DType]int64{}
	var best *tensor.DType
	for _, t := range types {
		sum[t.typ] += t.n
	}
	for _, t := range types { // not the map, whose order changes
		if best == nil || sum[t.typ] > sum[best] {
			best = t.typ
		}
	}
	return best
}

// plan makes the list of output tensors.
func (j *job) plan() error {
	entries := slices.Clone(j.ck.Entries)
	src := j.ck.Source
	if src.Naming == formats.HF && j.to.Naming() == formats.GGUF {
		// convert_hf_to_gguf.py goes through the files by name and through the
		// tensors of each by name.
		slices.SortStableFunc(entries, func(a, b model.Entry) int {
			return cmp.Or(cmp.Compare(a.T.File, b.T.File), cmp.Compare(a.HF, b.HF))
		})
	}
	if j.head != nil {
		entries = append(entries, model.Entry{HF: j.headName(), GGUF: "output.weight", T: j.head})
	}
	for _, t := range j.fresh {
		entries = append(entries, model.Entry{HF: t.Name, GGUF: j.ggufName(t.Name), T: t})
	}
	j.leftOut(entries)
	for _, e := range entries {
		if j.dropHead && e.HF == j.headName() && e.T != j.head {
			j.notes.about("left out: it is the same as the input embedding, to which the configuration ties it", e.HF)
			continue
		}
		if err := j.add(e); err != nil {
			return err
		}
	}
	if len(j.items) == 0 {
		return fmt.Errorf("%s: the model has no tensors: %w", src.Path, model.ErrMismatch)
	}
	return nil
}

// leftOut notes tensors of the source that the family knows to carry nothing.
func (j *job) leftOut(entries []model.Entry) {
	known := map[string]bool{}
	for _, e := range entries {
		known[e.HF], known[e.GGUF], known[e.Stored] = true, true, true
	}
	for _, t := range j.ck.Source.Tensors {
		if !known[t.Name] {
			j.notes.about("left out: it is computed from the configuration", t.Name)
		}
	}
}

// add plans one tensor.
func (j *job) add(e model.Entry) error {
	it := &item{name: e.HF, gguf: e.GGUF, src: e.T, shape: e.T.Shape, changes: j.changes[e.HF]}
	if j.to.Naming() == formats.GGUF {
		if e.Unused {
			j.notes.about("left out: no task computes with it, and GGUF has no place for it", e.HF)
			return nil
		}
		if e.InGGUF != nil {
			if len(it.changes) > 0 {
				return describe(e.HF, fmt.Errorf("changed by an adapter, and kept with fewer rows in GGUF: %w; merge to a Hugging Face folder and convert that", model.ErrUnsupported))
			}
			e.T = e.InGGUF
			it.src, it.shape = e.T, e.T.Shape
		}
		it.name = e.GGUF
		it.place = j.names.StoredRow[trimParameter(e.HF)]
	}
	if it.name == "" {
		other := e.HF + e.GGUF
		if j.to.Naming() == formats.HF {
			j.notes.about("left out: the configuration says the same", other)
			return nil
		}
		return describe(other, fmt.Errorf("has no name in GGUF: %w", model.ErrUnsupported))
	}
	for _, c := range it.changes {
		if c.Replace != nil {
			it.shape = c.Shape
		}
	}
	it.orient(j.names, j.to.Naming() == formats.GGUF)
	view := *it.src
	view.Shape = it.shape
	var err error
	if it.typ, err = j.policy.pick(it.name, e.GGUF, &view); err != nil {
		return err
	}
	if it.typ != e.T.Type && len(it.changes) > 0 && it.typ == j.policy.narrow {
		it.typ = e.T.Type // its new values need not fit into 16 bits
	}
	if !it.copies() && e.T.Type.Decode == nil {
		return describe(it.name, undecodable(e.T.Type))
	}
	if !it.copies() && it.typ.Encode == nil {
		return describe(it.name, fmt.Errorf("type %s can be read but not written: choose another with -q: %w", it.typ, ErrOption))
	}
	if it.typ.Quantised() && len(it.changes) > 0 && e.T.Type == it.typ {
		j.notes.about(fmt.Sprintf("decoded from %s, changed, and quantised again in %s", it.typ, it.typ), it.name)
	}
	j.items = append(j.items, it)
	n, ok := formats.CheckedSize(it.typ, it.shape)
	if !ok {
		return describe(it.name, fmt.Errorf("shape %v does not fit type %s: %w", it.shape, it.typ, ErrOption))
	}
	j.total += n
	return nil
}

// ggufName is the name in GGUF of a tensor that the base does not have, "" when
// there is none.
func (j *job) ggufName(hf string) string {
	mod := trimParameter(hf)
	if g := j.names.ToGGUF[mod]; g != "" {
		return g + hf[len(mod):]
	}
	return ""
}

// trimParameter returns the module of a tensor name.
func trimParameter(hf string) string {
	for i := len(hf) - 1; i >= 0; i-- {
		if hf[i] == '.' {
			return hf[:i]
		}
	}
	return hf
}

// run writes the output and completes the report.
func (j *job) run(dst string) (*Report, error) {
	out := &formats.OutModel{Sources: slices.Concat(j.ck.Source.Sources, j.sources)}
	var err error
	if j.to.Naming() == formats.GGUF {
		err = j.describeGGUF(out)
	} else {
		err = j.describeHF(out)
	}
	if err != nil {
		return nil, err
	}
	r := &j.report
	r.From, r.To, r.Family = j.ck.Source.Format, j.to.Name(), j.ck.Family.Name()
	r.Types = map[string]int{}
	for _, it := range j.items {
		out.Tensors = append(out.Tensors, formats.OutTensor{Name: it.name, Type: it.typ, Shape: it.shape, WriteTo: j.writer(it)})
		r.Types[it.typ.Name]++
		switch {
		case it.copies():
			r.Copied++
		case len(it.changes) > 0:
			r.Changed++
		default:
			r.Reencoded++
		}
	}
	r.Tensors, r.Bytes = len(j.items), j.total
	if j.opt.DryRun {
		return r, nil
	}
	if err := j.to.WriteModel(j.ctx, dst, out); err != nil {
		return nil, cmp.Or(j.broken, err)
	}
	r.MaxDelta, r.Survived = j.delta.max, j.delta.survived()
	if len(j.changes) > 0 && j.delta.max == 0 {
		j.notes.say("the adapter changes nothing: every weight is as before")
	}
	r.Notes = j.notes.lines()
	r.PeakBytes = peakMemory()
	return r, nil
}
