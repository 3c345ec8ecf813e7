package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
	"github.com/peftkit/peftkit/tensor"
)

// storiesPairs adapts linears of every shape and order in the real model.
var storiesPairs = []pairSpec{
	{module: "model.layers.0.self_attn.q_proj", out: 64, in: 64},
	{module: "model.layers.0.self_attn.k_proj", out: 32, in: 64},
	{module: "model.layers.1.self_attn.v_proj", out: 32, in: 64},
	{module: "model.layers.2.self_attn.o_proj", out: 64, in: 64},
	{module: "model.layers.3.mlp.gate_proj", out: 172, in: 64},
	{module: "model.layers.4.mlp.down_proj", out: 64, in: 172},
}

// expected computes base + all deltas in float64, by Hugging Face tensor name.
func expected(t *testing.T, base string, specs []*loraSpec, scales []float64) map[string][]float64 {
	out := map[string][]float64{}
	for _, e := range open(t, base).Entries {
		v, err := e.T.AllFloats()
		require.NoError(t, err)
		x := make([]float64, len(v))
		for i := range v {
			x[i] = float64(v[i])
		}
		out[e.HF] = x
	}
	for k, s := range specs {
		for _, p := range s.pairs {
			w := out[p.module+".weight"]
			require.NotNil(t, w, p.module)
			for i, d := range s.delta(p, scales[k]) {
				w[i] += d
			}
		}
	}
	return out
}

// step returns the distance between neighbouring values of a plain type at x.
func step(d *tensor.DType, x float64) float64 {
	bits := map[*tensor.DType]int{tensor.F32: 24, tensor.F16: 11, tensor.BF16: 8}[d]
	_, e := math.Frexp(x)
	if d == tensor.F16 {
		e = max(e, -13)
	}
	return math.Ldexp(1, e-bits)
}

// Merging into a base of every type, into every type, gives what float64 gives,
// rounded once.
func TestMergeAllTypes(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	first := &loraSpec{rank: 4, alpha: 8, pairs: storiesPairs}
	second := &loraSpec{rank: 2, alpha: 2, pairs: storiesPairs[:3], seed: 5}
	refs := []AdapterRef{{first.write(t), 1}, {second.write(t), -0.5}}
	specs, scales := []*loraSpec{first, second}, []float64{1, -0.5}

	type outKind struct{ name, typ string }
	bases := map[string]string{}
	for _, typ := range []string{"f32", "f16", "bf16"} {
		bases["hf-"+typ], _ = convertTo(t, hf, "base", typ)
	}
	for _, typ := range []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1"} {
		bases["gguf-"+typ], _ = convertTo(t, hf, "base.gguf", typ)
	}
	outs := []outKind{{"m.gguf", ""}, {"m", ""}, {"m", "f32"}, {"m", "bf16"}, {"m.gguf", "f16"}, {"m.gguf", "q8_0"}, {"m.gguf", "q4_1"}}
	for name, base := range bases {
		want := expected(t, base, specs, scales)
		for _, o := range outs {
			t.Run(fmt.Sprintf("%s to %s %s", name, o.name, o.typ), func(t *testing.T) {
				dst := filepath.Join(t.TempDir(), o.name)
				r, err := Merge(context.Background(), base, refs, dst, Options{Type: o.typ})
				require.NoError(t, err)
				require.Equal(t, 12+6, r.Matched)
				require.Equal(t, len(storiesPairs), r.Changed)
				require.Equal(t, r.Tensors, r.Copied+r.Reencoded+r.Changed)
				require.Len(t, r.Adapters, 2)
				require.Equal(t, 3, r.Adapters[1].Changed)
				require.Greater(t, r.MaxDelta, 0.1)
				// What rounding adds has nothing to do with the change and averages out of their dot
				// product: 0.02 is a safety factor of 17 over the 0.0011 measured, of 4-bit weights.
				require.InDelta(t, 1, r.Survived, 0.02)
				byHF := map[string]*tensor.Tensor{}
				for _, e := range open(t, base).Entries {
					byHF[e.HF] = e.T
				}
				changed := map[string]bool{}
				for _, p := range storiesPairs {
					changed[p.module+".weight"] = true
				}
				for _, e := range open(t, dst).Entries {
					got, err := e.T.AllFloats()
					require.NoError(t, err)
					if o.typ == "" && strings.HasSuffix(dst, ".gguf") && strings.HasPrefix(name, "gguf") {
						require.Equal(t, byHF[e.HF].Type, e.T.Type, e.HF)
						if !changed[e.HF] {
							require.Equal(t, string(byHF[e.HF].Data), string(e.T.Data), e.HF)
						}
					}
					if e.T.Type.Quantised() {
						x := make([]float32, len(got))
						for i := range x {
							x[i] = float32(want[e.HF][i])
						}
						if changed[e.HF] {
							// A last bit before quantising may move a code by one.
							require.Less(t, maxDiff(rounded(e.T.Type, x), got), quantStep(e.T.Type, x), e.HF)
						} else {
							src, err := byHF[e.HF].AllFloats()
							require.NoError(t, err)
							if byHF[e.HF].Type == e.T.Type {
								require.Equal(t, src, got, e.HF)
							} else {
								require.Equal(t, rounded(e.T.Type, src), got, e.HF)
							}
						}
						continue
					}
					for i, w := range want[e.HF] {
						tol := 1e-6 // weights up to 1.3 and two changes of rank 4 and 2: bound.Gamma(4+2+4)*1.3 is 8e-7
						if e.T.Type != tensor.F32 {
							tol = 0.5001*step(e.T.Type, w) + 1e-6 // rounded once
						}
						if math.Abs(float64(got[i])-w) > tol {
							t.Fatalf("%s %s [%d]: %g, expected %g", e.HF, e.T.Type, i, got[i], w)
						}
					}
				}
			})
		}
	}
}

// quantStep bounds the distance between two codes of the type.
func quantStep(d *tensor.DType, v []float32) float64 {
	m := 0.0
	for _, x := range v {
		m = math.Max(m, math.Abs(float64(x)))
	}
	if d == tensor.Q8_0 {
		return m / 127 * 1.1
	}
	return m / 7 * 1.1
}

// The result does not depend on the number of adapters being merged at once
// or one after the other in float32, and scale 0 changes nothing.
func TestMergeScales(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	s := &loraSpec{rank: 4, alpha: 8, pairs: storiesPairs}
	a := s.write(t)
	dst := filepath.Join(t.TempDir(), "zero")
	r, err := Merge(context.Background(), hf, []AdapterRef{{a, 0}}, dst, Options{})
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Notes, "\n"), "scale 0")
	require.Contains(t, strings.Join(r.Notes, "\n"), "changes nothing")
	requireSameTensors(t, hf, dst)

	untrained := (&loraSpec{rank: 4, alpha: 8, pairs: storiesPairs, zeroB: true}).write(t)
	dst = filepath.Join(t.TempDir(), "same")
	r, err = Merge(context.Background(), hf, []AdapterRef{{untrained, 1}}, dst, Options{})
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Notes, "\n"), "changes nothing")
	requireSameTensors(t, hf, dst)
}

// A GGUF adapter merges like the PEFT one that it was made of.
func TestMergeGGUFAdapter(t *testing.T) {
	gguf, _ := convertTo(t, stories(t), "base.gguf", "")
	a := (&loraSpec{rank: 4, alpha: 8, pairs: storiesPairs}).write(t)
	g := filepath.Join(t.TempDir(), "a.gguf")
	_, err := Adapter(context.Background(), a, g, Options{Base: gguf})
	require.NoError(t, err)
	var outs []string
	for _, p := range []string{a, g} {
		dst := filepath.Join(t.TempDir(), "m.gguf")
		_, err := Merge(context.Background(), gguf, []AdapterRef{{p, 0.7}}, dst, Options{})
		require.NoError(t, err)
		outs = append(outs, dst)
	}
	requireSameTensors(t, outs[0], outs[1])
}

var tiedModel = tiny{hidden: 32, ff: 64, layers: 1, heads: 4, kv: 2, vocab: 48, tied: true}

// A tied head that is adapted becomes a tensor of its own; the input embedding
// stays. The reverse holds, too: what the adapter computes is what is merged.
func TestMergeTiedHead(t *testing.T) {
	for _, typ := range []*tensor.DType{tensor.F32, tensor.BF16} {
		base := tiedModel
		base.typ = typ
		hf := base.write(t, nil)
		before := logical(t, hf)["model.embed_tokens.weight|token_embd.weight"]
		headPair := pairSpec{module: "lm_head", out: 48, in: 32}
		embedPair := pairSpec{module: "model.embed_tokens", out: 32, in: 48, embedding: true}
		for _, c := range []struct {
			name        string
			spec        *loraSpec
			embed, head bool // changed
		}{
			{"head", &loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{headPair}}, false, true},
			{"embedding", &loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{embedPair}}, true, false},
			{"both", &loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{embedPair, headPair}}, true, true},
			{"saved head", &loraSpec{rank: 2, alpha: 4, whole: map[string][]int{"lm_head.weight": {48, 32}}, config: map[string]any{"modules_to_save": []string{"lm_head"}}}, false, true},
			{"saved embedding", &loraSpec{rank: 2, alpha: 4, whole: map[string][]int{"model.embed_tokens.weight": {48, 32}}, config: map[string]any{"modules_to_save": []string{"embed_tokens"}}}, true, false},
		} {
			t.Run(typ.Name+" "+c.name, func(t *testing.T) {
				a := c.spec.write(t)
				dst := filepath.Join(t.TempDir(), "m")
				r, err := Merge(context.Background(), hf, []AdapterRef{{a, 1}}, dst, Options{})
				require.NoError(t, err)
				o, err := parseObject(raw(t, dst).Config)
				require.NoError(t, err)
				require.Equal(t, "false", string(o.get("tie_word_embeddings")))
				require.Contains(t, strings.Join(r.Notes, "\n"), "lm_head.weight")
				got := logical(t, dst)
				embed, head := got["model.embed_tokens.weight|token_embd.weight"], got["lm_head.weight|output.weight"]
				require.Len(t, head, len(before))
				require.Equal(t, !c.embed, slices.Equal(before, embed))
				require.Equal(t, !c.head, slices.Equal(before, head))
				check := func(v []float32, p pairSpec) {
					d := c.spec.delta(p, 1)
					for i := range v {
						w := float64(before[i]) + d[i]
						require.InDelta(t, w, v[i], 0.5001*step(typ, w)+1e-6) // as in TestMergeAllTypes
					}
				}
				if len(c.spec.pairs) > 0 {
					if c.embed {
						check(embed, embedPair)
					}
					if c.head {
						check(head, headPair)
					}
				}
				for name, v := range c.spec.replaced {
					require.Equal(t, rounded(typ, v), map[bool][]float32{true: head, false: embed}[name == "lm_head.weight"])
				}
			})
		}
	}
}

// The head of a tied GGUF becomes output.weight.
func TestMergeTiedHeadGGUF(t *testing.T) {
	gguf, _ := convertTo(t, stories(t), "base.gguf", "q8_0")
	spec := &loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{{module: "lm_head", out: 512, in: 64}}}
	dst := filepath.Join(t.TempDir(), "m.gguf")
	_, err := Merge(context.Background(), gguf, []AdapterRef{{spec.write(t), 1}}, dst, Options{})
	require.NoError(t, err)
	var embed, head *tensor.Tensor
	for _, u := range raw(t, dst).Tensors {
		switch u.Name {
		case "token_embd.weight":
			embed = u
		case "output.weight":
			head = u
		}
	}
	require.Equal(t, tensor.Q8_0, embed.Type)
	require.NotNil(t, head)
	require.Equal(t, tensor.Q8_0, head.Type)
	require.NotEqual(t, string(embed.Data), string(head.Data))
	require.Contains(t, string(open(t, dst).Config), `"tie_word_embeddings": false`)
}

// An adapter with another vocabulary gives it to the model.
func TestMergeVocabularyGrowth(t *testing.T) {
	rows, fewer := []int{50, 32}, []int{40, 32}
	for _, c := range []struct {
		name  string
		base  tiny
		whole map[string][]int
		head  bool
		saved []string // modules_to_save
	}{
		{"untied", small, map[string][]int{"model.embed_tokens.weight": rows, "lm_head.weight": rows}, true, nil},
		{"untied, trained", small, map[string][]int{"model.embed_tokens.weight": rows, "lm_head.weight": rows}, true, []string{"embed_tokens", "lm_head"}},
		{"untied, fewer", small, map[string][]int{"model.embed_tokens.weight": fewer}, true, nil},
		{"tied, both", tiedModel, map[string][]int{"model.embed_tokens.weight": rows, "lm_head.weight": rows}, true, []string{"embed_tokens", "lm_head"}},
		{"tied, one", tiedModel, map[string][]int{"model.embed_tokens.weight": rows}, false, nil},
		{"tied, fewer", tiedModel, map[string][]int{"model.embed_tokens.weight": fewer}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			hf := c.base.write(t, nil)
			size := c.whole["model.embed_tokens.weight"][0]
			spec := &loraSpec{rank: 2, alpha: 4, pairs: []pairSpec{{module: "model.layers.0.mlp.up_proj", out: 64, in: 32}}, whole: c.whole, config: map[string]any{"modules_to_save": c.saved},
				files: map[string][]byte{"tokenizer.json": []byte(`{"new": true}`)}}
			dst := filepath.Join(t.TempDir(), "m")
			r, err := Merge(context.Background(), hf, []AdapterRef{{spec.write(t), 1}}, dst, Options{})
			require.NoError(t, err)
			require.Contains(t, strings.Join(r.Notes, "\n"), fmt.Sprintf("48 -> %d", size))
			got := logical(t, dst)
			require.Equal(t, spec.replaced["model.embed_tokens.weight"], got["model.embed_tokens.weight|token_embd.weight"])
			require.Equal(t, c.head, len(got["lm_head.weight|output.weight"]) > 0)
			if want := spec.replaced["lm_head.weight"]; c.head && want == nil { // the base's first rows
				require.Equal(t, logical(t, hf)["lm_head.weight|output.weight"][:size*32], got["lm_head.weight|output.weight"])
			} else if c.head {
				require.Equal(t, want, got["lm_head.weight|output.weight"])
			}
			require.JSONEq(t, `{"new": true}`, string(raw(t, dst).Files["tokenizer.json"]))
			o, err := parseObject(raw(t, dst).Config)
			require.NoError(t, err)
			n, _ := o.number("vocab_size")
			require.Equal(t, size, n)
		})
	}
}

// Adapter conversions are exact in both directions, and the type of the factors
// can be chosen.
func TestAdapterRoundTrip(t *testing.T) {
	hf := tiny{hidden: 64, ff: 172, layers: 6, heads: 8, kv: 4, vocab: 512}.write(t, nil) // untied: llama.cpp takes factors of embeddings
	spec := &loraSpec{rank: 4, alpha: 8, pairs: append(slices.Clone(storiesPairs), pairSpec{module: "model.embed_tokens", out: 64, in: 512, embedding: true})}
	a := spec.write(t)
	g := filepath.Join(t.TempDir(), "a.gguf")
	r, err := File(context.Background(), a, g, Options{Base: hf})
	require.NoError(t, err)
	require.Equal(t, 14, r.Tensors)
	require.Equal(t, 14, r.Matched)
	back := filepath.Join(t.TempDir(), "back")
	_, err = File(context.Background(), g, back, Options{Base: filepath.Join(hf, "config.json")})
	require.NoError(t, err)
	x, err := formats.OpenAdapter(a)
	require.NoError(t, err)
	defer x.Close()
	y, err := formats.OpenAdapter(back)
	require.NoError(t, err)
	defer y.Close()
	require.Len(t, y.Tensors, len(x.Tensors))
	for i, u := range x.Tensors {
		require.Equal(t, u.Name, y.Tensors[i].Name)
		require.Equal(t, string(u.Data), string(y.Tensors[i].Data))
	}
	var cfg map[string]any
	require.NoError(t, json.Unmarshal(y.Config, &cfg))
	require.EqualValues(t, 8, cfg["lora_alpha"])
	require.Equal(t, filepath.Join(hf, "config.json"), cfg["base_model_name_or_path"])

	for _, typ := range []string{"f16", "bf16", "q8_0"} {
		dst := filepath.Join(t.TempDir(), "a.gguf")
		r, err := Adapter(context.Background(), a, dst, Options{Base: hf, Type: typ})
		require.NoError(t, err)
		if typ == "q8_0" { // B has rows of 4
			require.Contains(t, strings.Join(r.Notes, "\n"), "F16 instead of Q8_0")
		} else {
			require.Equal(t, map[string]int{strings.ToUpper(typ): 14}, r.Types)
		}
		z, err := formats.OpenAdapter(dst)
		require.NoError(t, err)
		byName := map[string]*tensor.Tensor{}
		full, err := formats.OpenAdapter(g)
		require.NoError(t, err)
		for _, u := range full.Tensors {
			byName[u.Name] = u
		}
		for _, u := range z.Tensors {
			v, err := u.AllFloats()
			require.NoError(t, err)
			w, err := byName[u.Name].AllFloats()
			require.NoError(t, err)
			require.Equal(t, rounded(u.Type, w), v, u.Name)
		}
		// Back to a folder, block types become F32.
		_, err = Adapter(context.Background(), dst, filepath.Join(t.TempDir(), "p"), Options{Base: hf})
		require.NoError(t, err)
		require.NoError(t, full.Close())
		require.NoError(t, z.Close())
	}
}

// The merged model computes what the base with the adapter computes.
func TestMergedLogits(t *testing.T) {
	hf, _ := convertTo(t, stories(t), "hf", "")
	spec := &loraSpec{rank: 4, alpha: 1, pairs: storiesPairs}
	a := spec.write(t)
	dst := filepath.Join(t.TempDir(), "m.gguf")
	_, err := Merge(context.Background(), hf, []AdapterRef{{a, 0.5}}, dst, Options{})
	require.NoError(t, err)
	m, err := model.Load(hf, model.Options{})
	require.NoError(t, err)
	defer m.Close()
	_, err = peft.Attach(m, a, 0.5)
	require.NoError(t, err)
	require.Less(t, maxDiff(modelLogits(m), logits(t, dst)), bound.Output)
	require.Greater(t, maxDiff(modelLogits(m), logits(t, hf)), 1e-2)
}
