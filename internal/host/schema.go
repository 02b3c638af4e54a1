package host

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/jimu-ai/jimu"
)

var (
	durationType = reflect.TypeFor[jimu.Duration]() //nolint:gochecknoglobals // a constant
	creditType   = reflect.TypeFor[jimu.Credit]()   //nolint:gochecknoglobals // a constant
)

// Schema returns the JSON Schema of a brick's configuration.
func Schema(reg *jimu.Registry, id string) (json.RawMessage, error) {
	b, err := reg.New(id)
	if err != nil {
		return nil, err
	}
	s, err := newDescriber()
	if err != nil {
		return nil, err
	}
	v := reflect.ValueOf(b).Elem()
	out := s.schema(v.Type(), v)
	props, _ := out["properties"].(map[string]any)
	if _, ok := props["name"]; !ok {
		props["name"] = map[string]any{"type": "string", "description": "What the instance is called.", "default": defaultName}
	}
	out["description"] = s.comments.of(v.Type(), "")
	return json.Marshal(out)
}

// UpstreamSchema returns the JSON Schema of an entry of upstreams: that of the
// provider that knows its vendor.
func UpstreamSchema(reg *jimu.Registry) (json.RawMessage, error) {
	byProvider := map[string][]string{}
	for v, id := range vendors(reg) {
		byProvider[id] = append(byProvider[id], v)
	}
	variants := []any{}
	for _, id := range slices.Sorted(maps.Keys(byProvider)) {
		raw, err := Schema(reg, id)
		if err != nil {
			return nil, err
		}
		var s map[string]any
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("reading the schema of %s: %w", id, err)
		}
		if props, ok := s["properties"].(map[string]any); ok {
			if vendor, ok := props["vendor"].(map[string]any); ok {
				slices.Sort(byProvider[id])
				vendor["enum"] = byProvider[id]
			}
		}
		s["required"] = []string{"vendor"}
		variants = append(variants, s)
	}
	return json.Marshal(map[string]any{"oneOf": variants})
}

// describer makes schemas and docs of types, with what their comments say.
type describer struct{ comments comments }

// schema describes a type; v holds its defaults, and may be invalid.
func (d *describer) schema(t reflect.Type, v reflect.Value) map[string]any {
	switch {
	case t == secretType:
		return map[string]any{"type": "string", "writeOnly": true}
	case t == durationType:
		return map[string]any{"type": "string", "pattern": `^([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$`}
	case t == creditType:
		return map[string]any{"type": []string{"string", "number"}}
	case reads(t):
		if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return map[string]any{"type": "string"}
		}
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem(), reflect.Value{})
	case reflect.Struct:
		return d.object(t, v)
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": d.schema(t.Elem(), reflect.Value{})}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": d.schema(t.Elem(), reflect.Value{})}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	default:
		return map[string]any{}
	}
}

func (d *describer) object(t reflect.Type, v reflect.Value) map[string]any {
	props := map[string]any{}
	for _, f := range fieldsOf(t) {
		fv := valueOf(v, f)
		s := d.schema(f.typ.Type, fv)
		if text := d.text(f); text != "" {
			s["description"] = text
		}
		if def := defaultOf(fv); def != nil {
			s["default"] = def
		}
		props[f.key] = s
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": props}
}

func valueOf(v reflect.Value, f field) reflect.Value {
	if !v.IsValid() {
		return v
	}
	fv, err := v.FieldByIndexErr(f.index)
	if err != nil {
		return reflect.Value{}
	}
	return fv
}

// defaultOf returns the JSON of a default, or nil if there is none to show.
func defaultOf(v reflect.Value) json.RawMessage {
	if !v.IsValid() || v.IsZero() || v.Type() == secretType || v.Kind() == reflect.Struct {
		return nil
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return nil
	}
	return b
}

// typeName is what people call a type.
func typeName(t reflect.Type) string {
	switch t {
	case secretType:
		return "text (secret)"
	case durationType:
		return "duration"
	case creditType:
		return "amount"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice, reflect.Array:
		return "list of " + typeName(t.Elem())
	case reflect.Struct, reflect.Map:
		return "map"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Float32, reflect.Float64:
		return "number"
	default:
		return "whole number"
	}
}

// Mask returns a function that hides the secrets of a raw configuration, for
// people to read. References (env:, file:) stay readable, for they are not the
// secret. What no brick of the build knows is hidden whole.
func Mask(reg *jimu.Registry) func(brick string, raw json.RawMessage) json.RawMessage {
	byVendor := vendors(reg)
	return func(brick string, raw json.RawMessage) json.RawMessage {
		if brick == "" {
			var up struct {
				Vendor string `json:"vendor"`
			}
			_ = json.Unmarshal(raw, &up) // an unknown vendor is hidden below
			brick = byVendor[up.Vendor]
		}
		hidden := json.RawMessage(`"***"`)
		b, err := reg.New(brick)
		if err != nil {
			return hidden
		}
		if out, ok := maskValue(raw, reflect.TypeOf(b)); ok {
			return out
		}
		return hidden
	}
}

func maskValue(raw json.RawMessage, t reflect.Type) (json.RawMessage, bool) {
	if t == secretType {
		var s string
		if json.Unmarshal(raw, &s) == nil && (s == "" || bytes.HasPrefix([]byte(s), []byte("env:")) || bytes.HasPrefix([]byte(s), []byte("file:"))) {
			return raw, true
		}
		return json.RawMessage(`"***"`), true
	}
	if reads(t) {
		return raw, true
	}
	switch t.Kind() {
	case reflect.Pointer:
		return maskValue(raw, t.Elem())
	case reflect.Slice:
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return nil, false
		}
		for i := range list {
			var ok bool
			if list[i], ok = maskValue(list[i], t.Elem()); !ok {
				return nil, false
			}
		}
		return encode(list)
	case reflect.Struct:
		types := map[string]reflect.Type{"name": reflect.TypeFor[string]()}
		for _, f := range fieldsOf(t) {
			types[f.key] = f.typ.Type
		}
		return maskMembers(raw, func(key string) reflect.Type { return types[key] })
	case reflect.Map:
		return maskMembers(raw, func(string) reflect.Type { return t.Elem() })
	default:
		return raw, true
	}
}

func maskMembers(raw json.RawMessage, typeOf func(key string) reflect.Type) (json.RawMessage, bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil, false
	}
	for key, v := range m {
		m[key] = json.RawMessage(`"***"`)
		if t := typeOf(key); t != nil {
			if masked, ok := maskValue(v, t); ok {
				m[key] = masked
			}
		}
	}
	return encode(m)
}

func encode(v any) (json.RawMessage, bool) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err == nil
}

func sortedKeys(v reflect.Value) []reflect.Value {
	return slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
}
