//go:build unix

package cli

import (
	"errors"
	"syscall"
)

// outOfResources reports an error of the system that more memory or disk space
// would cure.
func outOfResources(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.ENOMEM)
}
