package bart

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/model"
)

// A configuration must not write into the defaults of its family.
func TestDefaultsStay(t *testing.T) {
	for _, f := range model.Families() {
		own, ok := f.(family)
		if !ok {
			continue
		}
		kind := own.v
		before, err := json.Marshal([]any{kind.pad, kind.start})
		require.NoError(t, err)
		_, _ = parseConfig(kind, json.RawMessage(`{"pad_token_id": 7, "decoder_start_token_id": 9}`))
		after, err := json.Marshal([]any{kind.pad, kind.start})
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
	}
}
