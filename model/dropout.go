package model

import (
	"fmt"
	"maps"
	"slices"
)

// Dropout holds the shares that training leaves out, by their keys in config.json.
type Dropout map[string]float64

// Check refuses shares outside of 0 to 1.
func (d Dropout) Check() error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if p := d[key]; !(p >= 0 && p <= 1) {
			return fmt.Errorf("config: %s is %g, expected 0 to 1: %w", key, p, ErrMismatch)
		}
	}
	return nil
}

// Active returns the keys whose share is not 0, in order.
func (d Dropout) Active() []string {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if d[key] != 0 {
			keys = append(keys, key)
		}
	}
	return keys
}
