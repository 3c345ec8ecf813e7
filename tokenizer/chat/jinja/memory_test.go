package jinja

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// A short template that keeps many long values ends with an error, not with the
// memory of the machine.
func TestHostileMemory(t *testing.T) {
	const begin = "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}"
	for name, source := range map[string]string{
		"lists":            begin + "{% set ns.x = ns.x + [[0] * 1000000] %}{% endfor %}",
		"texts":            begin + "{% set ns.x = ns.x + ['ab' * 500000] %}{% endfor %}",
		"ranges":           begin + "{% set _ = ns.x.append(range(100000)) %}{% endfor %}",
		"doubled":          "{% set ns = namespace(x='x') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
		"filters":          begin + "{% set _ = ns.x.append(('a' * 100000) | list) %}{% endfor %}",
		"macros in macros": "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
	} {
		t.Run(name, func(t *testing.T) {
			tmpl, err := Parse(source)
			require.NoError(t, err)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err = tmpl.Render(nil)
			runtime.ReadMemStats(&after)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "the template fails")
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<30))
		})
	}
}

// Nothing, however often, is nothing at once.
func TestRepeatNothing(t *testing.T) {
	tmpl, err := Parse("{{ [] * 10**18 }}{{ '' * 10**18 }}")
	require.NoError(t, err)
	got, err := tmpl.Render(nil)
	require.NoError(t, err)
	require.Equal(t, "[]", got)
}
