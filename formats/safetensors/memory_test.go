package safetensors_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/formats/safetensors"
)

// A header of short entries is refused before it takes many times its bytes.
func TestHostileMemory(t *testing.T) {
	numbers := strings.Repeat("1,", 4_000_000) + "1"
	var meta strings.Builder
	for i := range 800_000 {
		fmt.Fprintf(&meta, `"%x":"",`, i)
	}
	for name, header := range map[string]string{
		"rank":     `{"a":{"dtype":"F32","shape":[` + numbers + `],"data_offsets":[0,4]}}`,
		"offsets":  `{"a":{"dtype":"F32","shape":[1],"data_offsets":[` + numbers + `]}}`,
		"metadata": `{"__metadata__":{` + meta.String() + `"x":""}}`,
	} {
		t.Run(name, func(t *testing.T) {
			data := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
			data = append(data, 0, 0, 0, 0)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := safetensors.Parse("x", data)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, formats.ErrLimit)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
		})
	}
}
