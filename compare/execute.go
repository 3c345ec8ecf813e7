package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/peftkit/peftkit/train"
)

// Execute does runs one after the other. do does one of them; an error of it
// becomes the outcome's Failure and the next run follows, but a cancelled context
// ends the execution. Runs whose key done has without a failure are not repeated,
// nor is the untouched base with another seed unless its head is drawn. each,
// when not nil, is called with every outcome; done before says that it was there
// already.
func Execute(ctx context.Context, runs []Run, done []Outcome, do func(context.Context, Run) (*Outcome, error), each func(i int, o *Outcome, before bool) error) ([]Outcome, error) {
	have := map[string]*Outcome{}
	for i := range done {
		if done[i].Failure == "" {
			have[done[i].Key] = &done[i]
		}
	}
	var out []Outcome
	settled := map[string]bool{} // tasks whose untouched base is known
	for i, r := range runs {
		if r.Method == None && settled[r.Task.Name] {
			continue
		}
		o, before := have[r.Key()]
		if !before {
			if err := ctx.Err(); err != nil {
				return out, err
			}
			var err error
			if o, err = do(ctx, r); err != nil {
				if ctx.Err() != nil {
					return out, ctx.Err()
				}
				o = &Outcome{Run: r, Key: r.Key(), Failure: err.Error()}
			}
		}
		if r.Method == None && o.OK() && !o.Drawn {
			settled[r.Task.Name] = true
		}
		out = append(out, *o)
		if each != nil {
			if err := each(i, o, before); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// Store keeps outcomes in a file with a line of JSON each, written as they come.
type Store struct {
	f    *os.File
	lock *train.Lock
	// Done are the outcomes that the file had when it was opened, the last of each key.
	Done []Outcome
}

// OpenStore opens or makes a store. A last line that was cut short by a crash is
// dropped; anything else that is no outcome is an error, and so is a folder that
// another process writes to ([train.BusyError]).
func OpenStore(path string) (_ *Store, err error) {
	s := &Store{}
	if s.lock, err = train.LockOutput(filepath.Dir(path)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Release()
		}
	}()
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	last := map[string]int{}
	n, whole := 0, 0
	for line := range bytes.Lines(raw) {
		n++
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		whole += len(line)
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var o Outcome
		if err := json.Unmarshal(line, &o); err != nil || o.Key == "" {
			return nil, fmt.Errorf("%s:%d: no result of a comparison: %w", path, n, errors.Join(err, ErrPlan))
		}
		if i, ok := last[o.Key]; ok {
			s.Done[i] = o
			continue
		}
		last[o.Key] = len(s.Done)
		s.Done = append(s.Done, o)
	}
	if s.f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666); err != nil {
		return nil, err
	}
	if err = s.f.Truncate(int64(whole)); err == nil {
		_, err = s.f.Seek(int64(whole), 0)
	}
	if err != nil {
		return nil, errors.Join(err, s.f.Close())
	}
	return s, nil
}

// Add appends an outcome.
func (s *Store) Add(o *Outcome) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = s.f.Write(append(b, '\n'))
	return err
}

// Close closes the file and gives back its folder.
func (s *Store) Close() error {
	defer s.lock.Release()
	return s.f.Close()
}
