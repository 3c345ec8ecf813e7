package peft

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseValue(t *testing.T) {
	for text, want := range map[string]any{
		"12345678": json.Number("12345678"), "8589934592": json.Number("8589934592"), "-3": json.Number("-3"), "1e7": json.Number("10000000"),
		"0.5": json.Number("0.5"), "1e-3": json.Number("0.001"), "1e-9": json.Number("1e-09"), "2.50": json.Number("2.5"), "1e300": json.Number("1e+300"),
		"true": true, "null": nil, "[1]": []any{1.0}, "q_proj": "q_proj", "inf": "inf", "NaN": "NaN", "007": json.Number("7"), "+5": json.Number("5"),
	} {
		got := parseValue(text)
		require.Equal(t, want, got, text)
		_, err := json.Marshal(got)
		require.NoError(t, err, text)
	}
}
