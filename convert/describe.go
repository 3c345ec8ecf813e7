package convert

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/peftkit/peftkit/formats"
	"github.com/peftkit/peftkit/model"
	"github.com/peftkit/peftkit/tensor"
	"github.com/peftkit/peftkit/tokenizer"
)

// Metadata keys that more than one place uses.
const (
	keyFileType     = "general.file_type"
	keyQuantVersion = "general.quantization_version"
	keyTokenizer    = "tokenizer.ggml.model"
)

// outputMajority returns the type of most weights of the output.
func (j *job) outputMajority() *tensor.DType {
	var types []typeCount
	for _, it := range j.items {
		if !isVector(it.gguf, it.shape) {
			types = append(types, typeCount{it.typ, it.src.Elements()})
		}
	}
	return majority(types)
}

// describeGGUF fills in the metadata, in the order in which gguf-py writes it.
func (j *job) describeGGUF(out *formats.OutModel) error {
	meta, extra, err := j.ck.Family.GGUFMeta(j.ck)
	if err != nil {
		return err
	}
	for i, e := range extra { // gguf-py writes them first
		it := &item{name: e.GGUF, gguf: e.GGUF, src: e.T, typ: e.T.Type, shape: e.T.Shape}
		j.items = slices.Insert(j.items, i, it)
		j.total += int64(len(e.T.Data))
	}
	fresh := j.ck.Source.Naming != formats.GGUF
	if fresh {
		j.nameGGUF(&meta)
	}
	// A file that only changed its container keeps what it said about its types.
	if typ := j.fileType(); typ >= 0 && (fresh || j.policy.want != nil || meta.Get(keyFileType) == nil) {
		if old, ok := meta.Int(keyFileType); ok && old != int64(typ) {
			j.notes.say("%s: %d -> %d", keyFileType, old, typ)
		}
		setBefore(&meta, keyFileType, uint32(typ), j.names.Arch+".vocab_size")
	}
	quantised := slices.ContainsFunc(j.items, func(it *item) bool { return it.typ.Quantised() })
	if fresh || quantised && meta.Get(keyQuantVersion) == nil {
		setBefore(&meta, keyQuantVersion, uint32(2), keyTokenizer)
	}
	if j.vocab > 0 {
		if meta.Get(j.names.Arch+".vocab_size") != nil {
			meta.Set(j.names.Arch+".vocab_size", uint32(j.vocab))
		}
		meta = slices.DeleteFunc(meta, func(kv formats.KV) bool { return strings.HasPrefix(kv.Key, "tokenizer.") })
	}
	if meta.Get(keyTokenizer) == nil {
		kvs, err := j.tokenizerKeys()
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			meta.Set(kv.Key, kv.Value)
		}
	}
	arch := meta.Str("general.architecture")
	if w, ok := meta.Int(arch + ".attention.sliding_window"); ok && w > 0 && j.ck.Source.Naming == formats.HF && !strings.HasPrefix(arch, "gemma") {
		j.notes.say("sliding_window %d: llama.cpp attends to everything in architecture %s: longer texts come out differently", w, arch)
	}
	out.Meta = meta
	return nil
}

// fileType returns llama.cpp's general.file_type of the output.
func (j *job) fileType() int {
	if j.policy.want != nil {
		return j.policy.want.FileType
	}
	if d := j.outputMajority(); d != nil {
		return d.FileType
	}
	return -1
}

// setBefore sets a key, a new one in front of the key before, if that is there.
func setBefore(m *formats.Meta, key string, v any, before string) {
	if m.Get(key) == nil {
		for i, kv := range *m {
			if kv.Key == before {
				*m = slices.Insert(*m, i, formats.KV{Key: key, Value: v})
				return
			}
		}
	}
	m.Set(key, v)
}

// nameGGUF adds what gguf-py says about the model before its parameters.
func (j *job) nameGGUF(meta *formats.Meta) {
	at := 0
	for i, kv := range *meta {
		if kv.Key == "general.architecture" || kv.Key == "general.type" {
			at = i + 1
		}
	}
	var add []formats.KV
	if name := j.modelName(); name != "" && meta.Get("general.name") == nil {
		add = append(add, formats.KV{Key: "general.name", Value: name})
	}
	if meta.Get("general.size_label") == nil {
		var n int64
		for _, it := range j.items {
			n += it.src.Elements()
		}
		add = append(add, formats.KV{Key: "general.size_label", Value: sizeLabel(n)})
	}
	*meta = slices.Insert(*meta, at, add...)
}

// modelName is the last part of _name_or_path, or the name of the folder or file.
func (j *job) modelName() string {
	name := strings.TrimRight(strings.ReplaceAll(j.config.str("_name_or_path"), `\`, "/"), "/")
	if name == "" || name == "." {
		abs, err := filepath.Abs(j.ck.Source.Path)
		if err != nil {
			return ""
		}
		base := filepath.Base(abs)
		switch filepath.Ext(base) {
		case ".json", ".safetensors":
			base = filepath.Base(filepath.Dir(abs))
		case ".bin", ".gguf":
			base = strings.TrimSuffix(base, filepath.Ext(base))
		}
		return base
	}
	return name[strings.LastIndexByte(name, '/')+1:]
}

// sizeLabel writes a number of weights as gguf-py does: two digits at least,
// with K, M, B, T or Q.
func sizeLabel(n int64) string {
	v, unit := float64(n)*1e-3, "K"
	for _, u := range []struct {
		at   float64
		name string
	}{{1e15, "Q"}, {1e12, "T"}, {1e9, "B"}, {1e6, "M"}} {
		if float64(n) > u.at {
			v, unit = float64(n)/u.at, u.name
			break
		}
	}
	whole := strings.TrimLeft(strconv.FormatFloat(math.RoundToEven(v), 'f', 0, 64), "0")
	return strconv.FormatFloat(v, 'f', max(2-len(whole), 0), 64) + unit
}

// tokenizerKeys returns the metadata of the tokenizer that belongs to the output.
func (j *job) tokenizerKeys() ([]formats.KV, error) {
	src := j.tokenizerSource()
	if src.Meta.Get(keyTokenizer) == nil && src.Files["tokenizer.json"] == nil && src.Files["vocab.txt"] == nil {
		found, hint := "no tokenizer.json", "Copy tokenizer.json and tokenizer_config.json of the model into the folder; GGUF files carry their tokenizer"
		if src.Files["tokenizer.model"] != nil {
			found = "tokenizer.model without tokenizer.json"
			hint = "Save it once with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
		}
		return nil, &formats.FileError{File: src.Path, Err: formats.ErrMissing, Found: found, Want: "tokenizer.json", Hint: hint}
	}
	vocab, err := j.vocabSize()
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.FromModel(src)
	if err != nil {
		return nil, err
	}
	kvs, err := tok.GGUF(vocab)
	if err != nil {
		return nil, formats.At(src.Path, err)
	}
	return kvs, nil
}

// tokenizerSource returns the model or adapter whose tokenizer goes with the output.
func (j *job) tokenizerSource() *formats.Model {
	if j.files == nil {
		return j.ck.Source
	}
	return &formats.Model{Path: j.ck.Source.Path, Naming: formats.HF, Config: j.ck.Config, Files: j.files}
}

func (j *job) vocabSize() (int, error) {
	if j.vocab > 0 {
		return j.vocab, nil
	}
	if n, ok := j.config.number("vocab_size"); ok {
		return n, nil
	}
	return 0, fmt.Errorf("%s: config.json: vocab_size is missing or no integer: %w", j.ck.Source.Path, model.ErrMismatch)
}

// torchNames are the names of types in config.json.
var torchNames = map[*tensor.DType]string{
	tensor.F32: "float32", tensor.F16: "float16", tensor.BF16: "bfloat16", tensor.F64: "float64",
}

// describeHF fills in config.json and the side files.
func (j *job) describeHF(out *formats.OutModel) error {
	edited := false
	if d := j.outputMajority(); d != nil && torchNames[d] != "" {
		// transformers 5 writes dtype and still reads torch_dtype; older
		// releases know only the latter.
		key := "torch_dtype"
		if j.config.get("dtype") != nil {
			key = "dtype"
		}
		if old := j.config.str(key); strings.TrimPrefix(old, "torch.") != torchNames[d] {
			if err := j.config.set(key, torchNames[d]); err != nil {
				return err
			}
			if old != "" {
				j.notes.say("config.json: %s %s -> %s", key, old, torchNames[d])
			}
			edited = true
		}
	}
	if j.head != nil {
		if err := j.config.set("tie_word_embeddings", false); err != nil {
			return err
		}
		edited = true
	}
	if j.vocab > 0 {
		if err := j.config.set("vocab_size", j.vocab); err != nil {
			return err
		}
		edited = true
	}
	if named, err := j.carryMeta(); err != nil {
		return err
	} else if named {
		edited = true
	}
	out.Config = j.ck.Config
	if edited {
		b, err := j.config.bytes()
		if err != nil {
			return err
		}
		out.Config = b
	}
	files, err := j.sideFiles()
	out.Files = files
	return err
}

// carryMeta brings general.name of a GGUF file into config.json and notes the
// descriptive keys that a model folder has no place for.
func (j *job) carryMeta() (edited bool, err error) {
	var lost []string
	for _, kv := range j.ck.Source.Meta {
		name, general := strings.CutPrefix(kv.Key, "general.")
		switch {
		case !general:
		case name == "name" && j.config.get("_name_or_path") == nil:
			if s, ok := kv.Value.(string); ok && s != "" {
				err, edited = j.config.set("_name_or_path", s), true
			}
		case !slices.Contains([]string{"architecture", "type", "name", "size_label", "file_type", "quantization_version", "alignment"}, name):
			lost = append(lost, kv.Key)
		}
	}
	if k, ok := j.ck.Family.(model.Keyed); ok && j.ck.Source.Naming == formats.GGUF {
		if keys := model.Ignored(j.ck.Source, j.ck.Source.Meta.Str("general.architecture"), k.Keys(formats.GGUF)); len(keys) > 0 {
			j.notes.say("not carried, as they have no effect on what llama.cpp computes: %s", strings.Join(keys, ", "))
		}
	}
	if len(lost) > 0 {
		j.notes.say("not carried, as a model folder has no place for them: %s", strings.Join(lost, ", "))
	}
	return edited, err
}

// sideFiles returns the tokenizer's and generation's files: those of the source
// folder as they are, or made from a GGUF file's metadata.
func (j *job) sideFiles() (map[string][]byte, error) {
	src := j.ck.Source
	files := map[string][]byte{}
	if src.Naming == formats.HF && src.Meta == nil {
		maps.Copy(files, src.Files)
	} else {
		tok, err := tokenizer.FromModel(src)
		if err != nil {
			return nil, err
		}
		if files, err = tok.HF(); err != nil {
			return nil, formats.At(src.Path, err)
		}
		if files["generation_config.json"] == nil {
			if files["generation_config.json"], err = j.generationConfig(); err != nil {
				return nil, err
			}
		}
	}
	delete(files, "config.json")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.ContainsAny(name, `/\`) {
			j.notes.about("not carried: only the default chat template has a place in the folder", name)
			delete(files, name)
		}
	}
	maps.Copy(files, j.files)
	return files, nil
}

// generationConfig tells transformers where a text begins and ends.
func (j *job) generationConfig() ([]byte, error) {
	o := object{{"_from_model_config", json.RawMessage("true")}}
	for _, k := range []string{"bos_token_id", "eos_token_id", "pad_token_id"} {
		if v := j.config.get(k); v != nil && string(v) != "null" {
			o = append(o, member{k, v})
		}
	}
	// A chat model ends its turn with another token than a text.
	meta := j.ck.Source.Meta
	eos, ok1 := meta.Int("tokenizer.ggml.eos_token_id")
	eot, ok2 := meta.Int("tokenizer.ggml.eot_token_id")
	if ok1 && ok2 && eos != eot {
		if err := o.set("eos_token_id", []int64{eos, eot}); err != nil {
			return nil, err
		}
	}
	return o.bytes()
}
