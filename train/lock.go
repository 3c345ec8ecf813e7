package train

import (
	"errors"
	"fmt"

	"github.com/peftkit/peftkit/internal/atomicfile"
)

// BusyError says that another run, or another command that writes into folders,
// has the output folder.
type BusyError struct {
	Dir string
	// PID is the process, 0 when it is not known; Host its computer when that is not
	// this one.
	PID  int
	Host string

	err *atomicfile.BusyError
}

func (e *BusyError) Error() string {
	do := "stop it"
	if e.PID > 0 && e.Host == "" {
		do = fmt.Sprintf("end it (kill %d)", e.PID)
	}
	return fmt.Sprintf("%v; wait for it, %s, or choose another output folder", e.err, do)
}

// Unwrap returns the cause.
func (e *BusyError) Unwrap() error { return e.err }

// Lock is an output folder that belongs to a run.
type Lock struct{ l *atomicfile.Lock }

// LockOutput takes an output folder for this process, so that no second run begins
// there; it makes the folder if there is none. The error is a [*BusyError] while
// another run has it. A lock goes with its process, however that ends.
func LockOutput(dir string) (*Lock, error) {
	l, err := atomicfile.LockDir(dir)
	var busy *atomicfile.BusyError
	if errors.As(err, &busy) {
		return nil, &BusyError{Dir: dir, PID: busy.PID, Host: busy.Host, err: busy}
	}
	if err != nil {
		return nil, err
	}
	return &Lock{l}, nil
}

// Release gives the folder back, and removes it if LockOutput made it and nothing
// was written. A nil Lock holds nothing.
func (l *Lock) Release() {
	if l != nil {
		l.l.Release()
	}
}

// take locks the output folder, unless the caller has, and clears it of what killed
// runs have left.
func (t *Trainer) take() error {
	c := &t.Config
	if c.Output == "" {
		return nil
	}
	lock := c.Lock
	if lock == nil {
		var err error
		if lock, err = LockOutput(c.Output); err != nil {
			return err
		}
		t.lock = lock
	}
	if lock.l.Unchecked {
		t.Notes = append(t.Notes, fmt.Sprintf("the file system of %s has no locks: a second training into it would not be noticed", c.Output))
	}
	atomicfile.Sweep(c.Output)
	return nil
}
