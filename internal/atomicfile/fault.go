package atomicfile

import "sync/atomic"

// Op is a step at which a test can let the disk fail.
type Op string

// The steps, in the order in which a file passes through them.
const (
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpSync   Op = "sync"
	OpRename Op = "rename"
	// OpExchange is the replacement of a whole folder by one rename, which mount
	// points refuse; the files are moved one by one then.
	OpExchange Op = "exchange"
)

var fault atomic.Pointer[func(op Op, path string) error]

// SetFault installs f, which is asked before every step and whose error is
// taken for the operating system's; a failing write still writes half of its
// bytes. It is meant for tests; the returned function removes f.
func SetFault(f func(op Op, path string) error) (restore func()) {
	old := fault.Swap(&f)
	return func() { fault.Store(old) }
}

func check(op Op, path string) error {
	if f := fault.Load(); f != nil {
		return (*f)(op, path)
	}
	return nil
}
