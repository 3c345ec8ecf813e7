//go:build noasm || !(amd64 || arm64)

package kernels

// spinBackoff waits for a moment between two looks at shared state.
func spinBackoff() {
	for range 32 {
	}
}
