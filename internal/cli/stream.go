package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// stream is an output of the program: a terminal, or anything else.
type stream struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	color bool
	fd    uintptr
	err   error // the first write that failed
	live  bool  // a progress line stands at the bottom without a line end
}

func newStream(w io.Writer) *stream {
	s := &stream{w: w}
	if f, ok := w.(*os.File); ok {
		s.fd = f.Fd()
		_, s.tty = terminalWidth(s.fd)
	}
	_, no := os.LookupEnv("NO_COLOR") // https://no-color.org
	s.color = s.tty && (!no || os.Getenv("NO_COLOR") == "") && os.Getenv("TERM") != "dumb"
	return s
}

// Write implements io.Writer. A progress line that stands there is cleared first.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	n, err := s.w.Write(p)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("standard output: %w", err)
	}
	return n, err
}

// failure is why a part of what was written did not arrive, nil when all did.
func (s *stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// width returns the columns of the terminal, 80 when there is none.
func (s *stream) width() int {
	if s.tty {
		if w, ok := terminalWidth(s.fd); ok && w >= 20 {
			return w
		}
	}
	return 80
}

// textWidth is the width of running text: at most 100 columns read well.
func (s *stream) textWidth() int {
	if !s.tty {
		return 100000 // a log or another program breaks its own lines
	}
	return min(s.width(), 100)
}

// setLine draws text as the progress line; the next Write or setLine replaces
// it. It does nothing when the stream is no terminal.
func (s *stream) setLine(text string) {
	if !s.tty {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = true
	io.WriteString(s.w, "\r\x1b[K"+text)
}

// clearLine removes the progress line.
func (s *stream) clearLine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *stream) clear() {
	if s.live {
		s.live = false
		io.WriteString(s.w, "\r\x1b[K")
	}
}

// Colours and weights (ECMA-48 SGR).
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	reset  = "\x1b[0m"
)

// paint colours text where the stream shows colours.
func (s *stream) paint(style, text string) string {
	if !s.color || text == "" {
		return text
	}
	return style + text + reset
}
