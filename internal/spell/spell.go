// Package spell finds the word that somebody meant to write.
package spell

import (
	"fmt"
	"strings"
)

// Nearest returns the known word that is closest to a misspelt one, "" when none
// is close. Case, hyphens and underscores make no difference.
func Nearest(word string, known []string) string {
	word = plain(word)
	best, limit := "", 1+len(word)/4
	for _, k := range known {
		if d := Distance(word, plain(k)); d <= limit && d < max(len(word), 2) {
			best, limit = k, d-1
		}
	}
	return best
}

// plain is a word as Nearest compares it.
func plain(s string) string {
	return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
}

// DidYouMean asks for the nearest known word; it is "" when none is close.
func DidYouMean(word string, known []string) string {
	near := Nearest(word, known)
	if near == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", near)
}

// Distance is the number of edits between two words: a letter more, less or
// another, or two neighbours that changed places.
func Distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1) // two rows and one row up
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}

// UnknownError is a word that is none of those that are known.
type UnknownError struct {
	// Kind says what the word should name: method, tensor type, ...
	Kind, Word string
	// Near is the word that was meant; "" for the nearest of Known.
	Near  string
	Known []string
	// Err is the kind of error that it is for errors.Is; nil for none.
	Err error
}

// Error asks for the nearest known word, or lists all when none is close.
func (e *UnknownError) Error() string {
	near := e.Near
	if near == "" {
		near = Nearest(e.Word, e.Known)
	}
	hint := fmt.Sprintf("did you mean %q?", near)
	if near == "" {
		hint = "known are " + strings.Join(e.Known, ", ")
	}
	s := fmt.Sprintf("unknown %s %q: %s", e.Kind, e.Word, hint)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the kind of error.
func (e *UnknownError) Unwrap() error { return e.Err }
