package cli

import (
	"errors"

	"golang.org/x/sys/windows"
)

// outOfResources reports an error of the system that more memory or disk space
// would cure.
func outOfResources(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) ||
		errors.Is(err, windows.ERROR_COMMITMENT_LIMIT)
}
