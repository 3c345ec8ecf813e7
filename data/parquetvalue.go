package data

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
	"github.com/x448/float16"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
)

// markGroup recognises lists and dictionaries. The rules for files of old writers
// are those of the format's page on logical types: a repeated child is the element
// itself when it has several fields, or a name that says so.
func (n *parquetNode) markGroup(e *format.SchemaElement) {
	_, list := e.LogicalType.Value.(*format.ListType)
	_, dict := e.LogicalType.Value.(*format.MapType)
	if c, ok := e.ConvertedType.Get(); ok {
		list = list || c == deprecated.List
		dict = dict || c == deprecated.Map || c == deprecated.MapKeyValue
	}
	if len(n.children) != 1 || !n.children[0].repeated {
		return
	}
	inner := n.children[0]
	n.list = list
	n.dict = !list && dict && len(inner.children) == 2
}

// element is what a list repeats: the child of its repeated group, or, in files of
// old writers, that group.
func (n *parquetNode) element() *parquetNode {
	inner := n.children[0]
	if len(inner.children) == 1 && inner.name != "array" && inner.name != n.name+"_tuple" && !inner.children[0].repeated {
		return inner.children[0]
	}
	return nil
}

// assembler puts the columns of a record together again, by their levels.
type assembler struct {
	columns     [][]parquet.Value // of the record, what is not yet used
	used, limit int64
}

// sizeError says that the records take more memory than their file can mean.
type sizeError struct{}

func (*sizeError) Error() string { return "too large" }

var errColumns = errors.New("the columns of a record do not fit together")

// record assembles the fields of one record.
func (a *assembler) record(root *parquetNode, values parquet.Row) (map[string]any, error) {
	for i := range a.columns {
		a.columns[i] = nil
	}
	values.Range(func(column int, v []parquet.Value) bool {
		for len(a.columns) <= column {
			a.columns = append(a.columns, nil)
		}
		a.columns[column] = v
		return true
	})
	fields := make(map[string]any, len(root.children))
	for _, c := range root.children {
		v, err := a.field(c)
		if err != nil {
			return nil, err
		}
		fields[c.name] = v
	}
	return fields, a.take(200)
}

// take counts memory.
func (a *assembler) take(n int) error {
	if a.used += int64(n); a.used > a.limit {
		return &sizeError{}
	}
	return nil
}

// peek is the next value of the first column below a node.
func (a *assembler) peek(n *parquetNode) (parquet.Value, bool) {
	if n.leaf >= len(a.columns) || len(a.columns[n.leaf]) == 0 {
		return parquet.Value{}, false
	}
	return a.columns[n.leaf][0], true
}

// field assembles a node with its repetitions.
func (a *assembler) field(n *parquetNode) (any, error) {
	first, ok := a.peek(n)
	switch {
	case !ok:
		return nil, errColumns
	case first.DefinitionLevel() < n.definition && n.repeated:
		return jinja.NewList(), a.skip(n)
	case first.DefinitionLevel() < n.definition && n.optional:
		return nil, a.skip(n)
	case !n.repeated:
		return a.value(n)
	}
	list := jinja.NewList()
	for {
		v, err := a.value(n)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, v)
		if next, ok := a.peek(n); !ok || next.RepetitionLevel() < n.repetition {
			return list, a.take(16 * len(list.Items))
		}
	}
}

// skip uses up the values that mark something as absent.
func (a *assembler) skip(n *parquetNode) error {
	if len(n.children) > 0 {
		for _, c := range n.children {
			if err := a.skip(c); err != nil {
				return err
			}
		}
		return nil
	}
	if _, ok := a.peek(n); !ok {
		return errColumns
	}
	a.columns[n.leaf] = a.columns[n.leaf][1:]
	return a.take(16)
}

// value assembles a node that is there.
func (a *assembler) value(n *parquetNode) (any, error) {
	switch {
	case n.children == nil:
		return a.leafValue(n)
	case n.list:
		return a.listValue(n)
	case n.dict:
		return a.dictValue(n)
	}
	out := jinja.NewDict()
	for _, c := range n.children {
		v, err := a.field(c)
		if err != nil {
			return nil, err
		}
		// A struct has all fields of its type; null is what a record did not have.
		if v != nil {
			_ = out.Set(c.name, v) // a string is a key
		}
	}
	return out, a.take(100)
}

func (a *assembler) leafValue(n *parquetNode) (any, error) {
	v, ok := a.peek(n)
	if !ok || v.IsNull() {
		return nil, errColumns
	}
	a.columns[n.leaf] = a.columns[n.leaf][1:]
	out := n.convert(v)
	size := 16
	switch x := out.(type) {
	case string:
		size += len(x)
	case []byte:
		size += len(x)
	}
	return out, a.take(size)
}

// listValue assembles a list without the group that repeats.
func (a *assembler) listValue(n *parquetNode) (any, error) {
	inner, element := n.children[0], n.element()
	if element == nil {
		return a.field(inner)
	}
	list := jinja.NewList()
	if first, ok := a.peek(n); !ok {
		return nil, errColumns
	} else if first.DefinitionLevel() < inner.definition {
		return list, a.skip(n)
	}
	for {
		v, err := a.field(element)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, v)
		if next, ok := a.peek(n); !ok || next.RepetitionLevel() < inner.repetition {
			return list, a.take(16 * len(list.Items))
		}
	}
}

// dictValue assembles a dictionary from its keys and values.
func (a *assembler) dictValue(n *parquetNode) (any, error) {
	v, err := a.field(n.children[0])
	if err != nil {
		return nil, err
	}
	list, _ := v.(*jinja.List)
	out := jinja.NewDict()
	key, value := n.children[0].children[0].name, n.children[0].children[1].name
	if list == nil {
		return out, nil
	}
	for _, it := range list.Items {
		pair, ok := it.(*jinja.Dict)
		if !ok {
			return nil, errColumns
		}
		k, _ := pair.Get(key)
		v, _ := pair.Get(value)
		if err := out.Set(k, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// converter returns what turns the values of a column into those of JSON. Times and
// decimal numbers become text, whole numbers stay whole.
func converter(e *format.SchemaElement) func(parquet.Value) any {
	logical, converted := e.LogicalType.Value, deprecated.ConvertedType(-1)
	if c, ok := e.ConvertedType.Get(); ok {
		converted = c
	}
	scale := e.Scale.V
	if d, ok := logical.(*format.DecimalType); ok {
		scale, converted = d.Scale, deprecated.Decimal
	}
	if converted == deprecated.Decimal {
		return func(v parquet.Value) any { return decimalText(v, int(scale)) }
	}
	if t, ok := logical.(*format.TimestampType); ok {
		unit := timeUnit(&t.Unit)
		return func(v parquet.Value) any { return timeText(v.Int64(), unit, t.IsAdjustedToUTC) }
	}
	switch converted {
	case deprecated.TimestampMillis:
		return func(v parquet.Value) any { return timeText(v.Int64(), time.Millisecond, true) }
	case deprecated.TimestampMicros:
		return func(v parquet.Value) any { return timeText(v.Int64(), time.Microsecond, true) }
	case deprecated.Date:
		return func(v parquet.Value) any {
			return time.Unix(0, 0).UTC().AddDate(0, 0, int(v.Int32())).Format(time.DateOnly)
		}
	case deprecated.Uint64:
		return func(v parquet.Value) any {
			if u := uint64(v.Int64()); u > math.MaxInt64 {
				return float64(u)
			}
			return v.Int64()
		}
	case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32:
		return func(v parquet.Value) any { return int64(uint32(v.Int32())) }
	}
	switch logical.(type) {
	case *format.DateType:
		return func(v parquet.Value) any {
			return time.Unix(0, 0).UTC().AddDate(0, 0, int(v.Int32())).Format(time.DateOnly)
		}
	case *format.UUIDType:
		return func(v parquet.Value) any {
			b := v.ByteArray()
			if len(b) != 16 {
				return []byte(string(b))
			}
			return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		}
	case *format.Float16Type:
		return func(v parquet.Value) any {
			b := v.ByteArray()
			if len(b) != 2 {
				return []byte(string(b))
			}
			return float64(float16.Frombits(uint16(b[0]) | uint16(b[1])<<8).Float32())
		}
	}
	return plainValue
}

// plainValue is a value as its physical type has it. Bytes that are no text stay
// bytes.
func plainValue(v parquet.Value) any {
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int32:
		return int64(v.Int32())
	case parquet.Int64:
		return v.Int64()
	case parquet.Float:
		return float64(v.Float())
	case parquet.Double:
		return v.Double()
	case parquet.Int96:
		i := v.Int96() // nanoseconds of a Julian day
		const julianEpoch = 2440588
		day := int64(i[2]) - julianEpoch
		return time.Unix(day*86400, int64(i[1])<<32|int64(i[0])).UTC().Format("2006-01-02T15:04:05.999999999")
	}
	b := v.ByteArray()
	if utf8.Valid(b) {
		return string(b)
	}
	return append([]byte(nil), b...)
}

func timeUnit(u *format.TimeUnit) time.Duration {
	switch u.Value.(type) {
	case *format.MilliSeconds:
		return time.Millisecond
	case *format.MicroSeconds:
		return time.Microsecond
	}
	return time.Nanosecond
}

// timeText writes a time as ISO 8601 has it.
func timeText(n int64, unit time.Duration, utc bool) string {
	perSecond := int64(time.Second / unit)
	second, part := n/perSecond, n%perSecond
	layout := "2006-01-02T15:04:05.999999999"
	if utc {
		layout += "Z07:00"
	}
	return time.Unix(second, part*int64(unit)).UTC().Format(layout)
}

// decimalText writes a decimal number with all its digits.
func decimalText(v parquet.Value, scale int) any {
	var n big.Int
	switch v.Kind() {
	case parquet.Int32:
		n.SetInt64(int64(v.Int32()))
	case parquet.Int64:
		n.SetInt64(v.Int64())
	default:
		b := v.ByteArray() // big-endian two's complement
		if n.SetBytes(b); len(b) > 0 && b[0]&0x80 != 0 {
			n.Sub(&n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	digits := n.Text(10)
	const most = 1000
	if scale <= 0 || scale > most {
		return digits
	}
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	digits = strings.Repeat("0", max(0, scale+1-len(digits))) + digits
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}
