package cli

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

type memoryInfo struct{ total, available, limit int64 }

// systemMemory reads /proc/meminfo and the limit of the control group, if any.
func systemMemory() (m memoryInfo) {
	b, _ := os.ReadFile("/proc/meminfo")
	for _, line := range bytes.Split(b, []byte("\n")) {
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		v, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			m.total = v << 10
		case "MemAvailable:":
			m.available = v << 10
		}
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && v > 0 && (m.total == 0 || v < m.total) {
			m.limit = v
			break
		}
	}
	return m
}
