//go:build !unix && !windows

package cli

// outOfResources cannot tell on this system.
func outOfResources(error) bool { return false }
