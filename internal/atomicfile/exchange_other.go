//go:build !linux

package atomicfile

import "errors"

// exchange is used where the system can swap two names in one step.
func exchange(a, b string) error { return errors.ErrUnsupported }
