package convert

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// AdapterRef names an adapter and how strongly it applies.
type AdapterRef struct {
	Path  string
	Scale float32
}

// ParseAdapterRef reads PATH or PATH:SCALE. A colon belongs to the path when a
// file or folder of that whole name exists, or when what follows it is no number
// (C:\adapters\x, lora:v2).
func ParseAdapterRef(s string) (AdapterRef, error) {
	r := AdapterRef{Path: s, Scale: 1}
	i := strings.LastIndexByte(s, ':')
	if i >= 0 && !exists(s) {
		path, num := s[:i], s[i+1:]
		v, err := strconv.ParseFloat(num, 32)
		switch {
		case num == "" && len(path) > 1:
			return r, fmt.Errorf("adapter %q: nothing follows the colon; write PATH:SCALE, as in adapter:0.7: %w", s, ErrOption)
		case err != nil && !strings.ContainsAny(num, `/\`) && exists(path):
			return r, fmt.Errorf("adapter %q: the scale %q is no number; write it as in adapter:0.7: %w", s, num, ErrOption)
		case err == nil && (math.IsNaN(v) || math.IsInf(v, 0)):
			return r, fmt.Errorf("adapter %q: the scale %s is not finite: %w", s, num, ErrOption)
		case err == nil:
			r = AdapterRef{Path: path, Scale: float32(v)}
		}
	}
	if r.Path == "" {
		return r, fmt.Errorf("adapter %q: the path is empty: %w", s, ErrOption)
	}
	return r, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// String writes the reference as ParseAdapterRef reads it.
func (r AdapterRef) String() string {
	if r.Scale == 1 {
		return r.Path
	}
	return r.Path + ":" + strconv.FormatFloat(float64(r.Scale), 'g', -1, 32)
}
