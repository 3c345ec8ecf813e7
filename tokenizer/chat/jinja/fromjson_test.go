package jinja

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFromJSON(t *testing.T) {
	const text = `{"b": [1, -2.0, 1e2, "x\u00e9", null, true, {}], "a": {"z": 18446744073709551615, "y": 2}}`
	v, err := FromJSON([]byte(text))
	require.NoError(t, err)
	tmpl, err := Parse("{{ v | tojson }}")
	require.NoError(t, err)
	got, err := tmpl.Render(map[string]any{"v": v})
	require.NoError(t, err)
	require.Equal(t, `{"b": [1, -2.0, 100.0, "xé", null, true, {}], "a": {"z": 18446744073709551615, "y": 2}}`, got) // Python's json.dumps(json.loads(text), ensure_ascii=False)

	for bad, want := range map[string]string{
		`{"a": 1, "a": 2}`:           `"a" stands twice`,
		`[1`:                         "unexpected EOF",
		`1 2`:                        "more than one value",
		``:                           "unexpected EOF",
		strings.Repeat("[", 1000000): "deep",
	} {
		_, err := FromJSON([]byte(bad))
		require.ErrorContains(t, err, want)
	}
}

func TestValuesOfJSON(t *testing.T) {
	for text, want := range map[string]int{
		`1`: 1, `"a,[\",{"`: 1, `[]`: 1, "[ \n]": 1, `[1]`: 2, `[[], {}]`: 3, `{"a": [1, 2], "b,": {"c": "]"}}`: 6, `["\\", ","]`: 3,
	} {
		require.Equal(t, want, countValues([]byte(text)), text)
	}
	most := "[" + strings.Repeat("0,", maxValues-2) + "0]"
	v, err := FromJSON([]byte(most))
	require.NoError(t, err)
	require.Len(t, v.(*List).Items, maxValues-1)
	_, err = FromJSON([]byte("[0," + most[1:]))
	require.EqualError(t, err, "1048577 values in one, expected at most 1048576")
}
