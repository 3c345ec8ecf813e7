package data

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// parts lists the names that a part may have, those that are looked for first
// before the others.
var parts = map[string][]string{
	"train": {"train", "training"},
	"valid": {"valid", "validation", "val", "dev"},
	"test":  {"test", "testing", "eval", "evaluation"},
}

// notData are files that lie beside data and end like them.
var notData = []string{"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "metadata.json",
	"task_map.json", "label_map.json", "adapter_config.json", "requirements.txt", "license.txt", "readme.txt"}

// shard is the end of the name of a file that is one of several.
var shard = regexp.MustCompile(`^(.*)[-_](\d{5})-of-(\d{5})(-[0-9a-f]{8,40})?$`)

// dataFile is a file of a folder that may be data.
type dataFile struct {
	path string // below the folder, with slashes
	// part and name say which part it belongs to and by what, "" for none; exact says
	// that the name is that of the part and nothing else.
	part, name string
	exact      bool
}

// Parts returns which of train, valid and test a folder has, in this order.
func Parts(folder string) ([]string, error) {
	files, _, err := list(folder)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range []string{"train", "valid", "test"} {
		if slices.ContainsFunc(files, func(f dataFile) bool { return f.part == p }) {
			out = append(out, p)
		}
	}
	if len(out) == 0 && len(files) > 0 {
		out = []string{"train"}
	}
	return out, nil
}

// Files returns all data files of a folder and those below it.
func Files(folder string) ([]string, error) {
	files, _, err := list(folder)
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = filepath.Join(folder, filepath.FromSlash(f.path))
	}
	return out, err
}

// partFiles returns path itself when it is a file, the files that it matches when
// it is a pattern such as train-*.parquet, and those of a part when it is a folder.
// note says what was decided.
func partFiles(path, part string) (files []string, note string, err error) {
	if part == "" {
		part = "train"
	}
	if parts[part] == nil {
		return nil, "", fmt.Errorf("data part %q: expected train, valid or test", part)
	}
	st, err := os.Stat(path)
	if err != nil {
		if matches, e := filepath.Glob(path); e == nil && len(matches) > 0 {
			return matches, "", nil
		}
		return nil, "", err
	}
	if !st.IsDir() {
		return []string{path}, "", nil
	}
	all, other, err := list(path)
	if err != nil {
		return nil, "", err
	}
	found, note, err := choose(all, part)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if len(found) == 0 {
		return nil, "", fmt.Errorf("%s: no %s.jsonl: %w; the folder holds %s", path, parts[part][0], fs.ErrNotExist, holds(all, other))
	}
	for _, f := range found {
		files = append(files, filepath.Join(path, filepath.FromSlash(f.path)))
	}
	if note != "" {
		note = path + ": " + note
	}
	return files, note, nil
}

// holds says what is in a folder without the part that was asked for.
func holds(files []dataFile, other []string) string {
	if len(files) == 0 && len(other) > 0 {
		ext, _ := ending(other[0])
		if a := advice[ext]; a != "" {
			return fmt.Sprintf("%s; %s", other[0], a)
		}
		return fmt.Sprintf("%s, of a type that is not read; expected %s", other[0], knownEndings)
	}
	if len(files) == 0 {
		return "no data files"
	}
	return names(files)
}

// names lists files, not too many.
func names(files []dataFile) string {
	const most = 12
	var out []string
	for i, f := range files {
		if i == most {
			out = append(out, "...")
			break
		}
		out = append(out, f.path)
	}
	return strings.Join(out, ", ")
}

// list finds the data files in a folder and the folders below it, in the order of
// their names; other are files of other types.
func list(folder string) (files []dataFile, other []string, err error) {
	const deepest, most = 3, 100000
	err = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		hidden := strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "__")
		if e.IsDir() {
			if hidden || strings.Count(rel, "/") >= deepest {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || slices.Contains(notData, strings.ToLower(e.Name())) {
			return nil
		}
		if ext, _ := ending(e.Name()); !slices.Contains(dataEndings, ext) {
			if ext != ".md" {
				other = append(other, rel)
			}
			return nil
		}
		if len(files) == most {
			return fmt.Errorf("%s: %w: more than %d files", folder, ErrFormat, most)
		}
		f := dataFile{path: rel}
		f.part, f.name, f.exact = partOf(rel)
		files = append(files, f)
		return nil
	})
	return files, other, err
}

// partOf tells the part of a file by its name, or by that of the folder it lies in.
func partOf(rel string) (part, name string, exact bool) {
	steps := strings.Split(rel, "/")
	last := stem(steps[len(steps)-1])
	if m := shard.FindStringSubmatch(last); m != nil {
		last = m[1]
	}
	steps[len(steps)-1] = last
	for _, wholly := range []bool{true, false} {
		for i := len(steps) - 1; i >= 0; i-- {
			for _, p := range []string{"train", "valid", "test"} {
				for _, n := range parts[p] {
					if wholly && strings.EqualFold(steps[i], n) || !wholly && hasWord(steps[i], n) {
						return p, strings.Join(steps[:i+1], "/"), wholly
					}
				}
			}
		}
	}
	return "", "", false
}

// hasWord reports whether a name contains a word, between other signs than letters.
func hasWord(name, word string) bool {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("-._ 0123456789", r) })
	return slices.Contains(words, word)
}

// choose returns the files of a part, which are one list: a file, or the shards of
// one. Without any part in a folder all files are for training.
func choose(files []dataFile, part string) (found []dataFile, note string, err error) {
	some := false
	for _, f := range files {
		some = some || f.part != ""
		if f.part == part {
			found = append(found, f)
		}
	}
	if exact := slices.DeleteFunc(slices.Clone(found), func(f dataFile) bool { return !f.exact }); len(exact) > 0 {
		found = exact
	}
	if !some && part == "train" {
		found = files
		if len(files) > 1 {
			note = fmt.Sprintf("no file is named train: all %d are read (%s)", len(files), names(files))
		}
	}
	if len(found) < 2 {
		return found, note, incomplete(found)
	}
	sameKind := func(f dataFile) bool {
		a, p := ending(f.path)
		b, q := ending(found[0].path)
		return f.name == found[0].name && a == b && p == q
	}
	for _, f := range found {
		if !sameKind(f) || some && single(f) {
			return nil, "", fmt.Errorf("both %s and %s could be the %s part: %w; give the file itself, or a folder with one of them", found[0].path, other(found, f).path, part, ErrFormat)
		}
	}
	return found, note, incomplete(found)
}

// other returns the first file that is not f, or f when it is not the first.
func other(files []dataFile, f dataFile) dataFile {
	if f != files[0] {
		return f
	}
	return files[1]
}

// single reports a file whose name is not one of several: neither a shard nor one of
// a folder that has the name of the part.
func single(f dataFile) bool {
	base := stem(f.path[strings.LastIndex(f.path, "/")+1:])
	return !shard.MatchString(base) && f.name == strings.TrimSuffix(f.path, f.path[len(stem(f.path)):])
}

// incomplete tells that shards are missing.
func incomplete(files []dataFile) error {
	have := map[string]map[string]bool{}
	of := map[string]string{}
	for _, f := range files {
		if m := shard.FindStringSubmatch(stem(f.path)); m != nil {
			if have[m[1]] == nil {
				have[m[1]] = map[string]bool{}
			}
			have[m[1]][m[2]] = true
			of[m[1]] = m[3]
		}
	}
	for name, numbers := range have {
		var n int
		if _, err := fmt.Sscanf(of[name], "%d", &n); err != nil || len(numbers) == n {
			continue
		}
		for i := range n {
			if missing := fmt.Sprintf("%05d", i); !numbers[missing] {
				return fmt.Errorf("%s-%s-of-%s is missing: %w: %d of %d files are there; fetch the rest, or give the files that are to be used", name, missing, of[name], ErrFormat, len(numbers), n)
			}
		}
	}
	return nil
}
