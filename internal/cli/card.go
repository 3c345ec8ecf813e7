package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/train"
)

// card is README.md of an adapter: the front matter of the Hugging Face Hub, how
// the adapter was made, and how to use it. result is nil before the end.
func (r *trainRun) card(result *train.Result) string {
	var b strings.Builder
	c := &r.flags.cfg
	base := *r.flags.model
	name := strings.TrimSuffix(lastPart(base), ".gguf")
	task := r.l.Options.Task
	tag := map[model.Task]string{model.SequenceClassification: "text-classification", model.TokenClassification: "token-classification", model.Seq2SeqLM: "text2text-generation"}[task]
	if tag == "" {
		tag = "text-generation"
	}
	fmt.Fprintf(&b, "---\nbase_model: %s\nlibrary_name: peft\npipeline_tag: %s\ntags:\n", yamlText(base), tag)
	for _, m := range strings.Split(*r.flags.method, "+") {
		fmt.Fprintf(&b, "- %s\n", yamlText(m))
	}
	b.WriteString("- peftkit\n---\n\n")
	fmt.Fprintf(&b, "# %s, fine-tuned on %s\n\n", name, filepath.Base(*r.flags.data.path))
	fmt.Fprintf(&b, "An adapter for %s, trained with [peftkit](https://github.com/peftkit/peftkit) on a CPU.\n\n", name)
	b.WriteString("| | |\n| --- | --- |\n")
	row := func(k, format string, args ...any) { fmt.Fprintf(&b, "| %s | %s |\n", k, fmt.Sprintf(format, args...)) }
	if task != "" && task != model.CausalLM {
		row("task", "%s", taskText(task))
	}
	if labels := r.l.Options.Labels; len(labels) > 0 {
		row("labels", "%s", strings.ReplaceAll(strings.Join(labels, ", "), "|", "\\|"))
	}
	row("method", "%s", r.ad.Summary())
	row("trainable parameters", "%s", countText(trainable(r.ad.Params())))
	row("data", "%s", dataText(r.ds))
	row("optimizer", "AdamW, learning rate %s, %s, weight decay %g, clip %g", floatText(c.LearningRate), scheduleText(c), c.WeightDecay, c.Clip)
	if drop := r.dropout(); drop != "" {
		row("dropout", "%s", drop)
	}
	row("batch", "%d × %d sequences", c.BatchSize, c.GradAccum)
	row("seed", "%d", c.Seed)
	if result != nil {
		row("steps", "%d", result.Steps)
		if result.Loss == result.Loss {
			row("last training loss", "%.4f", result.Loss)
		}
		if v := result.Valid; v != nil {
			row("validation", "%s", shortMetrics(v))
		}
	}
	switch task {
	case model.SequenceClassification, model.TokenClassification:
		auto := "AutoModelForSequenceClassification"
		if task == model.TokenClassification {
			auto = "AutoModelForTokenClassification"
		} else {
			b.WriteString("\nTry it:\n\n```sh\npeftkit classify -m MODEL --lora ADAPTER \"...\"\n```\n")
		}
		fmt.Fprintf(&b, "\nThe names of the labels are in label_map.json, under the keys of transformers' configuration:\n\n"+
			"```python\nlabels = json.load(open(ADAPTER + \"/label_map.json\"))\n"+
			"labels[\"id2label\"] = {int(k): v for k, v in labels[\"id2label\"].items()}\n"+
			"base = %s.from_pretrained(MODEL, **labels)\nmodel = PeftModel.from_pretrained(base, ADAPTER)\n```\n", auto)
	default:
		if to := r.mergesTo(); to != "" {
			fmt.Fprintf(&b, "\nTry it, or merge it into the model:\n\n```sh\npeftkit generate -m MODEL --lora ADAPTER -p \"...\"\npeftkit merge-lora -m MODEL --lora ADAPTER -o %s\n```\n", to)
		} else {
			b.WriteString("\nTry it:\n\n```sh\npeftkit generate -m MODEL --lora ADAPTER -p \"...\"\n```\n")
		}
	}
	return b.String()
}

// yamlText writes a string as YAML: plain where that is safe, quoted otherwise.
func yamlText(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") == "" && s[0] != '-' && s[0] != '.' {
		return s
	}
	j, err := json.Marshal(s)
	if err != nil {
		return "''"
	}
	return string(j)
}
