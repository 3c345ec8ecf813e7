package convert

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/testdata"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

var small = tiny{hidden: 32, ff: 64, layers: 1, heads: 4, kv: 2, vocab: 48}

func TestRefusals(t *testing.T) {
	hf := small.write(t, nil)
	bin := stories(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	gguf := in("model.gguf")
	_, err := Model(context.Background(), bin, gguf, Options{})
	require.NoError(t, err)
	link := in("link.gguf")
	require.NoError(t, os.Symlink(gguf, link))
	require.NoError(t, os.Mkdir(in("full"), 0o777))
	require.NoError(t, os.WriteFile(in("full/notes.txt"), []byte("mine"), 0o666))
	adapter := testdata.Dir(t, "adapters", "smollm-medical")
	mamba := small.write(t, nil)
	require.NoError(t, os.WriteFile(filepath.Join(mamba, "config.json"), []byte(`{"architectures":["MambaForCausalLM"],"model_type":"mamba"}`), 0o666))
	for name, c := range map[string]struct {
		src, dst string
		o        Options
		is       error
		says     string
	}{
		"empty output":                  {src: hf, dst: "", is: ErrOutput},
		"output is the source":          {src: gguf, dst: gguf, is: ErrOutput, says: "source itself"},
		"output is a link to it":        {src: gguf, dst: link, is: ErrOutput, says: "source itself"},
		"output is the source folder":   {src: hf, dst: hf, o: Options{Type: "bf16"}, is: ErrOutput},
		"output in the source folder":   {src: hf, dst: filepath.Join(hf, "a", "b"), is: ErrOutput, says: "inside"},
		"output folder is not empty":    {src: gguf, dst: in("full"), says: "notes.txt"},
		"output is a folder for gguf":   {src: gguf, dst: in("full"), o: Options{To: "gguf"}, says: "folder"},
		"output is a single file":       {src: gguf, dst: in("m.safetensors"), is: ErrOption, says: "folder"},
		"output is a device":            {src: gguf, dst: os.DevNull, o: Options{To: "gguf"}, is: ErrOutput, says: "device"},
		"ending against --to":           {src: gguf, dst: in("x.gguf"), o: Options{To: "safetensors"}, is: ErrOption},
		"unknown format":                {src: gguf, dst: in("x"), o: Options{To: "onnx"}, is: ErrOption, says: "onnx"},
		"format that only reads":        {src: gguf, dst: in("x"), o: Options{To: "llama2c"}, is: ErrOption, says: "gguf, safetensors"},
		"model to an adapter format":    {src: gguf, dst: in("x"), o: Options{To: "peft"}, is: ErrOption},
		"unknown type":                  {src: gguf, dst: in("x.gguf"), o: Options{Type: "q3_k_m"}, is: ErrOption, says: "q3_k_m"},
		"type without weights":          {src: gguf, dst: in("x.gguf"), o: Options{Type: "i32"}, is: ErrOption},
		"type that GGUF files are none": {src: gguf, dst: in("x.gguf"), o: Options{Type: "f64"}, is: ErrOption},
		"quantised folder":              {src: gguf, dst: in("x"), o: Options{Type: "q8_0"}, is: ErrOption, says: "safetensors has no block-quantised types"},
		"no source":                     {src: in("nothing.gguf"), dst: in("x.gguf"), is: os.ErrNotExist},
		"no tokenizer":                  {src: hf, dst: in("x.gguf"), is: formats.ErrMissing, says: "tokenizer.json"},
		"LFS pointer":                   {src: testdata.Dir(t, "refuse", "lfs-pointer.safetensors"), dst: in("x.gguf"), is: formats.ErrLFSPointer},
		"pickle":                        {src: testdata.Dir(t, "refuse", "training_args.bin"), dst: in("x.gguf")},
		"vocabulary only":               {src: testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-llama-spm.gguf"), dst: in("x")},
		"vocabulary of another kind":    {src: testdata.Dir(t, "tokenizers", "ggml-vocab", "ggml-vocab-gpt-2.gguf"), dst: in("x"), is: model.ErrMismatch},
		"other family":                  {src: mamba, dst: in("x"), is: model.ErrUnsupported, says: "mamba"},
		"adapter without its base":      {src: adapter, dst: in("x.gguf"), is: ErrBase, says: "--base"},
		"adapter with no such base":     {src: adapter, dst: in("x.gguf"), o: Options{Base: in("none")}, is: os.ErrNotExist},
		"adapter of another model":      {src: adapter, dst: in("x.gguf"), o: Options{Base: gguf}},
		"adapter to a model format":     {src: adapter, dst: in("x"), o: Options{To: "llama2c"}, is: ErrOption},
		"adapter of another library":    {src: testdata.Dir(t, "adapters", "mlx-qwen2.5"), dst: in("x.gguf")},
	} {
		t.Run(name, func(t *testing.T) {
			before := tree(t, dir)
			_, err := File(context.Background(), c.src, c.dst, c.o)
			require.Error(t, err)
			t.Log(err)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			require.Contains(t, err.Error(), c.says)
			require.Equal(t, before, tree(t, dir), "nothing may change")
		})
	}
	// A file beside the files of a source folder is no danger.
	_, err = Model(context.Background(), hf, filepath.Join(hf, "sub"), Options{})
	require.ErrorIs(t, err, ErrOutput)
	copyOf, _ := convertTo(t, gguf, "hf", "")
	_, err = Model(context.Background(), copyOf, filepath.Join(copyOf, "model.gguf"), Options{})
	require.NoError(t, err)
}

// tree lists a folder with sizes.
func tree(t *testing.T, dir string) string {
	var b strings.Builder
	require.NoError(t, filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		if !i.IsDir() {
			b.WriteString(p + " " + i.ModTime().String() + "\n")
		} else {
			b.WriteString(p + "\n")
		}
		return err
	}))
	return b.String()
}

// Values that a type cannot hold are errors that name the tensor.
func TestValueRange(t *testing.T) {
	const victim = "model.layers.0.mlp.up_proj.weight"
	with := func(v float32) string {
		return small.write(t, func(name string, x []float32) {
			if name == victim {
				x[70] = v
			}
		})
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, c := range map[string]struct {
		v    float32
		typ  string
		is   error
		note string
	}{
		"f16 holds 65504":     {v: 65504, typ: "f16"},
		"f16 rounds 65519":    {v: 65519, typ: "f16"},
		"f16 overflows":       {v: 65520, typ: "f16", is: ErrRange},
		"f16 overflows below": {v: -1e30, typ: "f16", is: ErrRange},
		"bf16 holds":          {v: 1e38, typ: "bf16"},
		"bf16 overflows":      {v: math.MaxFloat32, typ: "bf16", is: ErrRange},
		"f32 holds all":       {v: math.MaxFloat32, typ: "f32"},
		"f16 carries NaN":     {v: nan, typ: "f16", note: "holds NaN"},
		"f16 carries Inf":     {v: inf, typ: "f16", note: "holds NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "out")
			r, err := Model(context.Background(), with(c.v), dst, Options{Type: c.typ})
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
				require.Contains(t, err.Error(), victim)
				require.Contains(t, err.Error(), "row 2, column 6")
				require.NotContains(t, err.Error(), ".peftkit")
				requireNothing(t, dst)
				return
			}
			require.NoError(t, err)
			if c.note != "" {
				require.Contains(t, strings.Join(r.Notes, "\n"), c.note)
			}
		})
	}
	// The encoders of block types: scales are float16.
	for _, c := range []struct {
		typ *tensor.DType
		v   float32
		is  error
	}{
		{tensor.Q8_0, 8e6, nil}, {tensor.Q8_0, 9e6, ErrRange}, {tensor.Q4_0, 5e5, nil}, {tensor.Q4_0, 6e5, ErrRange},
		{tensor.Q4_1, 9e5, nil}, {tensor.Q4_1, -7e4, ErrRange}, {tensor.Q8_0, nan, ErrNotFinite}, {tensor.Q4_1, inf, ErrNotFinite},
	} {
		v := make([]float32, 64)
		v[40] = c.v
		size, _ := c.typ.Size(64)
		_, err := encodeChecked(&item{typ: c.typ, src: &tensor.Tensor{Type: tensor.F32, Shape: []int{2, 32}}}, make([]byte, size), v, 0)
		require.ErrorIs(t, err, c.is, "%s %g", c.typ, c.v)
	}
}

// A type that is only carried as bytes is copied or refused, never passed off as
// another.
func TestUndecodableTypes(t *testing.T) {
	d := &tensor.DType{Name: "Q4_K", Block: 256, Bytes: 144, GGUF: 12, FileType: 15}
	u := &tensor.Tensor{Name: "blk.0.ffn_up.weight", Type: d, Shape: []int{2, 256}}
	pick := func(naming formats.Naming, typ string) (*tensor.DType, error) {
		p, err := newPolicy(typ, formats.GGUF, naming, &notebook{})
		require.NoError(t, err)
		return p.pick("x", u.Name, u)
	}
	got, err := pick(formats.GGUF, "")
	require.NoError(t, err)
	require.Equal(t, d, got)
	for _, typ := range []string{"q8_0", "f32"} {
		_, err = pick(formats.GGUF, typ)
		require.ErrorIs(t, err, tensor.ErrNoDecoder)
	}
	for _, typ := range []string{"", "f32"} {
		_, err = pick(formats.HF, typ)
		require.ErrorIs(t, err, tensor.ErrNoDecoder)
		require.ErrorContains(t, err, "Q8_0")
	}
	j := &job{to: mustWriter(t, "gguf"), policy: &policy{naming: formats.GGUF, source: formats.GGUF, notes: &notebook{}}, names: &model.Names{},
		changes: map[string][]peft.Change{"up.weight": {{Tensor: "up.weight"}}}}
	require.ErrorIs(t, j.add(model.Entry{HF: "up.weight", GGUF: u.Name, T: u}), tensor.ErrNoDecoder)
}

func mustWriter(t *testing.T, name string) formats.ModelWriter {
	f, err := formats.ByName(name)
	require.NoError(t, err)
	return f.(formats.ModelWriter)
}

func TestMergeRefusals(t *testing.T) {
	hf := small.write(t, nil)
	dir := t.TempDir()
	up := pairSpec{module: "model.layers.0.mlp.up_proj", out: 64, in: 32}
	good := (&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{up}}).write(t)
	nan := small.write(t, func(name string, x []float32) {
		if strings.Contains(name, "up_proj") {
			x[33] = float32(math.NaN())
		}
	})
	one := func(s *loraSpec) []AdapterRef { return []AdapterRef{{s.write(t), 1}} }
	for name, c := range map[string]struct {
		base     string
		adapters []AdapterRef
		dst      string
		is       error
		says     string
	}{
		"no adapter":       {base: hf, is: ErrOption},
		"nothing matches":  {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{{module: "transformer.h.0.attn.c_attn", out: 64, in: 32}}}), is: peft.ErrNoMatch},
		"some match":       {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{up, {module: "model.layers.1.mlp.up_proj", out: 64, in: 32}}}), is: peft.ErrTensors, says: "layers.1.mlp.up_proj"},
		"wrong shape":      {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{{module: up.module, out: 64, in: 16}}}), is: peft.ErrTensors},
		"wrong rank":       {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{up}, config: map[string]any{"r": 4}}), is: peft.ErrTensors},
		"DoRA":             {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{up}, config: map[string]any{"use_dora": true}}), is: peft.ErrTensors, says: "lora_magnitude_vector"},
		"other method":     {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{up}, config: map[string]any{"peft_type": "NO_SUCH"}}), is: peft.ErrConfig, says: "NO_SUCH"},
		"huge scale":       {base: hf, adapters: []AdapterRef{{good, 3e38}}, is: ErrNotFinite, says: "up_proj"},
		"base holds NaN":   {base: nan, adapters: []AdapterRef{{good, 1}}, is: ErrNotFinite, says: "up_proj"},
		"over the base":    {base: hf, adapters: []AdapterRef{{good, 1}}, dst: hf, is: ErrOutput},
		"over the adapter": {base: hf, adapters: []AdapterRef{{good, 1}}, dst: good, is: ErrOutput},
		"model as adapter": {base: hf, adapters: []AdapterRef{{hf, 1}}, is: formats.ErrIsModel},
		"adapter as model": {base: good, adapters: []AdapterRef{{good, 1}}, is: formats.ErrIsAdapter},
		"half a vocabulary": {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, whole: map[string][]int{"model.embed_tokens.weight": {50, 32}}}),
			is: peft.ErrTensors, says: "no weight of base_model.model.lm_head"},
		"tensor the base has not": {base: hf, adapters: one(&loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{up}, whole: map[string][]int{"score.weight": {2, 32}}}),
			is: peft.ErrTensors, says: "score"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := c.dst
			if dst == "" {
				dst = filepath.Join(dir, "out")
			}
			before := tree(t, dir)
			_, err := Merge(context.Background(), c.base, c.adapters, dst, Options{})
			require.Error(t, err)
			t.Log(err)
			require.ErrorIs(t, err, c.is)
			require.Contains(t, err.Error(), c.says)
			require.Equal(t, before, tree(t, dir))
		})
	}
}

func TestParseAdapterRef(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, n := range []string{"lora", "odd:0.5"} {
		require.NoError(t, os.WriteFile(n, nil, 0o666))
	}
	for s, want := range map[string]AdapterRef{
		"lora":               {"lora", 1},
		"lora:0.7":           {"lora", 0.7},
		"lora:-1":            {"lora", -1},
		"lora:1e-3":          {"lora", 1e-3},
		"odd:0.5":            {"odd:0.5", 1}, // exists
		"odd:0.5:2":          {"odd:0.5", 2},
		`C:\adapters\x`:      {`C:\adapters\x`, 1},
		`C:\adapters\x:0.25`: {`C:\adapters\x`, 0.25},
		"a/b:v2/c":           {"a/b:v2/c", 1},
		"missing:2":          {"missing", 2},
	} {
		got, err := ParseAdapterRef(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
		if again, err := ParseAdapterRef(got.String()); got.Scale != 1 || exists(s) {
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	}
	for _, s := range []string{"", ":1", "lora:", "lora:0,7", "lora:nan", "lora:inf", "lora:abc"} {
		_, err := ParseAdapterRef(s)
		require.ErrorIs(t, err, ErrOption, s)
	}
}

func TestSizeLabel(t *testing.T) {
	for n, want := range map[int64]string{134515008: "135M", 1100048384: "1.1B", 260032: "260K", 999: "1.0K", 8030261248: "8.0B", 70553706496: "71B", 100: "0.10K"} {
		require.Equal(t, want, sizeLabel(n))
	}
}

func TestTileEnd(t *testing.T) {
	perm := model.HeadOrder(64, 4) // heads of 16 rows
	for want := 1; want < 70; want++ {
		for lo, hi := 0, 0; lo < 64; lo = hi {
			hi = tileEnd(perm, lo, 64, want)
			require.Greater(t, hi, lo)
			require.True(t, hi == 64 || hi-lo >= want && hi-lo < want+16)
			for _, out := range perm[lo:hi] {
				require.True(t, int(out) >= lo && int(out) < hi)
			}
		}
	}
	require.Equal(t, 7, tileEnd(nil, 2, 64, 5))
	require.Equal(t, 64, tileEnd(nil, 62, 64, 5))
}

// Editing one key keeps all others, their order and their text.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a": 1.50, "b": {"z": [1, "\u00e9"]}, "a": null}`), "a", "x")
	f.Add([]byte(`{}`), "k", "\"<&>")
	f.Add([]byte(`[1]`), "k", "v")
	f.Fuzz(func(t *testing.T, b []byte, key, value string) {
		o, err := parseObject(b)
		if err != nil {
			return
		}
		key, value = strings.ToValidUTF8(key, "?"), strings.ToValidUTF8(value, "?")
		n := len(o)
		had := o.get(key) != nil
		require.NoError(t, o.set(key, value))
		if had {
			require.Len(t, o, n)
		}
		out, err := o.bytes()
		require.NoError(t, err)
		again, err := parseObject(out)
		require.NoError(t, err)
		require.Equal(t, value, again.str(key))
		require.Len(t, again, len(o))
	})
}
