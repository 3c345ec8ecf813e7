package main

import (
	"math/rand/v2"
	"regexp"
	"strings"
)

// novels maps the names of the data package to the titles that the demo asks for.
var novels = []struct{ data, title string }{
	{"emma", "Emma"}, {"mansfieldpark", "Mansfield Park"}, {"northangerabbey", "Northanger Abbey"},
	{"persuasion", "Persuasion"}, {"prideprejudice", "Pride and Prejudice"}, {"sensesensibility", "Sense and Sensibility"},
}

// chapter is the text of one chapter, paragraphs separated by newlines.
type chapter struct {
	title string // of the novel
	text  string
}

var heading = regexp.MustCompile(`^(?i)(chapter|volume) [ivxlc\d]+\.?$`)

// chapters splits a novel at its headings and joins the lines of each paragraph.
func chapters(title string, lines []string) []chapter {
	var out []chapter
	var par []string
	var text strings.Builder
	started := false
	endPar := func() {
		if len(par) > 0 && started {
			text.WriteString(strings.Join(strings.Fields(strings.Join(par, " ")), " "))
			text.WriteByte('\n')
		}
		par = nil
	}
	endChapter := func() {
		endPar()
		if text.Len() > 1000 {
			out = append(out, chapter{title, text.String()})
		}
		text.Reset()
	}
	for _, l := range lines {
		l = strings.TrimSpace(l)
		switch {
		case heading.MatchString(l):
			endChapter()
			started = true
		case l == "":
			endPar()
		default:
			par = append(par, l)
		}
	}
	endChapter()
	return out
}

// example is one passage and the novel it is from.
type example struct {
	Prompt     string `json:"prompt"`
	Completion string `json:"completion"`
}

// passages cuts a chapter into runs of whole sentences of 40 to 80 words.
func passages(c chapter) []example {
	var out []example
	var run []string
	words := 0
	for _, s := range sentences(c.text) {
		n := len(strings.Fields(s))
		if words > 0 && words+n > 80 {
			run, words = nil, 0
		}
		run, words = append(run, s), words+n
		if words >= 40 && words <= 80 {
			out = append(out, example{"Passage: " + strings.Join(run, " ") + "\nNovel:", " " + c.title})
			run, words = nil, 0
		}
	}
	return out
}

var sentenceEnd = regexp.MustCompile(`[.!?]["']?\s+`)

func sentences(text string) []string {
	var out []string
	text = strings.ReplaceAll(text, "\n", " ")
	for {
		m := sentenceEnd.FindStringIndex(text)
		if m == nil {
			return append(out, strings.TrimSpace(text))
		}
		out = append(out, strings.TrimSpace(text[:m[1]]))
		text = text[m[1]:]
	}
}

// corpus is the split of all novels: every seventh chapter is kept from the
// base model and from the adapter, and only the test passages come from it.
type corpus struct {
	text        []string // chapters the base model is trained on
	train, test []example
}

func build(books map[string][]string, trainPerNovel, testPerNovel int) corpus {
	rng := rand.New(rand.NewPCG(1811, 1818))
	var c corpus
	for _, n := range novels {
		var train, test []example
		for i, ch := range chapters(n.title, books[n.data]) {
			if i%7 == 3 {
				test = append(test, passages(ch)...)
				continue
			}
			c.text = append(c.text, ch.text)
			train = append(train, passages(ch)...)
		}
		pick := func(from []example, k int) []example {
			rng.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
			return from[:min(k, len(from))]
		}
		c.train = append(c.train, pick(train, trainPerNovel)...)
		c.test = append(c.test, pick(test, testPerNovel)...)
	}
	for _, part := range [][]example{c.train, c.test} {
		rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return c
}
