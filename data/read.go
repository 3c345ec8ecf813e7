package data

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// reading collects the rows of the files of a data set.
type reading struct {
	// names are the columns of tables without a header line, split says how texts
	// are divided, part which list of a JSON object with several to take.
	names []string
	split SplitText
	part  string
	// isRecord reports whether a JSON object is a record by its fields.
	isRecord func(fields map[string]any) bool

	name string // the first file
	rows []row
	bad  LineErrors
	// notes say what was decided about the files, one fact each.
	notes []string
	// headers says that the names of columns were read from tables, tables and
	// texts that there were any.
	headers, tables, texts bool
}

// formats of data by the endings of their files. In a folder only files of the
// first group are taken for data: a README.md is none.
var (
	dataEndings = []string{".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt"}
	textEndings = []string{".txt", ".text", ".md"}
)

// knownEndings is what an error says of files that are read.
const knownEndings = ".jsonl, .json, .csv, .tsv, .parquet or .txt, also compressed (.gz, .zst)"

// advice says what to do with files of other types.
var advice = map[string]string{
	".arrow": arrowAdvice, ".feather": arrowAdvice,
	".xlsx": "save the sheet as CSV", ".xls": "save the sheet as CSV", ".ods": "save the sheet as CSV",
	".pdf": "extract its text into a .txt file", ".docx": "save it as plain text (.txt)", ".epub": "extract its text into a .txt file",
	".html": "extract its text into a .txt file", ".htm": "extract its text into a .txt file",
	".pkl": "write it as .jsonl or .parquet with the program that made it", ".pickle": "write it as .jsonl or .parquet with the program that made it",
	".zip": "unpack it", ".tar": "unpack it", ".tgz": "unpack it", ".7z": "unpack it", ".bz2": "unpack it", ".xz": "unpack it", ".lz4": "unpack it",
}

const arrowAdvice = `Arrow is not read; write it as Parquet: datasets.load_from_disk(FOLDER)["train"].to_parquet("train.parquet")`

// ending returns the lower-case ending of a file name and, apart from it, that of
// its compression, if any.
func ending(name string) (ext, packed string) {
	ext = strings.ToLower(filepath.Ext(name))
	if _, ok := unpackers[ext]; ok {
		packed = ext
		ext = strings.ToLower(filepath.Ext(name[:len(name)-len(ext)]))
	}
	return ext, packed
}

// stem is the name of a file without its endings.
func stem(name string) string {
	ext, packed := ending(name)
	return name[:len(name)-len(ext)-len(packed)]
}

// note adds a fact, once.
func (in *reading) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(in.notes, n) {
		in.notes = append(in.notes, n)
	}
}

// files reads files, which are one data set, in order.
func (in *reading) files(paths []string) error {
	for _, p := range paths {
		if err := in.read(p); err != nil {
			return err
		}
	}
	return in.done()
}

// done says which options met no file that they are for.
func (in *reading) done() error {
	if in.names != nil && !in.tables {
		in.note("names of columns (%s) are for tables (.csv, .tsv) and were not used", strings.Join(in.names, ", "))
	}
	if in.split != "" && !in.texts {
		in.note("how texts are split (%s) concerns .txt files and was not used", in.split)
	}
	return nil
}

// read adds the rows of a file.
func (in *reading) read(path string) error {
	ext, packed := ending(path)
	if err := readable(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		return fmt.Errorf("%s: %w: a folder", path, ErrFormat)
	}
	if ext == ".parquet" && packed == "" {
		return in.parquet(path, f, st.Size())
	}
	var content []byte
	if packed != "" {
		content, err = unpack(path, packed, f, st.Size())
	} else {
		content, err = io.ReadAll(f)
	}
	if err != nil {
		return err
	}
	return in.parse(path, content)
}

// readable refuses files of types that are not read, and says what to do.
func readable(path string) error {
	ext, _ := ending(path)
	if slices.Contains(dataEndings, ext) || slices.Contains(textEndings, ext) {
		return nil
	}
	err := fmt.Errorf("%s: %w; expected %s", path, ErrFormat, knownEndings)
	if a := advice[ext]; a != "" {
		err = fmt.Errorf("%w; %s", err, a)
	}
	return err
}

// parse adds the rows of a file that is in memory and no longer compressed.
func (in *reading) parse(file string, content []byte) error {
	ext, _ := ending(file)
	if err := readable(file); err != nil {
		return err
	}
	if ext == ".parquet" {
		return in.parquet(file, bytes.NewReader(content), int64(len(content)))
	}
	if what := impostor(content); what != "" {
		return fmt.Errorf("%s: %w: %s", file, ErrFormat, what)
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	switch {
	case slices.Contains(textEndings, ext):
		in.texts = true
		in.text(file, content)
	case ext == ".csv" || ext == ".tsv":
		in.tables = true
		in.table(file, content)
	default: // the content decides: arrays are found under .jsonl and lines under .json
		return in.json(file, content)
	}
	return nil
}

// impostor recognises content that is not text in UTF-8, whatever the name says.
func impostor(content []byte) string {
	for _, m := range []struct{ magic, what string }{
		{"\xff\xfe", utf16Advice}, {"\xfe\xff", utf16Advice},
		{"\x1f\x8b", "it is compressed by gzip; name it with the ending .gz"},
		{"\x28\xb5\x2f\xfd", "it is compressed by zstd; name it with the ending .zst"},
		{"BZh", "it is compressed by bzip2; unpack it"},
		{"\xfd7zXZ\x00", "it is compressed by xz; unpack it"},
		{"PK\x03\x04", "it is a ZIP archive or an Excel sheet; unpack it, or save the sheet as CSV"},
		{"PAR1", "it is a Parquet file; name it with the ending .parquet"},
		{"ARROW1", arrowAdvice},
		{"version https://git-lfs", "it is a Git LFS pointer and not the file; git lfs pull fetches it"},
	} {
		if bytes.HasPrefix(content, []byte(m.magic)) {
			return m.what
		}
	}
	head := bytes.ToLower(bytes.TrimSpace(content[:min(len(content), 100)]))
	if bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html")) {
		return "it is a web page; download the file itself"
	}
	return ""
}

const utf16Advice = "it is UTF-16; write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"

// notText says what is wrong with bytes that should be text, "" for nothing.
func notText(b []byte) string {
	switch {
	case bytes.IndexByte(b, 0) >= 0:
		return "a NUL byte"
	case !utf8.Valid(b):
		return "bytes that are not UTF-8"
	}
	return ""
}

// wantText is what notText should have found.
const wantText = "UTF-8 text (iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW writes it from an older encoding)"
