package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// object is a JSON object whose keys keep their order and whose values keep
// their text, so that editing one key of a config.json changes nothing else.
type object []member

type member struct {
	key   string
	value json.RawMessage
}

func parseObject(b []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, fmt.Errorf("found %v, expected a JSON object", t)
	}
	var o object
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := k.(string)
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		o = append(o, member{key, v})
	}
	_, err = dec.Token()
	return o, err
}

// get returns the text of a value, nil when the key is absent.
func (o object) get(key string) json.RawMessage {
	for i := len(o) - 1; i >= 0; i-- { // the last one of a repeated key counts
		if o[i].key == key {
			return o[i].value
		}
	}
	return nil
}

// str returns a string value, "" when it is absent or none.
func (o object) str(key string) string {
	var s string
	_ = json.Unmarshal(o.get(key), &s)
	return s
}

// number returns an integer value; ok is false when it is absent or none.
func (o object) number(key string) (n int, ok bool) {
	v := o.get(key)
	if v == nil || string(v) == "null" {
		return 0, false
	}
	err := json.Unmarshal(v, &n)
	return n, err == nil
}

// set replaces a value in place, or appends it.
func (o *object) set(key string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	raw := bytes.TrimSpace(b.Bytes())
	found := false
	for i := range *o {
		if (*o)[i].key == key {
			(*o)[i].value, found = raw, true
		}
	}
	if !found {
		*o = append(*o, member{key, raw})
	}
	return nil
}

// bytes returns the object indented by two spaces, as transformers writes it.
func (o object) bytes() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		k, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
