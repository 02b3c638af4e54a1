package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

const (
	maxBody  = 1 << 20
	maxDepth = 32
)

// readBody reads a JSON body within the limits.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mt != "application/json" {
		return nil, jimu.Errorf(jimu.Invalid, "send the request's body as JSON, with the header Content-Type: application/json")
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return nil, jimu.Errorf(jimu.TooLarge, "the request's body is larger than 1 MiB")
	}
	if err != nil {
		return nil, &jimu.Error{Code: jimu.Invalid, Text: "the request's body broke off", Err: err}
	}
	return b, nil
}

// decode fills v from one JSON value. Unknown fields, repeated ones (in any
// case), and anything after the value are refused.
func decode(b []byte, v any) error {
	if !utf8.Valid(b) {
		return jimu.Errorf(jimu.Invalid, "the request's body is not valid UTF-8")
	}
	if err := scan(b); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return decodeError(d.Decode(v))
}

func decodeError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &jimu.Error{Code: jimu.Invalid, Param: e.Field, Text: "the field " + e.Field + " has the wrong type: " + e.Value, Err: err}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		field, _ := strconv.Unquote(name)
		return &jimu.Error{Code: jimu.Invalid, Param: field, Text: "there is no field " + name + " here", Err: err}
	}
	return &jimu.Error{Code: jimu.Invalid, Text: "the request's body cannot be read as what is expected here", Err: err}
}

// scan walks the tokens of one JSON value: syntax, depth, repeated names (also
// ones that differ in case only, which encoding/json would take for the same),
// and that nothing follows.
func scan(b []byte) error {
	bad := func(text string, err error) error { return &jimu.Error{Code: jimu.Invalid, Text: text, Err: err} }
	d := json.NewDecoder(bytes.NewReader(b))
	var open []level
	for {
		t, err := d.Token()
		if err != nil {
			return bad("the request's body is not valid JSON", err)
		}
		top := len(open) - 1
		switch t {
		case json.Delim('{'), json.Delim('['):
			if top >= 0 {
				open[top].value = false
			}
			open = append(open, level{object: t == json.Delim('{')})
			if len(open) > maxDepth {
				return &jimu.Error{Code: jimu.TooLarge, Text: "the request's body is nested too deeply"}
			}
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
		default:
			if top >= 0 && !open[top].take(t) {
				return bad("a field is there twice in the request's body", nil)
			}
		}
		if len(open) == 0 {
			break
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("there is more than one value in the request's body", nil)
	}
	return nil
}

// level is an object or array being scanned.
type level struct {
	object bool
	value  bool // in an object: the next token is a value
	names  map[string]bool
}

// take notes a name or a plain value. It reports false for a repeated name.
func (l *level) take(t json.Token) bool {
	if !l.object {
		return true
	}
	if l.value {
		l.value = false
		return true
	}
	l.value = true
	name, ok := t.(string)
	if !ok {
		return true
	}
	name = strings.ToLower(name)
	if l.names[name] {
		return false
	}
	if l.names == nil {
		l.names = make(map[string]bool)
	}
	l.names[name] = true
	return true
}
