package encoder

import (
	"fmt"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
)

// kind tells what a module is.
type kind int

const (
	linear kind = iota
	embedding
	norm
)

// module is one linear, embedding or norm of the network under both names.
type module struct {
	hf, gguf string
	kind     kind
	shape    []int // of the weight
}

// ggufEmbedding and ggufLayer are llama.cpp's names (gguf-py's MODEL_ARCH.BERT).
var (
	ggufEmbedding = map[string]string{
		"word_embeddings": "token_embd", "position_embeddings": "position_embd",
		"token_type_embeddings": "token_types", "LayerNorm": "token_embd_norm",
	}
	ggufLayer = [8]string{"attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "ffn_up", "ffn_down", "layer_output_norm"}
)

// modules lists the modules of the network without heads, in the order of
// transformers' named_modules.
func (s *Spec) modules(c *Config) []module {
	h := c.Hidden
	var out []module
	for _, name := range s.Embeddings {
		m := module{hf: s.Base + ".embeddings." + name, gguf: ggufEmbedding[name], kind: embedding}
		switch name {
		case "word_embeddings":
			m.shape = []int{c.Vocab, h}
		case "position_embeddings":
			m.shape = []int{c.Positions, h}
		case "token_type_embeddings":
			m.shape = []int{c.Types, h}
		default:
			m.kind, m.shape = norm, []int{h}
		}
		out = append(out, m)
	}
	for l := range c.Layers {
		for i, name := range s.Layer {
			m := module{hf: s.layer(l) + name, gguf: fmt.Sprintf("blk.%d.%s", l, ggufLayer[i]), shape: []int{h, h}}
			switch i {
			case 4, 7:
				m.kind, m.shape = norm, []int{h}
			case 5:
				m.shape = []int{c.FFN, h}
			case 6:
				m.shape = []int{h, c.FFN}
			}
			out = append(out, m)
		}
	}
	return out
}

// layer returns the path of a layer with a dot at its end.
func (s *Spec) layer(l int) string { return fmt.Sprintf("%s.%s.%d.", s.Base, s.Layers, l) }

// rules lists the tensors of the network without heads.
func (s *Spec) rules(c *Config) []model.Rule {
	var out []model.Rule
	for _, m := range s.modules(c) {
		out = append(out, model.Rule{HF: m.hf + ".weight", GGUF: m.gguf + ".weight", Shape: m.shape})
		if m.kind != embedding {
			out = append(out, model.Rule{HF: m.hf + ".bias", GGUF: m.gguf + ".bias", Shape: m.shape[:1]})
		}
	}
	return out
}

// headModules lists the modules that heads may have.
func (s *Spec) headModules() []string {
	out := []string{s.Head.Dense, s.Head.Out}
	if s.Head.Out != tokenHead {
		out = append(out, tokenHead)
	}
	return out
}

// isHead reports whether a tensor is of the head of some task.
func (s *Spec) isHead(name string) bool {
	for _, p := range s.headModules() {
		if name == p+".weight" || name == p+".bias" {
			return true
		}
	}
	return false
}

// unused returns the beginning of names that a tensor of a pretraining head has,
// "" for other tensors.
func (s *Spec) unused(name string) string {
	for _, p := range s.Unused {
		if strings.HasPrefix(name, p) {
			return p
		}
	}
	return ""
}

// modern returns today's name of a tensor: that of a bare base model gets its
// prefix, and norms that were converted from TensorFlow have a weight and a bias.
func (s *Spec) modern(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		switch name[i+1:] {
		case "gamma":
			name = name[:i] + ".weight"
		case "beta":
			name = name[:i] + ".bias"
		}
	}
	first, _, _ := strings.Cut(s.Layers, ".") // encoder, transformer
	for _, p := range []string{"embeddings.", first + ".", "pooler."} {
		if strings.HasPrefix(name, p) {
			return s.Base + "." + name
		}
	}
	return name
}

// Open implements model.Family.
func (f *family) Open(m *formats.Model) (*model.Checkpoint, error) {
	if m.Naming == formats.GGUF {
		return f.openGGUF(m)
	}
	s := &f.s
	c, err := s.config(m.Config)
	if err != nil {
		return nil, formats.At(m.Path, err)
	}
	rules := s.rules(c)
	named := *m // with today's names
	named.Tensors = nil
	stored := map[string]string{}
	left := map[string]int{}
	for _, t := range m.Tensors {
		u := *t
		u.Name = s.modern(t.Name)
		if u.Name != t.Name {
			stored[u.Name] = t.Name
		}
		named.Tensors = append(named.Tensors, &u)
		head, unused := s.isHead(u.Name), s.unused(u.Name)
		if head || unused != "" {
			// Sizes depend on the labels, which Build knows.
			rules = append(rules, model.Rule{HF: u.Name, Shape: t.Shape})
		}
		if !head && unused != "" {
			left[unused]++
		}
	}
	relative := 0
	entries, err := model.Bind(&named, rules, func(name string) bool {
		if strings.HasSuffix(name, ".distance_embedding.weight") {
			relative++ // of position_embedding_type relative_key, which transformers 5 does not read
			return true
		}
		// Cached tables that old transformers wrote.
		return strings.HasSuffix(name, "embeddings.position_ids") || strings.HasSuffix(name, "embeddings.token_type_ids")
	})
	if err != nil {
		return nil, err
	}
	for i := range entries {
		entries[i].Stored = stored[entries[i].HF]
	}
	ck := &model.Checkpoint{Family: f, Source: m, Config: m.Config, Entries: entries}
	s.nameGGUF(ck, c)
	if relative > 0 {
		ck.Notes = append(ck.Notes, fmt.Sprintf("%d tensors of relative positions (*.distance_embedding.weight) are not used: as in transformers 5, whatever position_embedding_type says, positions are absolute", relative))
	}
	for _, p := range s.Unused {
		if n := left[p]; n > 0 {
			ck.Notes = append(ck.Notes, fmt.Sprintf("%d tensors %s* are of a head that no task here uses: kept in files, not computed", n, p))
		}
	}
	return ck, nil
}
