package train

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Memory is what the process holds, in bytes.
type Memory struct {
	// Resident is in RAM now, pages of mapped model files included; Peak is its
	// highest value.
	Resident, Peak int64
	// Private is the part that no file backs: it must stay in RAM.
	Private int64
}

// MemoryUse reads /proc/self/status on Linux. Elsewhere it reports what Go's
// runtime has from the system, without mapped files and without a true peak.
func MemoryUse() Memory {
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		if m, ok := parseStatus(string(b)); ok {
			return m
		}
	}
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	n := int64(s[0].Value.Uint64() - s[1].Value.Uint64())
	return Memory{Resident: n, Peak: n, Private: n}
}

// parseStatus reads the lines VmRSS, VmHWM and RssAnon of /proc/PID/status.
func parseStatus(text string) (m Memory, ok bool) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		var dst *int64
		switch key {
		case "VmRSS":
			dst = &m.Resident
		case "VmHWM":
			dst = &m.Peak
		case "RssAnon":
			dst = &m.Private
		default:
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, false
		}
		*dst = n << 10
	}
	return m, m.Resident > 0 && m.Peak > 0
}
