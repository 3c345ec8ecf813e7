package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/peftkit/peftkit/formats"
)

// Effect is what a key of GGUF metadata or of config.json does to what a model
// computes.
type Effect string

// The effects.
const (
	Used          Effect = "used"
	WithoutEffect Effect = "without effect"
	Refused       Effect = "refused"
)

// Key is the decision about one key.
type Key struct {
	// Name is the key; in GGUF metadata without the architecture before it.
	Name   string
	Effect Effect
	// Neutral are the values of a refused key with which a file is read, because
	// they change nothing.
	Neutral []any
	// Kind is the type that llama.cpp insists on: "uint32", "float32", "bool" or
	// "string", each or a list of it where List is set; "" for any.
	Kind string
	List bool
	// Why says what the peer does, for people.
	Why string
}

// Keyed is a family that lists the keys of its files: those of GGUF metadata that
// llama.cpp reads for its architecture, or those of config.json.
type Keyed interface {
	Family
	Keys(naming formats.Naming) []Key
}

// CheckMeta checks the keys of an architecture in GGUF metadata: the types as
// llama.cpp does, and that no refused key has a value that counts.
func CheckMeta(m *formats.Model, arch string, keys []Key) error {
	for _, k := range keys {
		name := arch + "." + k.Name
		v := m.Meta.Get(name)
		if v == nil {
			continue
		}
		if !k.fits(v) {
			return fmt.Errorf("%s: metadata key %s is of type %T, expected %s: %w", m.Path, name, v, k.Kind, ErrMismatch)
		}
		if k.Effect == Refused && !slices.Contains(k.Neutral, v) {
			return fmt.Errorf("%s: metadata key %s is %v: %w: %s", m.Path, name, v, ErrUnsupported, k.Why)
		}
	}
	return nil
}

func (k Key) fits(v any) bool {
	kind := fmt.Sprintf("%T", v)
	if list, ok := strings.CutPrefix(kind, "[]"); ok {
		return k.List && (k.Kind == "" || list == k.Kind || k.Kind == "uint32" && (list == "int32" || list == "bool"))
	}
	// Whole numbers of other widths have one meaning, and older writers used them.
	whole := []string{"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"}
	return k.Kind == "" || kind == k.Kind || k.Kind == "uint32" && slices.Contains(whole, kind) || k.Kind == "float32" && kind == "float64"
}

// Ignored lists the metadata keys of a GGUF file's architecture, with their values,
// that neither llama.cpp nor this program computes with. Lists are counted.
func Ignored(m *formats.Model, arch string, keys []Key) []string {
	read := map[string]Effect{}
	for _, k := range keys {
		read[k.Name] = k.Effect
	}
	var out []string
	for _, kv := range m.Meta {
		name, ok := strings.CutPrefix(kv.Key, arch+".")
		if !ok {
			if i := strings.IndexByte(kv.Key, '.'); i < 0 || slices.Contains([]string{"general", "tokenizer", "split", "adapter"}, kv.Key[:i]) {
				continue
			}
			name = ""
		}
		if e := read[name]; e == Used || e == Refused {
			continue
		}
		value := fmt.Sprint(kv.Value)
		if len(value) > 60 {
			value = "..."
		}
		out = append(out, kv.Key+" "+value)
	}
	return out
}
