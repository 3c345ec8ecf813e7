package standard_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/convert"
	"github.com/peftkit/peftkit/internal/bound"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/peft"
)

var update = flag.Bool("update", false, "write the table of docs/export.md anew")

// svdRank is the rank of the table: a quarter of the test models' 32 features.
const svdRank = 8

// exported is what the three ways to GGUF give for one method.
type exported struct {
	merged, adapter error
	svd             error
	residual        float64
	family          string
}

// tokenizerJSON is a byte-level tokenizer of 48 tokens: a GGUF file has one.
func tokenizerJSON(t *testing.T) []byte {
	vocab := map[string]int{"<unk>": 0, "<s>": 1, "</s>": 2}
	for i := len(vocab); i < 48; i++ {
		vocab[string(rune('!'+i))] = i
	}
	special := func(id int, text string) map[string]any {
		return map[string]any{"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}
	}
	bytesOf := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	b, err := json.Marshal(map[string]any{
		"version": "1.0", "added_tokens": []any{special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")},
		"pre_tokenizer": bytesOf, "decoder": bytesOf, "model": map[string]any{"type": "BPE", "vocab": vocab, "merges": []any{}},
	})
	require.NoError(t, err)
	return b
}

// export trains an adapter for a moment and takes it along all three ways.
func export(t *testing.T, method peft.Method, o peft.Options) exported {
	info := method.Info()
	f := familyOf(t, "llama")
	if _, no := unfitting(info.Name, f.name); no && info.Name != "xlora" || slices.Contains(unmerged[info.Name], f.name) {
		f = familyOf(t, "qwen2") // its queries, keys and values have biases
	}
	base := filepath.Join(t.TempDir(), "base")
	require.NoError(t, os.CopyFS(base, os.DirFS(f.folder())))
	require.NoError(t, os.WriteFile(filepath.Join(base, "tokenizer.json"), tokenizerJSON(t), 0o666))
	if info.Name == "xlora" { // it weighs adapters that exist
		lora, err := peft.ByName("lora")
		require.NoError(t, err)
		ad, err := lora.New(load(t, base, model.Options{}), peft.Options{"rank": 2}, 1)
		require.NoError(t, err)
		o["adapters"] = filepath.Join(t.TempDir(), "lora")
		require.NoError(t, peft.Save(context.Background(), o["adapters"].(string), ad, nil))
	}
	m := load(t, base, model.Options{})
	ad, err := method.New(m, o, 42)
	require.NoError(t, err)
	losses(t, m, ad, 5e-3, 0, 6)
	want := logits(m)
	dir := t.TempDir()
	saved := filepath.Join(dir, "adapter")
	require.NoError(t, peft.Save(context.Background(), saved, ad, nil))

	ctx, out := context.Background(), exported{family: f.name}
	merged := filepath.Join(dir, "merged.gguf")
	_, out.merged = convert.Merge(ctx, base, []convert.AdapterRef{{Path: saved, Scale: 1}}, merged, convert.Options{Type: "f32"})
	if out.merged == nil {
		require.LessOrEqual(t, maxDiff(t, want, logits(load(t, merged, model.Options{}))), bound.Output, "merged as GGUF")
	}
	attached := func(path string) []float32 {
		m := load(t, base, model.Options{})
		_, err := peft.Attach(m, path, 1)
		require.NoError(t, err)
		return logits(m)
	}
	exact := filepath.Join(dir, "exact.gguf")
	_, out.adapter = convert.Adapter(ctx, saved, exact, convert.Options{Base: base})
	if out.adapter == nil {
		require.LessOrEqual(t, maxDiff(t, want, attached(exact)), bound.Output, "as a GGUF adapter")
	}
	near := filepath.Join(dir, "near.gguf")
	r, err := convert.Adapter(ctx, saved, near, convert.Options{Base: base, Rank: svdRank})
	if out.svd = err; err == nil {
		out.residual = r.Residual
		require.True(t, slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "they leave out") }), "%v", r.Notes)
		if diff := maxDiff(t, want, attached(near)); r.Residual < 1e-5 {
			require.LessOrEqual(t, diff, bound.Output, "by SVD")
		}
	}
	return out
}

// narrow are default options with rank 4 where there is one.
func narrow(info peft.Info) peft.Options {
	o := maps.Clone(small[info.Name])
	if o == nil {
		o = peft.Options{}
	}
	for _, opt := range info.Options {
		if n, ok := opt.Default.(int); ok && n > 0 && (opt.Flag == "rank" || opt.Key == "init_r") {
			o[opt.Key] = 4
		}
	}
	return o
}

// row is a line of the table. A refusal is told in the words of its error or of
// the method; what kinds of refusals there are is asserted.
func (e exported) row(t *testing.T, name string, info peft.Info) string {
	cells := []string{"`" + name + "`", "exactly", "exactly", ""}
	if e.merged != nil {
		require.ErrorIs(t, e.merged, peft.ErrNotMergeable)
		require.ErrorContains(t, e.merged, info.NotMergeable)
		require.Error(t, e.adapter)
		require.ErrorIs(t, e.svd, peft.ErrNotMergeable)
		why := "refused: " + info.NotMergeable
		return fmt.Sprintf("| %s | %s | refused | refused |", cells[0], why)
	}
	if e.adapter != nil {
		require.ErrorContains(t, e.adapter, "merge-lora", "the error does not say what to do")
		cells[2] = "refused"
	}
	switch {
	case errors.Is(e.svd, peft.ErrNotMergeable):
		i := strings.Index(e.svd.Error(), "it changes ")
		require.GreaterOrEqual(t, i, 0, "%v", e.svd)
		what := "norms"
		if strings.Contains(e.svd.Error(), ".bias") {
			what = "biases"
		}
		cells[3] = "refused: it changes " + what
	case e.svd != nil:
		require.ErrorContains(t, e.svd, "the base model ties its embeddings")
		cells[3] = "refused: it changes tied embeddings"
	default:
		cells[3] = fmt.Sprintf("leaves out %.0f %%", 100*e.residual)
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

// The table of docs/export.md is what the conversions do, for every method.
func TestExportTable(t *testing.T) {
	write(t, t.TempDir())
	rows := []string{"| method | merged into a GGUF model | as a GGUF adapter | as a GGUF adapter by SVD, rank " + strconv.Itoa(svdRank) + " |", "| --- | --- | --- | --- |"}
	for _, method := range peft.Methods() {
		info := method.Info()
		rows = append(rows, export(t, method, narrow(info)).row(t, info.Name, info))
	}
	path := filepath.Join("..", "..", "docs", "export.md")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	const begin, end = "<!-- go test ./plugins/standard -run TestExportTable -update -->\n", "\n<!-- end -->"
	i, j := strings.Index(string(text), begin), strings.Index(string(text), end)
	require.True(t, i >= 0 && j > i, "docs/export.md has no place for the table")
	if *update {
		out := string(text[:i]) + begin + strings.Join(rows, "\n") + string(text[j:])
		require.NoError(t, os.WriteFile(path, []byte(out), 0o666))
		return
	}
	have := strings.Split(string(text[i+len(begin):j]), "\n")
	require.Len(t, have, len(rows), "methods came or went: write the table anew, see the comment above it")
	number := regexp.MustCompile(`(\d+) %`)
	for k := range rows {
		require.Equal(t, number.ReplaceAllString(rows[k], "N %"), number.ReplaceAllString(have[k], "N %"))
		if a, b := number.FindStringSubmatch(rows[k]), number.FindStringSubmatch(have[k]); a != nil {
			x, _ := strconv.ParseFloat(a[1], 64)
			y, _ := strconv.ParseFloat(b[1], 64)
			require.LessOrEqual(t, math.Abs(x-y), 3.0, rows[k]) // tiers round differently
		}
	}
}
