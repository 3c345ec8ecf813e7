package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/model"
	_ "github.com/peftkit/peftkit/plugins/standard"
	"github.com/peftkit/peftkit/tensor"
)

// stories returns the path of the real 260K-parameter model.
func stories(t testing.TB) string { return testdata.Dir(t, "models", "stories260K", "stories260K.bin") }

// convertTo converts and returns the new path and the report.
func convertTo(t testing.TB, src, name, typ string) (string, *Report) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), name)
	r, err := File(context.Background(), src, dst, Options{Type: typ})
	require.NoError(t, err)
	return dst, r
}

// raw opens a model without a family.
func raw(t testing.TB, path string) *formats.Model {
	t.Helper()
	m, err := formats.OpenModel(path)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// open opens a checkpoint.
func open(t testing.TB, path string) *model.Checkpoint {
	t.Helper()
	c, err := model.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// logical returns the values of all tensors by Hugging Face name.
func logical(t testing.TB, path string) map[string][]float32 {
	t.Helper()
	out := map[string][]float32{}
	for _, e := range open(t, path).Entries {
		v, err := e.T.AllFloats()
		require.NoError(t, err)
		out[e.HF+"|"+e.GGUF] = v
	}
	return out
}

// requireSameTensors compares names, types, shapes and bytes of two files.
func requireSameTensors(t testing.TB, a, b string) {
	t.Helper()
	x, y := raw(t, a), raw(t, b)
	byName := map[string]*tensor.Tensor{}
	for _, u := range y.Tensors {
		byName[u.Name] = u
	}
	require.Len(t, y.Tensors, len(x.Tensors))
	for _, u := range x.Tensors {
		v := byName[u.Name]
		require.NotNil(t, v, u.Name)
		require.Equal(t, u.Type, v.Type, u.Name)
		require.Equal(t, u.Shape, v.Shape, u.Name)
		require.Equal(t, string(u.Data), string(v.Data), u.Name)
	}
}

// tiny is a Llama configuration that needs no files.
type tiny struct {
	hidden, ff, layers, heads, kv, vocab int
	tied                                 bool
	typ                                  *tensor.DType
}

func (c tiny) config() string {
	return fmt.Sprintf(`{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":%d,
"num_attention_heads":%d,"num_key_value_heads":%d,"vocab_size":%d,"max_position_embeddings":64,"rms_norm_eps":1e-05,"tie_word_embeddings":%v,"torch_dtype":"float32","odd_key":1e999999}`,
		c.hidden, c.ff, c.layers, c.heads, c.kv, c.vocab, c.tied)
}

// write writes the model as a folder. change may alter the values of a tensor.
func (c tiny) write(t testing.TB, change func(name string, v []float32)) string {
	t.Helper()
	if c.typ == nil {
		c.typ = tensor.F32
	}
	rng := rand.New(rand.NewPCG(1, 2))
	out := &formats.OutModel{Config: json.RawMessage(strings.Replace(c.config(), "1e999999", `"kept as it is"`, 1)), Files: map[string][]byte{}}
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * 0.1)
		}
		if change != nil {
			change(name, v)
		}
		size, _ := c.typ.Size(int64(n))
		b := make([]byte, size)
		c.typ.Encode(b, v)
		out.Tensors = append(out.Tensors, formats.OutTensor{Name: name, Type: c.typ, Shape: shape, WriteTo: func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		}})
	}
	hd := c.hidden / c.heads
	add("model.embed_tokens.weight", c.vocab, c.hidden)
	for l := range c.layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"self_attn.q_proj.weight", c.hidden, c.hidden)
		add(p+"self_attn.k_proj.weight", c.kv*hd, c.hidden)
		add(p+"self_attn.v_proj.weight", c.kv*hd, c.hidden)
		add(p+"self_attn.o_proj.weight", c.hidden, c.hidden)
		add(p+"mlp.gate_proj.weight", c.ff, c.hidden)
		add(p+"mlp.up_proj.weight", c.ff, c.hidden)
		add(p+"mlp.down_proj.weight", c.hidden, c.ff)
		add(p+"input_layernorm.weight", c.hidden)
		add(p+"post_attention_layernorm.weight", c.hidden)
	}
	add("model.norm.weight", c.hidden)
	if !c.tied {
		add("lm_head.weight", c.vocab, c.hidden)
	}
	dir := filepath.Join(t.TempDir(), "tiny")
	writeModel(t, "safetensors", dir, out)
	return dir
}

func writeModel(t testing.TB, format, path string, m *formats.OutModel) {
	t.Helper()
	f, err := formats.ByName(format)
	require.NoError(t, err)
	require.NoError(t, f.(formats.ModelWriter).WriteModel(context.Background(), path, m))
}

// pairSpec is a LoRA pair: B (out, r) times A (r, in); for an embedding the
// change of row t is column t of A times B's transpose.
type pairSpec struct {
	module    string
	out, in   int
	embedding bool
}

// loraSpec is an adapter made in memory.
type loraSpec struct {
	rank   int
	alpha  float64
	pairs  []pairSpec
	whole  map[string][]int // replaced tensors with their shapes
	zeroB  bool
	config map[string]any
	files  map[string][]byte
	seed   uint64

	a, b     map[string][]float32
	replaced map[string][]float32
}

// write writes the adapter as a PEFT folder.
func (s *loraSpec) write(t testing.TB) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(s.seed+7, 11))
	s.a, s.b, s.replaced = map[string][]float32{}, map[string][]float32{}, map[string][]float32{}
	targets := []string{}
	for _, p := range s.pairs {
		targets = append(targets, p.module)
	}
	if len(s.pairs) == 0 { // an adapter always has targets: one without effect
		targets = append(targets, "o_proj")
	}
	cfg := map[string]any{"peft_type": "LORA", "r": s.rank, "lora_alpha": s.alpha, "target_modules": targets, "bias": "none", "task_type": "CAUSAL_LM"}
	for k, v := range s.config {
		cfg[k] = v
	}
	b, err := json.Marshal(cfg)
	require.NoError(t, err)
	out := &formats.OutAdapter{Config: b, Files: s.files}
	add := func(name string, v []float32, shape ...int) {
		x := tensor.FromFloats(name, shape, v)
		out.Tensors = append(out.Tensors, formats.Copy([]*tensor.Tensor{x})...)
	}
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * 0.2)
		}
		return v
	}
	for _, p := range s.pairs {
		A, B := random(s.rank*p.in), random(p.out*s.rank)
		if s.zeroB {
			clear(B)
		}
		s.a[p.module], s.b[p.module] = A, B
		prefix := "base_model.model." + p.module
		if p.embedding {
			add(prefix+".lora_embedding_A", A, s.rank, p.in)
			add(prefix+".lora_embedding_B", B, p.out, s.rank)
			continue
		}
		add(prefix+".lora_A.weight", A, s.rank, p.in)
		add(prefix+".lora_B.weight", B, p.out, s.rank)
	}
	if len(s.pairs) == 0 {
		add("base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight", make([]float32, s.rank*32), s.rank, 32)
		add("base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight", make([]float32, 32*s.rank), 32, s.rank)
	}
	for name, shape := range s.whole {
		n := 1
		for _, d := range shape {
			n *= d
		}
		s.replaced[name] = random(n)
		add("base_model.model."+name, s.replaced[name], shape...)
	}
	f, err := formats.ByName("peft")
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "adapter")
	require.NoError(t, f.(formats.AdapterWriter).WriteAdapter(context.Background(), dir, out))
	return dir
}

// delta returns scale * alpha/r * B A of a pair in float64, row-major like the weight.
func (s *loraSpec) delta(p pairSpec, scale float64) []float64 {
	rows, cols := p.out, p.in
	A, B := s.a[p.module], s.b[p.module]
	at := func(i, j int) (sum float64) {
		for k := range s.rank {
			if p.embedding {
				sum += float64(A[k*p.in+i]) * float64(B[j*s.rank+k])
			} else {
				sum += float64(B[i*s.rank+k]) * float64(A[k*p.in+j])
			}
		}
		return sum * scale * s.alpha / float64(s.rank)
	}
	if p.embedding {
		rows, cols = p.in, p.out
	}
	out := make([]float64, rows*cols)
	for i := range rows {
		for j := range cols {
			out[i*cols+j] = at(i, j)
		}
	}
	return out
}

// rounded encodes and decodes v in rows of cols.
func rounded(d *tensor.DType, v []float32) []float32 {
	size, _ := d.Size(int64(len(v)))
	b := make([]byte, size)
	d.Encode(b, v)
	out := make([]float32, len(v))
	d.Decode(out, b)
	return out
}

func maxDiff(a, b []float32) float64 {
	m := 0.0
	for i := range a {
		m = math.Max(m, math.Abs(float64(a[i])-float64(b[i])))
	}
	return m
}

// requireNothing checks that neither the output nor a temporary file is there.
func requireNothing(t testing.TB, dst string) {
	t.Helper()
	require.NoFileExists(t, dst)
	entries, err := os.ReadDir(filepath.Dir(dst))
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), ".peftkit"), e.Name())
	}
}
