package tokenizer

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/internal/testdata"
)

// What transformers 5.23 gives for "Hello é" when tokenizer_config.json and
// tokenizer.json disagree.
func TestClassesOverrule(t *testing.T) {
	for _, c := range []struct {
		name, config, model string
		want                []int32
		warns               int
	}{
		{"bert", `{"do_lower_case":false}`, "bert", []int32{101, 100, 100, 102}, 1},
		{"bert", `{"do_lower_case":false,"tokenizer_class":"DistilBertTokenizerFast"}`, "", []int32{101, 100, 100, 102}, 1},
		{"bert", `{"strip_accents":false,"tokenizer_class":"BertTokenizer"}`, "", []int32{101, 7592, 100, 102}, 1},
		{"bert", `{"do_lower_case":false,"tokenizer_class":"PreTrainedTokenizerFast"}`, "bert", []int32{101, 7592, 1041, 102}, 0},
		{"bert", `{"do_lower_case":true,"tokenizer_class":"BertTokenizer"}`, "bert", []int32{101, 7592, 1041, 102}, 0},
		{"roberta", `{"add_prefix_space":true}`, "roberta", []int32{0, 20920, 7935, 2}, 1},
		{"gpt2", `{"add_prefix_space":true,"tokenizer_class":"GPT2Tokenizer"}`, "", []int32{18435, 38251}, 1},
		{"gpt2", `{"add_prefix_space":false,"tokenizer_class":"GPT2Tokenizer"}`, "", []int32{15496, 38251}, 0},
		{"smollm", `{"add_prefix_space":true,"tokenizer_class":"GPT2Tokenizer"}`, "", []int32{38699, 26411}, 1}, // in a sequence
		{"smollm", `{"extra_special_tokens":{"image":"<image>"},"additional_special_tokens":["<|im_end|>","<a>"]}`, "", []int32{19556, 26411}, 2},
		{"smollm", `{"split_special_tokens":true}`, "", []int32{19556, 26411}, 1},
	} {
		b, err := os.ReadFile(testdata.Dir(t, "tokenizers", c.name, "tokenizer.json"))
		require.NoError(t, err)
		tok, err := FromFiles(map[string][]byte{
			"tokenizer.json": b, "tokenizer_config.json": []byte(c.config), "config.json": []byte(`{"model_type":"` + c.model + `"}`),
		})
		require.NoError(t, err)
		require.Equal(t, c.want, tok.Encode("Hello é", true), c.config)
		require.Len(t, tok.Warnings(), c.warns, c.config)
	}
}
