// Recipe makes the model and the data that peftkit demo carries: a Llama of
// about a million parameters, trained by peftkit itself on Jane Austen's six
// novels, and passages to fine-tune it on. The text is in the public domain and
// comes from Debian's package r-cran-janeaustenr. make demo-model runs it.
//
// The numbers depend on the kernel tier but not on the number of threads.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/data"
	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/nn"
	"github.com/peftkit/peftkit/peft"
	_ "github.com/peftkit/peftkit/plugins/standard"
	"github.com/peftkit/peftkit/tensor"
	"github.com/peftkit/peftkit/tokenizer"
	"github.com/peftkit/peftkit/train"
)

const (
	vocabSize, hidden, ffn, layers, heads, kvHeads = 1024, 128, 384, 4, 4, 2
	window, batch                                  = 256, 16
	learningRate, weightDecay                      = 3e-3, 0.05
)

func main() {
	rdata := flag.String("rdata", "", "path of the package's Rdata files, without extension")
	out := flag.String("o", "internal/demo/assets", "folder to write to")
	epochs := flag.Float64("epochs", 8, "passes over the text")
	flag.Parse()
	if err := run(*rdata, *out, *epochs); err != nil {
		fmt.Fprintln(os.Stderr, "recipe:", err)
		os.Exit(1)
	}
}

func run(rdata, out string, epochs float64) error {
	books, err := readLazyData(rdata)
	if err != nil {
		return err
	}
	c := build(books, 500, 50)
	fmt.Printf("%d chapters to train on, %d and %d passages\n", len(c.text), len(c.train), len(c.test))
	tok, err := trainBPE(c.text, vocabSize)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "recipe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	m := start(tok)
	ck, err := model.FromFile(m)
	if err != nil {
		return err
	}
	net, err := model.Build(ck, model.Options{})
	if err != nil {
		return err
	}
	all := &whole{}
	for _, mod := range net.Modules {
		if mod.Path != "lm_head" { // tied
			all.params = append(all.params, mod.Weight().Unfreeze())
		}
	}
	t, err := tokenizer.FromModel(m)
	if err != nil {
		return err
	}
	ds := windows(t, c.text)
	cfg := train.Default()
	cfg.LearningRate, cfg.WeightDecay, cfg.Beta2, cfg.Epochs = learningRate, weightDecay, 0.95, epochs
	cfg.BatchSize, cfg.GradAccum, cfg.Pack = batch, 1, false
	cfg.Hooks = []train.Hook{train.Progress(func(s *train.Step) {
		if s.Step%50 == 0 {
			fmt.Printf("step %d of %d  loss %.3f  %.0f tokens/s  %v left\n", s.Step, s.Total, s.Loss, s.TokensPerSecond(), s.ETA.Round(1e9))
		}
	})}
	if _, err := train.Run(context.Background(), cfg, net, all, ds); err != nil {
		return err
	}
	if err := save(dir+"/hf", m, all.params); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	if _, err := convert.Model(context.Background(), dir+"/hf", filepath.Join(out, "austen.gguf"), convert.Options{Type: "f16"}); err != nil {
		return err
	}
	if err := writeJSONL(filepath.Join(out, "train.jsonl.gz"), c.train); err != nil {
		return err
	}
	return writeJSONL(filepath.Join(out, "test.jsonl.gz"), c.test)
}

// start returns the untrained model: normal weights of deviation 0.02, smaller
// by the depth where they end in the residual sum, as GPT-2 does.
func start(tok []byte) *formats.Model {
	headDim := hidden / heads
	cfg := fmt.Sprintf(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
"hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %d,
"head_dim": %d, "vocab_size": %d, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 512,
"tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false, "bos_token_id": 0, "eos_token_id": 0}
`, hidden, ffn, layers, heads, kvHeads, headDim, vocabSize)
	m := &formats.Model{Path: "austen", Format: "memory", Naming: formats.HF, Config: json.RawMessage(cfg), Files: map[string][]byte{
		"tokenizer.json": tok,
		"tokenizer_config.json": []byte(`{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": false, "model_max_length": 512}
`),
	}}
	rng := rand.New(rand.NewPCG(1775, 1817))
	add := func(name string, sigma float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = 1
			if sigma > 0 {
				v[i] = float32(sigma * rng.NormFloat64())
			}
		}
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, shape, v))
	}
	const sigma = 0.02
	residual := sigma / math.Sqrt(2*layers)
	add("model.embed_tokens.weight", sigma, vocabSize, hidden)
	for l := range layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"self_attn.q_proj.weight", sigma, hidden, hidden)
		add(p+"self_attn.k_proj.weight", sigma, kvHeads*headDim, hidden)
		add(p+"self_attn.v_proj.weight", sigma, kvHeads*headDim, hidden)
		add(p+"self_attn.o_proj.weight", residual, hidden, hidden)
		add(p+"mlp.gate_proj.weight", sigma, ffn, hidden)
		add(p+"mlp.up_proj.weight", sigma, ffn, hidden)
		add(p+"mlp.down_proj.weight", residual, hidden, ffn)
		add(p+"input_layernorm.weight", 0, hidden)
		add(p+"post_attention_layernorm.weight", 0, hidden)
	}
	add("model.norm.weight", 0, hidden)
	return m
}

// windows cuts the chapters into sequences of the model's training length.
func windows(t *tokenizer.Tokenizer, text []string) *data.Dataset {
	ds := &data.Dataset{MaxSeqLen: window}
	eos, _ := t.EOS()
	var ids []int32
	for _, ch := range text {
		ids = append(append(ids, eos), t.Encode(ch, false)...)
	}
	for len(ids) > window {
		ds.Examples = append(ds.Examples, data.Example{Tokens: ids[:window], Labels: ids[:window], File: "novels"})
		ids = ids[window:]
	}
	fmt.Printf("%d windows of %d tokens\n", len(ds.Examples), window)
	return ds
}

// whole is every weight of the model as one adapter: full training.
type whole struct{ params []*nn.Param }

var _ peft.Adapter = (*whole)(nil)

func (w *whole) Params() []*nn.Param              { return w.params }
func (w *whole) Config() (json.RawMessage, error) { return json.RawMessage(`{}`), nil }
func (w *whole) Summary() string                  { return "all weights" }

func save(dir string, m *formats.Model, params []*nn.Param) error {
	f, err := formats.ByName("safetensors")
	if err != nil {
		return err
	}
	out := &formats.OutModel{Config: m.Config, Files: m.Files}
	for _, p := range params {
		out.Tensors = append(out.Tensors, peft.OutParam(p))
	}
	return f.(formats.ModelWriter).WriteModel(context.Background(), dir, out)
}

func writeJSONL(path string, list []example) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	e := json.NewEncoder(z)
	e.SetEscapeHTML(false)
	for _, x := range list {
		if err := e.Encode(x); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return write(path, &b)
}

func write(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Close()
}
