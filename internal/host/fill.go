package host

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
)

// problem is one mistake in an instance's configuration.
type problem struct {
	path string
	text string
}

// filler decodes JSON into a struct, strictly, and gathers every mistake with
// the path of the part at fault.
type filler struct{ problems []problem }

func (f *filler) bad(path, format string, args ...any) {
	f.problems = append(f.problems, problem{path, fmt.Sprintf(format, args...)})
}

// fill decodes raw into v.
func (f *filler) fill(path string, raw json.RawMessage, v reflect.Value) {
	if bytes.Equal(raw, []byte("null")) {
		return // "key:" alone leaves the default
	}
	if reads(v.Type()) {
		f.leaf(path, raw, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		f.fill(path, raw, v.Elem())
	case reflect.Struct:
		f.structure(path, raw, v)
	case reflect.Slice:
		f.slice(path, raw, v)
	case reflect.Map:
		f.mapping(path, raw, v)
	default:
		f.leaf(path, raw, v)
	}
}

// reads reports whether a type decodes itself.
func reads(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func (f *filler) leaf(path string, raw json.RawMessage, v reflect.Value) {
	err := json.Unmarshal(raw, v.Addr().Interface())
	if err == nil {
		return
	}
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		f.bad(path, "%s: %s", path, e.Text)
		return
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		hint := ""
		if v.Kind() == reflect.String || v.Type() == secretType {
			hint = "; quote it"
		}
		f.bad(path, "%s must be %s, not a %s%s", path, typeName(v.Type()), wrong.Value, hint)
		return
	}
	f.bad(path, "%s: %v", path, err)
}

func (f *filler) structure(path string, raw json.RawMessage, v reflect.Value) {
	if members, ok := f.members(path, raw); ok {
		f.fields(path, members, v)
	}
}

// fields decodes the members of an object into a struct's fields.
func (f *filler) fields(path string, members map[string]json.RawMessage, v reflect.Value) {
	fs := fieldsOf(v.Type())
	names := make([]string, len(fs))
	for i := range fs {
		names[i] = fs[i].key
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		i := slices.Index(names, key)
		if i < 0 {
			f.bad(join(path, key), "unknown key %q%s", key, meant(key, names))
			continue
		}
		f.fill(join(path, key), members[key], fieldByIndex(v, fs[i].index))
	}
}

// members splits an object.
func (f *filler) members(path string, raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		f.bad(path, "%s must be a map", cmp.Or(path, "the configuration"))
		return nil, false
	}
	if key := repeated(raw); key != "" {
		f.bad(join(path, key), "key %q is written twice", key)
		return nil, false
	}
	return m, true
}

// repeated returns a key that a valid object has twice, or "".
func repeated(raw json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	seen := map[string]bool{}
	_, err := d.Token() // {
	for err == nil && d.More() {
		var key json.Token
		if key, err = d.Token(); err != nil {
			break
		}
		k, _ := key.(string)
		if seen[k] {
			return k
		}
		seen[k] = true
		var skip json.RawMessage
		err = d.Decode(&skip)
	}
	return ""
}

func (f *filler) slice(path string, raw json.RawMessage, v reflect.Value) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		f.bad(path, "%s must be a list", path)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
	for i, e := range list {
		at := path + "[" + strconv.Itoa(i) + "]"
		if bytes.Equal(e, []byte("null")) {
			f.bad(at, "%s is empty", at)
			continue
		}
		f.fill(at, e, v.Index(i))
	}
}

func (f *filler) mapping(path string, raw json.RawMessage, v reflect.Value) {
	members, ok := f.members(path, raw)
	if !ok {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(members)))
	for _, key := range slices.Sorted(maps.Keys(members)) {
		e := reflect.New(v.Type().Elem()).Elem()
		f.fill(join(path, key), members[key], e)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// meant is the end of a message about an unknown word.
func meant(word string, known []string) string {
	if near := jimu.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return "; known are " + strings.Join(known, ", ")
}

// field is a configurable field of a struct, by its JSON name.
type field struct {
	key   string
	index []int
	owner reflect.Type // the struct that declares it
	typ   reflect.StructField
}

// fieldsOf lists the fields of a struct in the order they are written, those
// of embedded structs among them.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if sf.Anonymous && key == "" {
			inner := sf.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				for _, f := range fieldsOf(inner) {
					f.index = append([]int{i}, f.index...)
					out = append(out, f)
				}
				continue
			}
		}
		if !sf.IsExported() || key == "-" || key == "" {
			continue
		}
		out = append(out, field{key: key, index: []int{i}, owner: t, typ: sf})
	}
	return out
}

// fieldByIndex finds a field, making embedded pointers on the way.
func fieldByIndex(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}
