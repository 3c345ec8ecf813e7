package tokenizer

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The parts of a component are many times larger in memory than in the file.
func TestHostileMemory(t *testing.T) {
	many := strings.Repeat("{},", 3_000_000) + "{}"
	for name, part := range map[string]string{
		"normalizer":     `"normalizer":{"type":"Sequence","normalizers":[` + many + `]}`,
		"pre_tokenizer":  `"pre_tokenizer":{"type":"Sequence","pretokenizers":[` + many + `]}`,
		"post_processor": `"post_processor":{"type":"Sequence","processors":[` + many + `]}`,
		"decoder":        `"decoder":{"type":"Sequence","decoders":[` + many + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string][]byte{"tokenizer.json": []byte(`{` + part + `,"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}`)}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := FromFiles(files)
			runtime.ReadMemStats(&after)
			require.ErrorContains(t, err, "more than any tokenizer has")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
		})
	}
}
