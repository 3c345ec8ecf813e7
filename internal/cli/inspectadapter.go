package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

// isCombination reports a folder of several adapters with an index.
func isCombination(path string) bool {
	_, err := os.Stat(filepath.Join(path, peft.IndexName))
	return err == nil
}

// inspectCombination opens all parts of a combination.
func inspectCombination(path string) (*inspection, func() error, error) {
	folders, err := peft.Parts(path)
	if err != nil {
		return nil, nil, err
	}
	i := &inspection{Path: path, Kind: "combination", Facts: map[string]any{}}
	var open []*formats.Adapter
	closer := func() error {
		var errs []error
		for _, ad := range open {
			errs = append(errs, ad.Close())
		}
		return errors.Join(errs...)
	}
	var sources, methods, kinds []string
	base := ""
	for _, folder := range folders {
		ad, err := peft.Read(folder)
		if err != nil {
			return nil, nil, errors.Join(err, closer())
		}
		open = append(open, ad)
		part := &inspection{Path: folder, Facts: map[string]any{}}
		part.adapter(ad)
		i.Ignored, i.Notes = append(i.Ignored, part.Ignored...), append(i.Notes, part.Notes...)
		i.Parts = append(i.Parts, partEntry{folder, part.Method, ad.Format, part.Parameters, len(part.Tensors), part.Bytes})
		if part.Problem != "" && i.Problem == "" {
			i.Problem = folder + ": " + part.Problem
		}
		if v, ok := part.Facts["base_model_name_or_path"].(string); ok && base == "" {
			base = v
		}
		sources, methods, i.raw = append(sources, ad.Sources...), append(methods, part.Method), append(i.raw, ad.Tensors...)
		if !slices.Contains(kinds, ad.Format) {
			kinds = append(kinds, ad.Format)
		}
	}
	i.Method, i.Format = strings.Join(methods, "+"), strings.Join(kinds, " and ")
	i.finish(sources)
	i.fact("base model", "base_model_name_or_path", base)
	i.task(path)
	return i, closer, nil
}

// task tells what an adapter's head is for, with the labels and tasks beside it.
func (i *inspection) task(path string) {
	o, err := adapterOptions(path)
	if err != nil {
		if i.Problem == "" {
			i.Problem = err.Error()
		}
		return
	}
	if o.Task != "" {
		i.Facts["task"] = string(o.Task)
		text := taskText(o.Task)
		if o.Problem == model.MultiLabel || o.Problem == model.Regression {
			text += ", " + strings.ReplaceAll(string(o.Problem), "_", " ")
		}
		i.facts = append(i.facts, [2]string{"task", text})
	}
	if len(o.Labels) > 0 {
		i.Facts["labels"] = o.Labels
		i.facts = append(i.facts, [2]string{"labels", someNames(o.Labels)})
	}
	if names, err := readTasks(path, nil); err == nil && len(names) > 0 {
		i.Facts["tasks"] = names
		i.facts = append(i.facts, [2]string{"told apart", someNames(names)})
	}
}

// someNames lists the first of many names.
func someNames(names []string) string {
	const most = 12
	if len(names) > most {
		return fmt.Sprintf("%s … (%d)", strings.Join(names[:most], ", "), len(names))
	}
	return strings.Join(names, ", ")
}

func (i *inspection) adapter(ad *formats.Adapter) {
	i.Kind, i.Format, i.meta, i.raw, i.Config = "adapter", ad.Format, ad.Meta, ad.Tensors, ad.Config
	i.finish(ad.Sources)
	i.Ignored = peft.Ignored(ad)
	for _, k := range i.Ignored {
		i.Notes = append(i.Notes, k.String())
	}
	if err := peft.Check(ad); err != nil {
		i.Problem = strings.TrimPrefix(err.Error(), ad.Path+": ")
	}
	if ad.Config == nil {
		i.Method = ad.Meta.Str("adapter.type")
		i.fact("base", "general.architecture", ad.Meta.Str("general.architecture"))
		if v, ok := ad.Meta.Float("adapter.lora.alpha"); ok {
			i.fact("alpha", "adapter.lora.alpha", v)
		}
		return
	}
	var config map[string]any
	if err := json.Unmarshal(ad.Config, &config); err != nil {
		i.Problem = "adapter_config.json: " + err.Error()
		return
	}
	m, err := peft.MethodOf(ad)
	if err != nil {
		i.Method, _ = config["peft_type"].(string)
		i.Problem = strings.TrimPrefix(err.Error(), ad.Path+": ")
	} else {
		i.Method = m.Info().Name
	}
	i.fact("base model", "base_model_name_or_path", config["base_model_name_or_path"])
	// The adapters library names the model and its class, and nests the method's options.
	i.fact("base model", "model_name", config["model_name"])
	i.fact("model class", "model_class", config["model_class"])
	i.fact("name", "name", config["name"])
	i.fact("library", "version", config["version"])
	if err == nil {
		options := config
		if own, ok := config["config"].(map[string]any); ok {
			options = own
		}
		for _, o := range m.Info().Options {
			if v := options[o.Key]; !blank(v) {
				i.fact(o.Key, o.Key, v)
			}
		}
	}
}
