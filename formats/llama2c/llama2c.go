// Package llama2c reads models of llama2.c (https://github.com/karpathy/llama2.c)
// in its first file layout: seven int32 and then float32 tensors, with the
// vocabulary in a file of its own beside it. The model is presented as a GGUF of
// architecture llama: both rotate interleaved pairs, so no row moves.
package llama2c

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/mmap"
	"github.com/peftkit/peftkit/tensor"
)

// Format is the plug-in "llama2c".
type Format struct{}

var _ formats.ModelReader = Format{}

func init() { formats.Register(Format{}) }

// Name returns "llama2c".
func (Format) Name() string { return "llama2c" }

// Doc describes the format in one line.
func (Format) Doc() string {
	return "llama2.c model.bin of the first layout, with tok*.bin or tokenizer.bin beside it (read only)"
}

// headerSize is seven int32.
const headerSize = 28

// magicNew begins the later layouts of llama2.c ("ak42").
const magicNew = 0x616b3432

// config is the header.
type config struct {
	dim, hidden, layers, heads, kvHeads, vocab, seqLen int
	tied                                               bool // vocab is positive in the file
}

// parseConfig reads the header; ok is false when its numbers cannot be a model's.
func parseConfig(b []byte) (c config, ok bool) {
	if len(b) < headerSize {
		return c, false
	}
	var v [7]int
	for i := range v {
		v[i] = int(int32(binary.LittleEndian.Uint32(b[4*i:])))
	}
	c = config{dim: v[0], hidden: v[1], layers: v[2], heads: v[3], kvHeads: v[4], vocab: v[5], seqLen: v[6], tied: v[5] > 0}
	if c.vocab < 0 {
		c.vocab = -c.vocab
	}
	const big = 1 << 17
	for _, x := range []int{c.dim, c.hidden, c.heads, c.kvHeads, c.seqLen} {
		if x < 1 || x > big {
			return c, false
		}
	}
	ok = c.layers >= 1 && c.layers <= 512 && c.vocab >= 1 && c.vocab <= 1<<22 &&
		c.dim%c.heads == 0 && c.heads%c.kvHeads == 0 && c.dim/c.heads%2 == 0
	return c, ok
}

// part is a group of tensors in the file: one, or one for each layer.
type part struct {
	name       string // with %d for the layer if there is one of each
	rows, cols int    // rows is 0 for a vector
	skip       bool
}

// parts lists the file in order.
func (c config) parts() []part {
	kv := c.dim / c.heads * c.kvHeads
	p := []part{
		{name: "token_embd.weight", rows: c.vocab, cols: c.dim},
		{name: "blk.%d.attn_norm.weight", cols: c.dim},
		{name: "blk.%d.attn_q.weight", rows: c.dim, cols: c.dim},
		{name: "blk.%d.attn_k.weight", rows: kv, cols: c.dim},
		{name: "blk.%d.attn_v.weight", rows: kv, cols: c.dim},
		{name: "blk.%d.attn_output.weight", rows: c.dim, cols: c.dim},
		{name: "blk.%d.ffn_norm.weight", cols: c.dim},
		{name: "blk.%d.ffn_gate.weight", rows: c.hidden, cols: c.dim},
		{name: "blk.%d.ffn_down.weight", rows: c.dim, cols: c.hidden},
		{name: "blk.%d.ffn_up.weight", rows: c.hidden, cols: c.dim},
		{name: "output_norm.weight", cols: c.dim},
		// Cosines and sines of the rotation, which every reader computes itself.
		{name: "freq_cis", rows: 2 * c.seqLen, cols: c.dim / c.heads / 2, skip: true},
	}
	if !c.tied {
		p = append(p, part{name: "output.weight", rows: c.vocab, cols: c.dim})
	}
	return p
}

func (p part) elements() int64 { return int64(max(p.rows, 1)) * int64(p.cols) }

func (p part) count(layers int) int {
	if strings.Contains(p.name, "%d") {
		return layers
	}
	return 1
}

// size returns the length of the whole file. The bounds of parseConfig keep it
// far below 2^63.
func (c config) size() int64 {
	n := int64(0)
	for _, p := range c.parts() {
		n += p.elements() * int64(p.count(c.layers))
	}
	return headerSize + 4*n
}

// Probe recognises a .bin file whose header implies exactly its length.
func (Format) Probe(path string) formats.Confidence {
	if !strings.HasSuffix(strings.ToLower(path), ".bin") {
		return formats.No
	}
	head, err := formats.Head(path, headerSize)
	if err != nil || len(head) < headerSize {
		return formats.No
	}
	if binary.LittleEndian.Uint32(head) == magicNew {
		return formats.Yes // OpenModel says which layout it is
	}
	c, ok := parseConfig(head)
	if !ok {
		return formats.No
	}
	if n, err := fileSize(path); err == nil && n == c.size() {
		return formats.Yes
	}
	return formats.Maybe
}

// OpenModel maps the file at path and reads the vocabulary beside it.
func (Format) OpenModel(path string) (*formats.Model, error) {
	mm, err := mmap.Open(path)
	if err != nil {
		return nil, &formats.FileError{File: path, Err: err}
	}
	m, c, err := parse(path, mm.Data)
	if err != nil {
		mm.Close()
		return nil, err
	}
	m.OnClose(mm)
	vocab, from, err := findVocab(path, c.vocab)
	if err != nil {
		m.Close()
		return nil, err
	}
	m.Sources = []string{path, from}
	m.Meta = c.meta(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), vocab)
	return m, nil
}

// parse builds the tensors, views of data.
func parse(path string, data []byte) (*formats.Model, config, error) {
	e := &formats.FileError{File: path}
	if len(data) >= 4 && binary.LittleEndian.Uint32(data) == magicNew {
		e.Err, e.Found, e.Want = formats.ErrUnsupported, "a later layout of llama2.c (ak42)", "the first one, which export.py writes as --version 0"
		return nil, config{}, e
	}
	c, ok := parseConfig(data)
	if !ok {
		if err := formats.Impostor(path, data[:min(len(data), 4096)]); err != nil {
			return nil, c, err
		}
		e.Err, e.Found, e.Want = formats.ErrHeader, fmt.Sprintf("%d", data[:min(len(data), headerSize)]), "seven int32: sizes of a Llama model"
		return nil, c, e
	}
	if want, have := c.size(), int64(len(data)); want != have {
		e.Err, e.Found, e.Want = formats.ErrTruncated, fmt.Sprintf("%d bytes", have), fmt.Sprintf("%d for dim %d, hidden %d, %d layers, %d heads, %d key heads, vocabulary %d, length %d",
			want, c.dim, c.hidden, c.layers, c.heads, c.kvHeads, c.vocab, c.seqLen)
		if have > want {
			e.Err = formats.ErrLayout
		}
		return nil, c, e
	}
	m := &formats.Model{Path: path, Format: "llama2c", Naming: formats.GGUF, Sources: []string{path}}
	pos := int64(headerSize)
	for _, p := range c.parts() {
		n := 4 * p.elements()
		for l := range p.count(c.layers) {
			name, shape := p.name, []int{p.cols}
			if strings.Contains(name, "%d") {
				name = fmt.Sprintf(name, l)
			}
			if p.rows > 0 {
				shape = []int{p.rows, p.cols}
			}
			if !p.skip {
				m.Tensors = append(m.Tensors, &tensor.Tensor{Name: name, Type: tensor.F32, Shape: shape, Data: data[pos : pos+n : pos+n], File: path, Offset: pos})
			}
			pos += n
		}
	}
	return m, c, nil
}

// meta describes the model as a GGUF of architecture llama does.
func (c config) meta(name string, v *vocab) formats.Meta {
	return formats.Meta{
		{Key: "general.architecture", Value: "llama"},
		{Key: "general.type", Value: "model"},
		{Key: "general.name", Value: name},
		{Key: "llama.block_count", Value: uint32(c.layers)},
		{Key: "llama.context_length", Value: uint32(c.seqLen)},
		{Key: "llama.embedding_length", Value: uint32(c.dim)},
		{Key: "llama.feed_forward_length", Value: uint32(c.hidden)},
		{Key: "llama.attention.head_count", Value: uint32(c.heads)},
		{Key: "llama.attention.head_count_kv", Value: uint32(c.kvHeads)},
		{Key: "llama.rope.freq_base", Value: float32(10000)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
		{Key: "general.file_type", Value: uint32(tensor.F32.FileType)},
		{Key: "llama.vocab_size", Value: uint32(c.vocab)},
		{Key: "llama.rope.dimension_count", Value: uint32(c.dim / c.heads)},
		{Key: "tokenizer.ggml.model", Value: "llama"},
		{Key: "tokenizer.ggml.pre", Value: "default"},
		{Key: "tokenizer.ggml.tokens", Value: v.tokens},
		{Key: "tokenizer.ggml.scores", Value: v.scores},
		{Key: "tokenizer.ggml.token_type", Value: v.types},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(2)},
		{Key: "tokenizer.ggml.unknown_token_id", Value: uint32(0)},
		{Key: "tokenizer.ggml.add_bos_token", Value: true},
		{Key: "tokenizer.ggml.add_eos_token", Value: false},
		{Key: "tokenizer.ggml.add_space_prefix", Value: true},
	}
}

func float32At(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
