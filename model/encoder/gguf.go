package encoder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/model/decoder"
	"github.com/peftkit/peftkit/tensor"
)

// arch is what llama.cpp calls all three families.
const arch = "bert"

// llama.cpp's kinds of pooling (gguf-py's PoolingType).
const (
	poolMean = 1
	poolCLS  = 2
	poolRank = 4
)

// matchGGUF tells the families apart by what their files have: DistilBERT no
// token types, RoBERTa a tokenizer of its own.
func (f *family) matchGGUF(m *formats.Model) bool {
	if m.Meta.Str("general.architecture") != arch {
		return false
	}
	types := slices.ContainsFunc(m.Tensors, func(t *tensor.Tensor) bool { return t.Name == "token_types.weight" })
	bytesOrPieces := m.Meta.Str("tokenizer.ggml.model") == "gpt2" || m.Meta.Str("tokenizer.ggml.model") == "t5"
	return f.s.GGUF(types, bytesOrPieces)
}

// openGGUF maps the tensors of a GGUF file, whose metadata becomes a config.json.
func (f *family) openGGUF(m *formats.Model) (*model.Checkpoint, error) {
	s := &f.s
	if err := model.CheckMeta(m, arch, f.Keys(formats.GGUF)); err != nil {
		return nil, err
	}
	raw, err := s.configFromGGUF(m)
	if err != nil {
		return nil, err
	}
	c, err := s.config(raw)
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	file := *m
	file.Tensors = nil
	table := s.Base + ".embeddings.position_embeddings.weight"
	var cut *tensor.Tensor
	rules := s.rules(c)
	heads := s.ggufHeads()
	for _, t := range m.Tensors {
		if t.Name == "position_embd.weight" && c.Offset > 0 && len(t.Shape) == 2 {
			cut = t
			if t, err = withRows(t, c.Offset); err != nil {
				return nil, formats.At(m.Path, err)
			}
		}
		if mod, ok := heads[trim(t.Name)]; ok {
			rules = append(rules, model.Rule{HF: mod + t.Name[len(trim(t.Name)):], GGUF: t.Name, Shape: t.Shape})
		}
		file.Tensors = append(file.Tensors, t)
	}
	entries, err := model.Bind(&file, rules, func(string) bool { return false })
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if entries[i].HF == table {
			entries[i].InGGUF = cut
		}
	}
	return &model.Checkpoint{Family: f, Source: m, Config: raw, Entries: entries}, nil
}

// trim cuts ".weight" or ".bias" off.
func trim(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, ".weight"), ".bias")
}

// withRows returns t with n rows of zeros before it: the positions that RoBERTa
// never uses and llama.cpp does not store.
func withRows(t *tensor.Tensor, n int) (*tensor.Tensor, error) {
	v, err := t.AllFloats()
	if err != nil {
		return nil, err
	}
	out := tensor.FromFloats(t.Name, []int{t.Shape[0] + n, t.Shape[1]}, append(make([]float32, n*t.Shape[1]), v...))
	out.File, out.Offset = t.File, t.Offset
	return out, nil
}

// withoutRows returns t without its first n rows.
func withoutRows(t *tensor.Tensor, n int) *tensor.Tensor {
	out := *t
	out.Shape = []int{t.Shape[0] - n, t.Shape[1]}
	skip := n * t.RowBytes()
	out.Data, out.Offset = t.Data[skip:], t.Offset+int64(skip)
	return &out
}

// ggufHeads maps llama.cpp's classifier, act(cls(row)) and then cls.output, to
// the modules of the sequence classifier.
func (s *Spec) ggufHeads() map[string]string {
	return map[string]string{"cls": s.Head.Dense, "cls.output": s.Head.Out}
}

// nameGGUF gives the tensors that are not of the network their place in GGUF:
// those of a sequence classifier have one, those of other heads do without. It
// also cuts the rows off that llama.cpp does not store.
func (s *Spec) nameGGUF(ck *model.Checkpoint, c *Config) {
	names := map[string]string{}
	for gguf, hf := range s.ggufHeads() {
		names[hf] = gguf
	}
	for i := range ck.Entries {
		e := &ck.Entries[i]
		mod := trim(e.HF)
		switch gguf, ok := names[mod]; {
		case ok:
			e.GGUF = gguf + e.HF[len(mod):]
		case s.unused(e.HF) != "":
			e.Unused = true
		case strings.HasSuffix(e.HF, ".position_embeddings.weight") && c.Offset > 0:
			e.InGGUF = withoutRows(e.T, c.Offset)
		}
	}
}

// GGUFNames implements model.Family.
func (f *family) GGUFNames(config json.RawMessage) (*model.Names, error) {
	c, err := f.s.config(config)
	if err != nil {
		return nil, err
	}
	n := &model.Names{Arch: arch, ToGGUF: map[string]string{}, ToHF: map[string]string{}}
	for _, m := range f.s.modules(c) {
		n.ToGGUF[m.hf], n.ToHF[m.gguf] = m.gguf, m.hf
	}
	for gguf, hf := range f.s.ggufHeads() {
		n.ToGGUF[hf], n.ToHF[gguf] = gguf, hf
	}
	return n, nil
}

// headKeys is what config.json says about a head.
type headKeys struct {
	Architectures []string          `json:"architectures"`
	ID2Label      map[string]string `json:"id2label"`
}

// GGUFMeta implements model.Family. Keys and order are those of llama.cpp's
// conversion of BERT.
func (f *family) GGUFMeta(ck *model.Checkpoint) (formats.Meta, []model.Entry, error) {
	if ck.Source.Naming == formats.GGUF {
		return slices.Clone(ck.Source.Meta), nil, nil
	}
	c, err := f.s.config(ck.Config)
	if err != nil {
		return nil, nil, err
	}
	if c.Act != "gelu" {
		return nil, nil, fmt.Errorf("%s: %s %q: %w in GGUF, where this architecture is computed with gelu", ck.Source.Path, c.Keys.Act, c.Act, model.ErrUnsupported)
	}
	m := formats.Meta{
		{Key: "general.architecture", Value: arch},
		{Key: "general.type", Value: "model"},
		{Key: "bert.block_count", Value: uint32(c.Layers)},
		{Key: "bert.context_length", Value: uint32(c.Positions - c.Offset)},
		{Key: "bert.embedding_length", Value: uint32(c.Hidden)},
		{Key: "bert.feed_forward_length", Value: uint32(c.FFN)},
		{Key: "bert.attention.head_count", Value: uint32(c.Heads)},
		{Key: "bert.attention.layer_norm_epsilon", Value: float32(c.Eps)},
		{Key: "bert.attention.causal", Value: false},
	}
	var h headKeys
	if err := json.Unmarshal(ck.Config, &h); err != nil {
		return nil, nil, fmt.Errorf("%s: config.json: %w", ck.Source.Path, err)
	}
	for _, a := range h.Architectures {
		if strings.HasSuffix(a, model.TokenClassification.Suffix()) {
			return nil, nil, fmt.Errorf("%s: %s: %w in GGUF, which has no place for a head that reads every token", ck.Source.Path, a, model.ErrUnsupported)
		}
	}
	out := ck.Tensor(f.s.Head.Out + ".weight")
	switch {
	case ck.Tensor(f.s.Head.Dense+".weight") != nil && out != nil && f.s.Head.Act.Name == "tanh":
		m.Set("bert.pooling_type", uint32(poolRank))
	default:
		if p := pooling(ck.Source); p > 0 {
			m.Set("bert.pooling_type", p)
		}
	}
	if out != nil {
		labels := make([]string, out.Shape[0])
		for i := range labels {
			if labels[i] = h.ID2Label[strconv.Itoa(i)]; labels[i] == "" {
				labels[i] = fmt.Sprintf("LABEL_%d", i)
			}
		}
		m.Set("bert.classifier.output_labels", labels)
	}
	m.Set("tokenizer.ggml.token_type_count", uint32(max(c.Types, 1)))
	return m, nil, nil
}

// pooling returns llama.cpp's number of the pooling that a folder of
// sentence-transformers asks for, 0 for none.
func pooling(m *formats.Model) uint32 {
	raw, err := os.ReadFile(filepath.Join(m.Path, "1_Pooling", "config.json"))
	if err != nil || len(raw) > 1<<16 {
		return 0
	}
	var c struct {
		CLS  bool `json:"pooling_mode_cls_token"`
		Mean bool `json:"pooling_mode_mean_tokens"`
	}
	switch err := json.Unmarshal(raw, &c); {
	case err != nil:
		return 0
	case c.Mean:
		return poolMean
	case c.CLS:
		return poolCLS
	}
	return 0
}

// configFromGGUF writes the config.json that corresponds to GGUF metadata.
func (s *Spec) configFromGGUF(m *formats.Model) (json.RawMessage, error) {
	var missing error
	num := func(key string) int {
		v, ok := m.Meta.Int(arch + "." + key)
		if !ok && missing == nil {
			missing = fmt.Errorf("%s: metadata key %s.%s is missing or no integer: %w", m.Path, arch, key, model.ErrMismatch)
		}
		return int(v)
	}
	eps, ok := m.Meta.Float(arch + ".attention.layer_norm_epsilon")
	if !ok {
		return nil, fmt.Errorf("%s: metadata key %s.attention.layer_norm_epsilon is missing: %w", m.Path, arch, model.ErrMismatch)
	}
	c := &Config{
		Hidden: num("embedding_length"), FFN: num("feed_forward_length"), Layers: num("block_count"),
		Heads: num("attention.head_count"), Positions: num("context_length"), Act: "gelu", Init: 0.02,
		Padding: -1,
	}
	c.Eps, _ = strconv.ParseFloat(strconv.FormatFloat(eps, 'g', -1, 32), 64) // the fewest digits of the same float32
	if v, ok := m.Meta.Int("tokenizer.ggml.padding_token_id"); ok {
		c.Padding = int(v)
	}
	var labels []string
	head := ""
	for _, t := range m.Tensors {
		switch {
		case t.Name == "token_embd.weight" && len(t.Shape) == 2:
			c.Vocab = t.Shape[0]
		case t.Name == "token_types.weight" && len(t.Shape) == 2:
			c.Types = t.Shape[0]
		case t.Name == "cls.output.weight":
			head = "ForSequenceClassification"
			labels, _ = m.Meta.Get(arch + ".classifier.output_labels").([]string)
		}
	}
	if missing != nil {
		return nil, missing
	}
	var b bytes.Buffer
	put := func(key string, v any) {
		if b.Len() > 0 {
			b.WriteString(",\n")
		}
		j, _ := json.Marshal(v)
		fmt.Fprintf(&b, "  %q: %s", key, j)
	}
	if head == "" {
		head = "Model"
	}
	put("architectures", []string{s.Classes[0] + head})
	put("model_type", s.Types[0])
	s.Write(c, put)
	if labels != nil {
		ids, names := map[string]int{}, map[string]string{}
		for i, l := range labels {
			ids[l], names[strconv.Itoa(i)] = i, l
		}
		put("id2label", names)
		put("label2id", ids)
	}
	return []byte("{\n" + b.String() + "\n}\n"), nil
}

// Keys implements model.Keyed.
func (f *family) Keys(naming formats.Naming) []model.Key {
	if naming != formats.GGUF {
		return f.s.Keys
	}
	keys := slices.Concat(decoder.BaseKeys(), decoder.Without(decoder.RopeKeys(false)), []model.Key{
		{Name: "attention.layer_norm_epsilon", Effect: model.Used, Kind: "float32", Why: "what is added to variances"},
		{Name: "classifier.output_labels", Effect: model.Used, Kind: "string", List: true, Why: "the number and the names of the classes"},
	})
	for i := range keys {
		if keys[i].Name == "attention.causal" {
			keys[i] = model.Key{Name: "attention.causal", Effect: model.WithoutEffect, Kind: "bool", Why: "llama.cpp's encoders attend to everything whatever it says"}
		}
		if keys[i].Name == "pooling_type" {
			keys[i].Why = "what llama.cpp makes of all rows; the rows are the same"
		}
	}
	return keys
}
