package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/spf13/cobra"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect PATH", GroupID: groupLook,
		Short: "Show what is in a model, adapter or tensor file",
		Long: "Show what is in a file or folder: format, model family, parameters, types, sizes,\n" +
			"metadata, tensors and the module names that --target-modules of train accepts.\n" +
			"Reads a GGUF file, a Hugging Face folder, a safetensors file on its own, a PEFT\n" +
			"folder, one of the adapters library, a combination of adapters, a GGUF adapter or a\n" +
			"llama2.c checkpoint. Of a model only headers are read, so a file of many\n" +
			"gigabytes takes no longer than a small one.",
		Example: "peftkit inspect model.gguf\n" +
			"peftkit inspect model.gguf --tensors\n" +
			"peftkit inspect model.gguf --get tokenizer.chat_template\n" +
			"peftkit inspect adapters --json",
		Args: exactArgs("PATH"),
	}
	f := flagsOf(cmd)
	tensors := f.Bool("tensors", false, "list all tensors")
	metadata := f.Bool("metadata", false, "list all metadata, or the configuration")
	modules := f.Bool("modules", false, "list the modules that methods can attach to")
	get := f.text("get", "", "KEY", "", "print the whole value of one metadata key")
	task := addTaskFlags(f)
	asJSON := f.Bool("json", false, "print one JSON object")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o, err := task.options()
		if err != nil {
			return err
		}
		i, closer, err := inspect(args[0], *modules || *asJSON, o)
		if err != nil {
			return err
		}
		defer closer()
		switch {
		case *get != "":
			return a.printKey(i, *get)
		case *asJSON:
			return printJSON(a.out, i)
		}
		a.printInspection(i)
		if *metadata {
			a.printMetadata(i)
		}
		if *modules {
			a.printModules(i)
		}
		if *tensors {
			a.printTensors(i)
		}
		if !*metadata && !*modules && !*tensors {
			fmt.Fprintf(a.out, "\n  More: %s\n", a.out.paint(cyan, "--tensors --metadata --modules --json"))
		}
		return nil
	}
	return cmd
}

// inspect opens a path as whatever it is.
func inspect(path string, modules bool, o model.Options) (*inspection, func() error, error) {
	i := &inspection{Path: path, Facts: map[string]any{}}
	switch {
	case loneSafetensors(path):
		f, err := safetensors.Open(path)
		if err != nil {
			return nil, nil, err
		}
		i.Kind, i.Format, i.raw = "tensors", "safetensors file", f.Tensors
		for _, k := range sortedKeys(f.Metadata) {
			i.meta = append(i.meta, formats.KV{Key: k, Value: f.Metadata[k]})
		}
		i.finish([]string{path})
		return i, f.Close, nil
	case isCombination(path):
		return inspectCombination(path)
	case formats.IsAdapter(path):
		ad, err := peft.Read(path)
		if err != nil {
			return nil, nil, err
		}
		i.adapter(ad)
		i.task(path)
		return i, ad.Close, nil
	}
	m, err := formats.OpenModel(path)
	if err != nil {
		return nil, nil, err
	}
	i.model(m, modules, o)
	return i, m.Close, nil
}

// loneSafetensors reports a safetensors file given by itself: its tensors are
// shown even when a model or adapter folder surrounds it.
func loneSafetensors(path string) bool {
	st, err := os.Stat(path)
	if err != nil || st.IsDir() || !strings.HasSuffix(strings.ToLower(path), ".safetensors") {
		return false
	}
	head, err := formats.Head(path, 512)
	return err == nil && formats.Impostor(path, head) == nil
}

func (i *inspection) model(m *formats.Model, modules bool, o model.Options) {
	i.Kind, i.Format, i.meta, i.raw, i.Config = "model", m.Format, m.Meta, m.Tensors, m.Config
	i.finish(m.Sources)
	c, err := model.FromFile(m)
	config := m.Config
	if err == nil {
		i.Family, config, i.Notes = c.Family.Name(), c.Config, c.Notes
		if modules {
			i.modules(c, o)
		}
	} else {
		i.Problem = strings.TrimPrefix(err.Error(), m.Path+": ")
	}
	i.modelFacts(m, config)
}

// modules lists what the network is made of; the problem is noted when it cannot be built.
// A bare encoder is built without a head unless o asks for one.
func (i *inspection) modules(c *model.Checkpoint, o model.Options) {
	m, err := model.Build(c, o)
	if err != nil && o.Task == "" {
		o.Task = model.FeatureExtraction
		if bare, e := model.Build(c, o); e == nil {
			m, err = bare, nil
		}
	}
	if err != nil {
		i.Problem = err.Error()
		return
	}
	i.Places = placesOf(m)
	for _, mod := range m.Modules {
		e := moduleEntry{Path: mod.Path, Kind: mod.Kind(), Head: mod.Head}
		t := c.Tensor(mod.Path + ".weight")
		switch {
		case t != nil:
			e.Shape, e.Type = t.Shape, t.Type.Name
		case mod.Output && m.TiedHead:
			e.Shape, e.Type = []int{mod.Linear.W.Out, mod.Linear.W.In}, "tied"
		case mod.Linear != nil:
			e.Shape, e.Type = []int{mod.Linear.W.Out, mod.Linear.W.In}, "new"
		}
		i.Modules = append(i.Modules, e)
	}
}
