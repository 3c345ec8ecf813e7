package formats

import (
	"fmt"
	"strings"
)

// At says which file or folder an error is about, unless the error says so itself:
// a path stands once in a message. The errors below it stay as they are for
// errors.Is and errors.As.
func At(path string, err error) error {
	if err == nil || path == "" || names(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// names reports whether a message names a path, or a file in that folder.
func names(message, path string) bool {
	path = strings.TrimRight(path, `/\`)
	for at := 0; path != ""; {
		i := strings.Index(message[at:], path)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(path)
		begins := i == 0 || strings.IndexByte(" \t\"'(", message[i-1]) >= 0
		if begins && end < len(message) && strings.IndexByte(":/\\", message[end]) >= 0 {
			return true
		}
		at = i + 1
	}
	return false
}
