package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// bar draws a share of a whole in width columns, in eighths of a column.
func (s *stream) bar(share float64, width int) string {
	share = min(max(share, 0), 1)
	filled := int(share*float64(width) + 1e-9)
	return s.paint(green, strings.Repeat("━", filled)) + s.paint(dim, strings.Repeat("─", width-filled))
}

// transfer shows the progress of writing a file of known size: a line on a
// terminal, nothing elsewhere.
type transfer struct {
	s     *stream
	verb  string
	began time.Time
	last  time.Time
}

func (a *app) newTransfer(verb string) *transfer {
	now := time.Now()
	return &transfer{s: a.err, verb: verb, began: now, last: now}
}

// report is called with the bytes done so far.
func (t *transfer) report(done, total int64, name string) {
	now := time.Now()
	if !t.s.tty || total <= 0 || (done < total && now.Sub(t.last) < 80*time.Millisecond) {
		return
	}
	t.last = now
	rate := float64(done) / max(now.Sub(t.began).Seconds(), 1e-3)
	head := fmt.Sprintf("%s %s %3.0f %%  %s/s", t.verb, t.s.bar(float64(done)/float64(total), 20), 100*float64(done)/float64(total), bytesText(int64(rate)))
	room := t.s.width() - textLen(head) - 3
	if room > 8 {
		head += "  " + t.s.paint(dim, shortenMiddle(name, room))
	}
	t.s.setLine(head)
}

func (t *transfer) done() { t.s.clearLine() }

// activity shows that something without a known length goes on: a text and the
// seconds since, on a terminal only.
type activity struct {
	s    *stream
	stop chan struct{}
	wg   sync.WaitGroup
}

func (a *app) start(what string) *activity {
	act := &activity{s: a.err, stop: make(chan struct{})}
	if !a.err.tty {
		return act
	}
	began := time.Now()
	act.wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-act.stop:
				return
			case <-tick.C:
				if d := time.Since(began); d > 400*time.Millisecond {
					act.s.setLine(fmt.Sprintf("%s %s", what, act.s.paint(dim, durationText(d))))
				}
			}
		}
	})
	return act
}

// end removes the line.
func (act *activity) end() {
	close(act.stop)
	act.wg.Wait()
	act.s.clearLine()
}
