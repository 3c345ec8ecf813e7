package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/internal/atomicfile"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
	"github.com/spf13/cobra"
)

// trainFlags are the settings of the train command.
type trainFlags struct {
	model, method, init *string
	data                *dataFlags
	task                *taskFlags
	valid               *string
	valSplit            *float64
	maxLen              *int
	options             map[string]*string // method options with a flag, by flag name
	set                 *[]string
	cfg                 train.Config
	schedule            *string
	noPacking           *bool
	noShuffle           *bool
	noBaseDropout       *bool
	resume              *string
	overwrite, dryRun   *bool
	asJSON              *bool
	config              *string
	threads             func() error
}

// ownFlags are those whose default is train.Own.
var ownFlags = []string{"lr", "weight-decay", "batch-size", "grad-accum"}

var ownText = fmt.Sprint(train.Own)

func (a *app) trainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "train -m MODEL -d DATA -o OUT", GroupID: groupMake, Aliases: []string{"finetune"},
		Short: "Fine-tune a model on your data",
		Long: "Fine-tune a model on your data with a method that trains few parameters. The model\n" +
			"may be a Hugging Face folder or a GGUF file, quantised or not; it is read from the\n" +
			"file as it is and never changed. OUT becomes a PEFT adapter folder that peftkit,\n" +
			"Hugging Face PEFT and, converted, llama.cpp load.\n\n" +
			"Data are JSON lines with messages (a chat), prompt and completion, instruction and\n" +
			"output, or text; what they are is detected. The loss counts the answers only. The\n" +
			"same seed gives the same bytes on any number of threads. Ctrl-C leaves a checkpoint\n" +
			"that --resume continues to the same result.\n\n" +
			"An encoder (BERT, ...) learns to classify: its data have text and label (text_pair\n" +
			"for two texts, labels for several), or tokens and tags. A bare encoder gets a new\n" +
			"head, which is trained in full and saved in the adapter, with the names of the\n" +
			"labels in label_map.json. An encoder-decoder (T5, BART, ...) reads source and target.\n\n" +
			"-c reads settings from a YAML file whose keys are the names of these flags (rank,\n" +
			"lr, max_steps, ...; names of other tools such as lora_r, learning_rate and\n" +
			"num_train_epochs work too). A flag given here beats the file.",
		Example: "peftkit train -m model.gguf -d chat.jsonl -o adapters\n" +
			"peftkit train -m model.gguf -d data/ --rank 8 --epochs 3 --val-split 0.05\n" +
			"peftkit train -m model.gguf -d qa.csv --map prompt=question --map completion=answer\n" +
			"peftkit train -m ./SmolLM2-135M -d chat.jsonl --target-modules q_proj,v_proj --set use_rslora=true\n" +
			"peftkit train -m ./minilm -d sst2/ --columns text,label --epochs 3\n" +
			"peftkit train -m ./t5-small -d e2e.csv --map source=mr --map target=ref --method lora+prompt\n" +
			"peftkit train -c run.yaml --lr 1e-4\n" +
			"peftkit train -m model.gguf -d chat.jsonl -o adapters --resume",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && cmd.Flags().Changed("resume") {
				return withHint(fmt.Errorf("unexpected argument %q", args[0]), "--resume=%s", args[0])
			}
			return noArgs(cmd, args)
		},
	}
	t := newTrainFlags(flagsOf(cmd))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.train(cmd, t) }
	_ = cmd.RegisterFlagCompletionFunc("method", completeMethods) // the flag is there
	return cmd
}

func newTrainFlags(f *flags) *trainFlags {
	t := &trainFlags{cfg: train.Default(), options: map[string]*string{}}
	f.section("Model and data")
	t.model = f.text("model", "m", "MODEL", "", "GGUF file or Hugging Face folder")
	t.data = addDataFlags(f, ".jsonl, .json, .csv, .tsv, .parquet or .txt file, also .gz or .zst, or a folder with train* and valid*")
	t.valid = f.text("valid", "", "FILE", "", "data to validate on")
	t.valSplit = f.Float64("val-split", 0, "share of the data to put aside for validation")
	t.maxLen = f.Int("max-seq-len", 512, "cut examples to this many tokens")
	t.data.maxTarget = f.Int("max-target-len", 0, "cut what a decoder writes to this many tokens; 0 for the same")
	t.task = addTaskFlags(f)
	t.config = f.text("config", "c", "FILE", "", "YAML file with settings")

	f.section("Method")
	t.method = f.text("method", "", "NAME", "lora", "a method (peftkit methods lists them), or several joined by +")
	t.set = f.texts("set", "", "KEY=VALUE", "set any option of the method (see peftkit methods NAME); of one method of several with its name: lora.r=8; may be repeated")
	t.init = f.text("init-adapter", "", "ADAPTER", "", "start from a saved adapter instead of a fresh one")

	f.section("Training")
	f.Float64Var(&t.cfg.LearningRate, "lr", t.cfg.LearningRate, "peak learning rate (default: that of the method)")
	t.schedule = f.oneOf("schedule", "", string(train.Cosine), "course of the learning rate", string(train.Cosine), string(train.Linear), string(train.Constant))
	f.Float64Var(&t.cfg.Warmup, "warmup", t.cfg.Warmup, "warm-up: a share of all steps, or a number of steps from 1 on")
	f.Float64Var(&t.cfg.Epochs, "epochs", t.cfg.Epochs, "passes over the data")
	f.IntVar(&t.cfg.MaxSteps, "max-steps", t.cfg.MaxSteps, "number of steps instead of whole epochs")
	f.IntVarP(&t.cfg.BatchSize, "batch-size", "b", t.cfg.BatchSize, "sequences in a micro-batch (default 1; 16 for classifiers and encoder-decoders)")
	f.IntVar(&t.cfg.GradAccum, "grad-accum", t.cfg.GradAccum, "micro-batches in a step (default 8; 1 for classifiers and encoder-decoders)")
	f.Float64Var(&t.cfg.WeightDecay, "weight-decay", t.cfg.WeightDecay, "AdamW's weight decay (default: that of the method)")
	f.Float64Var(&t.cfg.Clip, "clip", t.cfg.Clip, "largest norm of the gradient; 0 for no limit")
	t.noPacking = f.Bool("no-packing", false, "one example in a sequence")
	t.noShuffle = f.Bool("no-shuffle", false, "keep the order of the file")
	t.noBaseDropout = f.Bool("no-base-dropout", false, "leave out the dropout of the model's config.json")
	f.Uint64Var(&t.cfg.Seed, "seed", t.cfg.Seed, "seed of initialisation, order and dropout")
	t.threads = threadsFlag(f)
	for _, name := range ownFlags {
		f.Lookup(name).DefValue = "" // their texts tell
	}

	f.section("Output")
	f.VarP(&word{value: "adapters", kind: "OUT"}, "output", "o", "folder for the adapter, metrics.jsonl and checkpoints")
	f.IntVar(&t.cfg.SaveSteps, "save-steps", t.cfg.SaveSteps, "steps between checkpoints; 0 for none")
	f.IntVar(&t.cfg.Keep, "keep", t.cfg.Keep, "newest checkpoints to keep; 0 for all")
	f.IntVar(&t.cfg.EvalSteps, "eval-steps", t.cfg.EvalSteps, "steps between validations; 0 for one at the end")
	t.resume = f.text("resume", "", "CHECKPOINT", "", "continue from the newest checkpoint in OUT, or from this one")
	f.Lookup("resume").NoOptDefVal = train.Auto
	t.overwrite = f.Bool("overwrite", false, "replace an earlier run in OUT")
	t.dryRun = f.Bool("dry-run", false, "show what would be trained and stop")
	t.asJSON = f.Bool("json", false, "print a line of JSON for each step")
	f.section("Method")
	t.methodFlags(f)
	f.mark()
	return t
}

// methodFlags adds a flag for each method option that names one. It comes last:
// a flag of the command itself wins over a method's of the same name, which
// --set still reaches.
func (t *trainFlags) methodFlags(f *flags) {
	users := map[string][]peft.Info{}
	for _, m := range peft.Methods() {
		info := m.Info()
		for _, o := range info.Options {
			if o.Flag != "" {
				users[o.Flag] = append(users[o.Flag], info)
			}
		}
	}
	for _, m := range peft.Methods() {
		for _, o := range m.Info().Options {
			if o.Flag == "" || t.options[o.Flag] != nil || f.Lookup(string(normalizeFlag(f.FlagSet, o.Flag))) != nil {
				continue
			}
			leader, o := leading(users[o.Flag], o.Flag)
			kind, short := "VALUE", ""
			switch o.Default.(type) {
			case int:
				kind = "N"
			case float64:
				kind = "X"
			}
			if strings.HasSuffix(o.Key, "_modules") {
				kind = "MODULES"
			}
			if o.Flag == "rank" {
				short = "r"
			}
			doc := leader + ": " + o.Doc
			if d := defaultText(o); d != "" && !strings.Contains(doc, "(default") {
				doc += " (default " + d + ")"
			}
			if n := len(users[o.Flag]) - 1; n > 0 {
				doc += fmt.Sprintf("; %s too, see peftkit methods NAME", map[bool]string{true: "another method has it", false: fmt.Sprintf("%d other methods have it", n)}[n == 1])
			}
			if o.Flag == "target-modules" { // the same for all that have it
				doc = "modules that the method changes: all-linear, names, or regex:... (default: that of the method; lora's is all-linear)"
			}
			w := &word{kind: kind}
			f.VarP(w, o.Flag, short, doc)
			t.options[o.Flag] = &w.value
		}
	}
}

// wellKnown are the methods that explain a flag that several methods have, the first
// one that has it.
var wellKnown = []string{"lora", "prompt-tuning", "prefix-tuning"}

// leading returns the method whose option explains a flag, and that option.
func leading(users []peft.Info, flag string) (string, peft.Option) {
	leader := users[0]
	for _, name := range wellKnown {
		if i := slices.IndexFunc(users, func(u peft.Info) bool { return u.Name == name }); i >= 0 {
			leader = users[i]
			break
		}
	}
	i := slices.IndexFunc(leader.Options, func(o peft.Option) bool { return o.Flag == flag })
	return leader.Name, leader.Options[i]
}

// defaultText writes the default of an option.
func defaultText(o peft.Option) string {
	if o.Default == nil {
		return ""
	}
	return fmt.Sprint(o.Default)
}

// methodKeys lists the option keys of all methods, for the configuration file.
func methodKeys() []string {
	var out []string
	for _, m := range peft.Methods() {
		for _, o := range m.Info().Options {
			out = append(out, o.Key)
		}
	}
	return out
}

// read completes the flags from the configuration file and returns the options
// of the method.
func (t *trainFlags) read(cmd *cobra.Command) (peft.Options, error) {
	options := peft.Options{}
	fromFile := map[string]string{}
	if *t.config != "" {
		c := &configFile{path: *t.config, cmd: cmd, known: methodKeys(), set: func(key, value string) error {
			if _, twice := fromFile[key]; twice {
				return fmt.Errorf("option %q is given twice", key)
			}
			fromFile[key] = value
			return nil
		}}
		if err := c.read(); err != nil {
			return nil, err
		}
	}
	// The words of a boolean may stand for the newest checkpoint in a file.
	switch *t.resume {
	case "true":
		*t.resume = train.Auto
	case "false":
		*t.resume = ""
	}
	for _, s := range *t.set {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, usagef("--set %q: expected KEY=VALUE, as in --set use_rslora=true", s)
		}
		if _, twice := options[key]; twice {
			return nil, usagef("--set: %q is given twice", key)
		}
		options[key] = value
	}
	for name, v := range t.options {
		if cmd.Flags().Changed(name) {
			options[name] = *v
		}
	}
	methods, err := peft.ParseMethods(*t.method)
	if err != nil {
		return nil, err
	}
	// What the command line says beats the file, under either name of an option.
	for key, v := range fromFile {
		flag := key
		for _, m := range methods {
			for _, o := range m.Info().Options {
				if o.Key == key && o.Flag != "" {
					flag = o.Flag
				}
			}
		}
		_, byKey := options[key]
		_, byFlag := options[flag]
		if !byKey && !byFlag {
			options[key] = v
		}
	}
	return options, nil
}

// settings checks the flags and fills the configuration of the run.
func (t *trainFlags) settings(cmd *cobra.Command) error {
	if err := needFlags(cmd, "model", "data", "output"); err != nil {
		return err
	}
	for name, v := range map[string]float64{"lr": t.cfg.LearningRate, "warmup": t.cfg.Warmup, "epochs": t.cfg.Epochs, "weight-decay": t.cfg.WeightDecay, "clip": t.cfg.Clip, "val-split": *t.valSplit} {
		if err := finiteFlag(name, v); err != nil {
			return err
		}
	}
	f := cmd.Flags()
	switch {
	case f.Changed("epochs") && t.cfg.MaxSteps > 0:
		return usagef("--epochs and --max-steps exclude each other")
	case f.Changed("max-steps") && t.cfg.MaxSteps < 1:
		return usagef("--max-steps %d: expected 1 or more", t.cfg.MaxSteps)
	case *t.valSplit < 0 || *t.valSplit >= 1:
		return usagef("--val-split %g: expected a share of at least 0 and below 1", *t.valSplit)
	case *t.valSplit > 0 && *t.valid != "":
		return usagef("--val-split and --valid exclude each other")
	case *t.maxLen < 2:
		return usagef("--max-seq-len %d: expected 2 or more", *t.maxLen)
	case *t.data.maxTarget < 0 || *t.data.maxTarget == 1:
		return usagef("--max-target-len %d: expected 2 or more, or 0", *t.data.maxTarget)
	case *t.overwrite && *t.resume != "":
		return usagef("--overwrite and --resume exclude each other")
	}
	c := &t.cfg
	for _, name := range ownFlags {
		if fl := f.Lookup(name); fl.Changed && fl.Value.String() == ownText {
			return usagef("--%s %s: expected a number that is not negative", name, ownText)
		}
	}
	c.Schedule = train.Schedule(*t.schedule)
	c.Pack, c.Shuffle, c.BaseDropout = !*t.noPacking, !*t.noShuffle, !*t.noBaseDropout
	c.Output, c.Resume = f.Lookup("output").Value.String(), *t.resume
	return t.threads()
}

// train runs the command.
func (a *app) train(cmd *cobra.Command, t *trainFlags) error {
	options, err := t.read(cmd)
	if err != nil {
		return err
	}
	if err := t.settings(cmd); err != nil {
		return err
	}
	if !*t.dryRun {
		lock, err := train.LockOutput(t.cfg.Output)
		var busy *train.BusyError
		if errors.As(err, &busy) {
			return err
		}
		defer lock.Release()
		t.cfg.Lock = lock
		if err := t.checkOutput(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	l, err := t.open(a)
	if err != nil {
		return err
	}
	defer l.Close()
	if l.Options.Task != "" && l.Options.Task != model.CausalLM && cmd.Flags().Changed("no-packing") && t.cfg.Pack {
		a.warn("packing is for text generation: the batches of %s are whole examples", taskText(l.Options.Task))
	}
	// The method first: it may take positions from the texts, and tell tasks apart.
	ad, err := t.attach(l, options)
	if err != nil {
		return t.attachError(err)
	}
	if *t.init != "" {
		if err := a.tokenizerOf(l, *t.init); err != nil {
			return err
		}
	}
	ds, valid, err := t.load(l)
	if err != nil {
		return dataError(err, *t.data.path)
	}
	if t.cfg, err = t.cfg.For(ad, ds); err != nil {
		return err
	}
	t.cfg.Valid = valid
	if *t.overwrite && !*t.dryRun {
		if err := removeRun(t.cfg.Output); err != nil {
			return err
		}
	}
	run := &trainRun{a: a, flags: t, l: l, ad: ad, ds: ds, valid: valid}
	t.cfg.Files = run.files(nil)
	view := a.newTrainView(*t.asJSON)
	t.cfg.Hooks = []train.Hook{view.hook()}
	if *t.dryRun {
		t.cfg.Output, t.cfg.Resume = "", "" // touch nothing
	}
	act := a.start("preparing")
	tr, err := train.New(t.cfg, l.Model, ad, ds)
	act.end()
	if err != nil {
		if errors.Is(err, train.ErrCheckpoint) && t.cfg.Resume == "" {
			err = withHint(withCode(exitUsage, err), "--resume continues that run, --overwrite replaces it")
		}
		return err
	}
	defer tr.Close()
	collect, restore := collectOften()
	defer restore()
	if err := run.header(cmd.Context(), tr, collect); err != nil {
		return err
	}
	if *t.dryRun {
		return nil
	}
	return run.run(cmd, tr, view)
}

// checkOutput refuses a folder that holds something that the run would harm.
func (t *trainFlags) checkOutput() error {
	out := t.cfg.Output
	st, err := os.Stat(out)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return withCode(exitUsage, err)
	case !st.IsDir():
		return usagef("%s: is a file; -o names a folder", out)
	}
	has := func(name string) bool { _, err := os.Stat(filepath.Join(out, name)); return err == nil }
	switch {
	case has("config.json"):
		return usagef("%s: is a model's folder; choose another one for the adapter", out)
	case *t.init != "" && sameFile(out, *t.init):
		return usagef("%s: is the adapter to start from; choose another folder for the new one", out)
	}
	have, err := train.Checkpoints(out)
	if err != nil {
		return err
	}
	if has("adapter_config.json") && len(have) == 0 && t.cfg.Resume == "" && !*t.overwrite {
		return withHint(usagef("%s: holds an adapter already", out), "--overwrite replaces it; -o OUT names another folder")
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// removeRun removes the checkpoints of an earlier run; its other files are
// replaced when the new ones are complete.
func removeRun(dir string) error {
	have, err := train.Checkpoints(dir)
	if err != nil {
		return err
	}
	for _, c := range have {
		if err := atomicfile.RemoveAll(c); err != nil {
			return err
		}
	}
	// What the new adapter may not bring must not speak for it.
	for _, name := range []string{data.LabelFile, data.TaskFile, "chat_template.jinja"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// open opens the model with the head that flags, the adapter to start from, the
// model or the data ask for.
func (t *trainFlags) open(a *app) (*loaded, error) {
	o, err := t.task.options()
	if err != nil {
		return nil, err
	}
	if *t.init != "" {
		own, err := adapterOptions(*t.init)
		if err != nil {
			return nil, ofAdapter(err)
		}
		o = over(o, own)
		if _, err := a.tellIgnored(convert.AdapterRef{Path: *t.init}); err != nil {
			return nil, err
		}
	}
	src, err := t.data.source("train")
	if err != nil {
		return nil, dataError(err, *t.data.path)
	}
	return a.openWith(*t.model, func(c *model.Checkpoint, _ *tokenizer.Tokenizer) (model.Options, error) {
		o, note, err := src.choose(c, o)
		if note != "" {
			a.warn("%s", note)
		}
		o.Seed = t.cfg.Seed
		return o, dataError(err, src.path)
	})
}

// load reads the training and validation data.
func (t *trainFlags) load(l *loaded) (ds, valid *data.Dataset, err error) {
	o, err := t.data.options(l.tok, min(*t.maxLen, l.MaxPositions))
	if err != nil {
		return nil, nil, err
	}
	l.template = o.ChatTemplate
	o = l.dataOptions(o)
	if *t.valid == "" {
		return data.LoadSplits(*t.data.path, *t.valSplit, t.cfg.Seed, o)
	}
	o.Part = "train"
	if ds, err = data.Load(*t.data.path, o); err != nil {
		return nil, nil, err
	}
	o.Part = "valid"
	valid, err = data.Load(*t.valid, o)
	return ds, valid, err
}

// attach makes a fresh adapter, or loads the one to start from.
func (t *trainFlags) attach(l *loaded, options peft.Options) (peft.Adapter, error) {
	if *t.init == "" {
		methods, err := peft.ParseMethods(*t.method)
		if err != nil {
			return nil, err
		}
		if len(methods) == 1 { // its own error lists what it has
			for key, v := range options {
				if own, ok := strings.CutPrefix(key, methods[0].Info().Name+"."); ok {
					delete(options, key)
					options[own] = v
				}
			}
			return methods[0].New(l.Model, options, t.cfg.Seed)
		}
		parts, err := peft.SplitOptions(methods, options)
		if err != nil {
			return nil, err
		}
		return peft.New(l.Model, parts, t.cfg.Seed)
	}
	if len(options) > 0 {
		return nil, usagef("--init-adapter brings its own configuration; leave out %s", strings.Join(slices.Sorted(maps.Keys(options)), ", "))
	}
	folders, err := peft.Parts(*t.init)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, folder := range folders {
		a, err := peft.Open(folder, l.Checkpoint)
		if err != nil {
			return nil, err
		}
		m, err := peft.MethodOf(a)
		a.Close()
		if err != nil {
			return nil, err
		}
		names = append(names, m.Info().Name)
	}
	*t.method = strings.Join(names, "+")
	if l.taskNames, err = readTasks(*t.init, nil); err != nil {
		return nil, err
	}
	return peft.Attach(l.Model, *t.init, 1)
}

// attachError gives an error of attach its code: what the flags ask for does not fit
// the model, or the adapter to start from cannot be used.
func (t *trainFlags) attachError(err error) error {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return err
	case *t.init != "":
		return ofAdapter(err)
	case errors.Is(err, peft.ErrNoMatch):
		return withCode(exitUsage, err)
	}
	return err
}

// trainRun is one run of the trainer and what is told about it.
type trainRun struct {
	a         *app
	flags     *trainFlags
	l         *loaded
	ad        peft.Adapter
	ds, valid *data.Dataset
	// footprint is the memory that the run was expected to take.
	footprint train.Footprint
}

// run trains, saves the adapter and sums up.
func (r *trainRun) run(cmd *cobra.Command, tr *train.Trainer, view *trainView) error {
	ctx := cmd.Context()
	a, out := r.a, r.flags.cfg.Output
	if tr.Done() == tr.Total {
		a.warn("all %d steps are done already: nothing is left to train", tr.Total)
	}
	stop := context.AfterFunc(ctx, func() {
		fmt.Fprintln(a.err, a.err.paint(yellow, "stopping after this micro-batch; Ctrl-C again stops at once"))
	})
	view.begin(tr)
	result, err := tr.Run(ctx)
	view.end()
	stop()
	if err != nil {
		return r.stopped(err, result)
	}
	act := a.start("saving")
	err = peft.Save(context.WithoutCancel(ctx), out, r.ad, r.files(result))
	act.end()
	if err != nil {
		return err
	}
	r.summary(context.WithoutCancel(ctx), tr, result, view)
	return nil
}

// stopped tells how to go on after an interruption.
func (r *trainRun) stopped(err error, result *train.Result) error {
	if !errors.Is(err, train.ErrInterrupted) {
		return err
	}
	if result == nil || result.Checkpoint == "" {
		return withCode(exitInterrupted, err)
	}
	args := slices.DeleteFunc(slices.Clone(r.a.args), func(s string) bool {
		return s == "--overwrite" || s == "--resume" || strings.HasPrefix(s, "--resume=") || strings.HasPrefix(s, "--overwrite=")
	})
	if *r.flags.overwrite { // the configuration file may ask for it
		args = append(args, "--overwrite=false")
	}
	for i := range args {
		args[i] = quote(args[i])
	}
	s := r.a.err
	fmt.Fprintf(s, "%s after step %d; the checkpoint is %s\n", s.paint(yellow, "interrupted"), result.Steps, result.Checkpoint)
	fmt.Fprintf(s, "\n  %s  %s\n", s.paint(dim, "continue"), s.paint(cyan, "peftkit "+strings.Join(args, " ")+" --resume"))
	return &quietError{withCode(exitInterrupted, err)}
}

// files are put beside the adapter: the model card, and the chat template if it
// is not the model's own.
func (r *trainRun) files(result *train.Result) map[string][]byte {
	out := maps.Clone(r.l.tokenizerFiles)
	if out == nil {
		out = map[string][]byte{}
	}
	out["README.md"] = []byte(r.card(result))
	if r.l.template != "" {
		out["chat_template.jinja"] = []byte(r.l.template)
	}
	if o := r.l.Options; len(o.Labels) > 0 {
		if b, err := data.WriteLabels(o.Labels, o.Problem); err == nil {
			out[data.LabelFile] = b
		}
	}
	if len(r.ds.TaskNames) > 0 {
		if b, err := data.WriteTasks(r.ds.TaskNames); err == nil {
			out[data.TaskFile] = b
		}
	}
	return out
}

// trainable counts the parameters that are trained.
func trainable(params []*nn.Param) int64 {
	var n int64
	for _, p := range params {
		n += int64(len(p.V.Data))
	}
	return n
}

// lossText writes a loss with the digits that mean something.
func lossText(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.4f", x)
}
