package testmodel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/tensor"
)

// Encoder is a small model of an encoder-only family: 2 layers of 32 features
// with 4 heads, 64 in the feed-forward block, 48 tokens and 40 positions.
type Encoder struct {
	// Family is bert, roberta or distilbert.
	Family string
	// Task is the ending of the architecture: ForSequenceClassification,
	// ForTokenClassification or Model, which has neither a head nor a prefix.
	Task   string
	Labels int
	Seed   uint64
}

// BERT is a sequence classifier with a head for the given number of labels.
func BERT(labels int) Encoder { return Encoder{"bert", "ForSequenceClassification", labels, 2} }

// RoBERTa is a sequence classifier with a head for the given number of labels.
func RoBERTa(labels int) Encoder { return Encoder{"roberta", "ForSequenceClassification", labels, 3} }

// DistilBERT is a sequence classifier with a head for the given number of labels.
func DistilBERT(labels int) Encoder {
	return Encoder{"distilbert", "ForSequenceClassification", labels, 4}
}

// HF returns the model as an opened Hugging Face folder in float32.
func (e Encoder) HF() *formats.Model {
	const hidden, ffn, layers, heads, vocab, positions = 32, 64, 2, 4, 48, 40
	rng := rand.New(rand.NewPCG(e.Seed, 7))
	m := &formats.Model{Path: "testmodel", Format: "memory", Naming: formats.HF}
	add := func(name string, mean, sigma float64, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(mean + sigma*rng.NormFloat64())
		}
		m.Tensors = append(m.Tensors, tensor.FromFloats(name, shape, v))
	}
	linear := func(name string, out, in int) {
		add(name+".weight", 0, 0.2, out, in)
		add(name+".bias", 0, 0.2, out)
	}
	norm := func(name string) {
		add(name+".weight", 1, 0.1, hidden)
		add(name+".bias", 0, 0.1, hidden)
	}
	base := e.Family + "."
	if e.Task == "Model" {
		base = ""
	}
	distil := e.Family == "distilbert"
	add(base+"embeddings.word_embeddings.weight", 0, 0.5, vocab, hidden)
	add(base+"embeddings.position_embeddings.weight", 0, 0.3, positions, hidden)
	if !distil {
		add(base+"embeddings.token_type_embeddings.weight", 0, 0.3, e.types(), hidden)
	}
	norm(base + "embeddings.LayerNorm")
	for l := range layers {
		p, names := fmt.Sprintf("%sencoder.layer.%d.", base, l), []string{
			"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
			"intermediate.dense", "output.dense", "output.LayerNorm"}
		if distil {
			p, names = fmt.Sprintf("%stransformer.layer.%d.", base, l), []string{
				"attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"}
		}
		for i, name := range names {
			switch i {
			case 4, 7:
				norm(p + name)
			case 5:
				linear(p+name, ffn, hidden)
			case 6:
				linear(p+name, hidden, ffn)
			default:
				linear(p+name, hidden, hidden)
			}
		}
	}
	if e.Family == "bert" && e.Task != "ForTokenClassification" {
		linear(base+"pooler.dense", hidden, hidden)
	}
	switch {
	case e.Task == "Model":
	case e.Task == "ForTokenClassification" || e.Family == "bert":
		linear("classifier", e.Labels, hidden)
	case e.Family == "roberta":
		linear("classifier.dense", hidden, hidden)
		linear("classifier.out_proj", e.Labels, hidden)
	default:
		linear("pre_classifier", hidden, hidden)
		linear("classifier", e.Labels, hidden)
	}
	class := map[string]string{"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}[e.Family]
	cfg := map[string]any{
		"architectures": []string{class + e.Task}, "model_type": e.Family, "vocab_size": vocab,
		"max_position_embeddings": positions, "initializer_range": 0.02,
	}
	if distil {
		cfg["dim"], cfg["hidden_dim"], cfg["n_layers"], cfg["n_heads"], cfg["activation"], cfg["pad_token_id"] = hidden, ffn, layers, heads, "gelu", 0
	} else {
		cfg["hidden_size"], cfg["intermediate_size"], cfg["num_hidden_layers"], cfg["num_attention_heads"] = hidden, ffn, layers, heads
		cfg["hidden_act"], cfg["layer_norm_eps"], cfg["type_vocab_size"], cfg["pad_token_id"] = "gelu", 1e-12, e.types(), 0
		if e.Family == "roberta" {
			cfg["pad_token_id"] = 1
		}
	}
	if e.Labels > 0 {
		id2label := map[string]string{}
		for i := range e.Labels {
			id2label[strconv.Itoa(i)] = fmt.Sprintf("class-%d", i)
		}
		cfg["id2label"] = id2label
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		panic("testmodel: " + err.Error())
	}
	m.Config = raw
	return m
}

// types returns the number of token types.
func (e Encoder) types() int {
	if e.Family == "roberta" {
		return 1
	}
	return 2
}
