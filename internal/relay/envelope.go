package relay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

const (
	// maxDepth bounds the nesting of a request.
	maxDepth = 64
	// maxModel bounds the name of a model, in bytes.
	maxModel = 256
	// maxAnswers bounds n.
	maxAnswers = 128
	// maxOutput bounds the output that may be asked for.
	maxOutput = 1e9
	// mediaTokens is what a picture, a recording or a document is taken for
	// until its upstream says.
	mediaTokens = 8192
)

// owned are the members of a request that the gateway reads and bills on. A
// second one of the same name, or one whose name differs in case alone, would
// let an upstream read another value than we did, so both are refused.
var owned = []string{ //nolint:gochecknoglobals // a constant table
	"model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "max_output_tokens", "service_tier", "dimensions",
}

// mediaKeys name members that hold a file by value or by address.
var mediaKeys = []string{"url", "image_url", "data", "file_data", "file_id"} //nolint:gochecknoglobals // a constant table

// envelope is what is read of a request: no more than the gateway needs. The
// bytes are checked to be one JSON object in valid UTF-8 on the way.
type envelope struct {
	call  *jimu.Call
	b     []byte
	i     int
	depth int
	text  int64 // bytes of strings, for an estimate of the input
	media int64 // files
	large int64 // bytes of files held by value
	max   [3]int64
	usage bool // stream_options.include_usage was read
	err   *jimu.Error
}

// kind says which object is being read.
type kind uint8

const (
	kindTop kind = iota
	kindOptions
	kindOther
)

// open scans a request body into call. It returns an estimate of the input in
// tokens.
func open(call *jimu.Call, body []byte) (estimate int64, err error) {
	call.Body, call.N = body, 1
	call.Fields = make([]jimu.Field, 0, 6) // more than most requests have
	e := envelope{call: call, b: body}
	if !utf8.Valid(body) {
		return 0, jimu.Errorf(jimu.Invalid, "the request body is not valid UTF-8")
	}
	e.space()
	if e.peek() != '{' {
		return 0, jimu.Errorf(jimu.Invalid, "the request body must be a JSON object")
	}
	e.object(kindTop)
	e.space()
	if e.err == nil && e.i < len(body) {
		e.syntax()
	}
	if e.err != nil {
		return 0, e.err
	}
	if call.Model == "" {
		return 0, &jimu.Error{Code: jimu.Invalid, Text: "the request names no model", Param: "model"}
	}
	call.MaxTokens = max(e.max[0], e.max[1], e.max[2])
	// Each token of text is at least a byte of the body. Files are priced by
	// their size in pixels or seconds, which their bytes bound loosely.
	call.InputBound = int64(len(body)) - e.large + e.large/16 + e.media*mediaTokens
	return e.text/4 + e.media*mediaTokens/8 + 1, nil
}

func (e *envelope) peek() byte {
	if e.i < len(e.b) {
		return e.b[e.i]
	}
	return 0
}

func (e *envelope) fail(param, text string) {
	if e.err == nil {
		e.err = &jimu.Error{Code: jimu.Invalid, Text: text, Param: param}
	}
	e.i = len(e.b) // every loop ends
}

func (e *envelope) syntax() {
	if e.err == nil {
		e.fail("", "the request body is not valid JSON, near byte "+strconv.Itoa(e.i))
	}
}

func (e *envelope) space() {
	for e.i < len(e.b) {
		switch e.b[e.i] {
		case ' ', '\t', '\n', '\r':
			e.i++
		default:
			return
		}
	}
}

// object reads an object.
func (e *envelope) object(k kind) {
	if !e.enter() {
		return
	}
	if e.peek() == '}' {
		e.leave()
		return
	}
	for e.err == nil {
		e.space()
		from := e.i
		name := e.str()
		e.space()
		if e.err != nil || e.peek() != ':' {
			e.syntax()
			return
		}
		e.i++
		e.space()
		switch k {
		case kindTop:
			e.member(from, name)
		case kindOptions:
			e.streamOption(name)
		case kindOther:
			e.inner(name)
		}
		if !e.more('}') {
			return
		}
	}
}

func (e *envelope) array(key []byte) {
	if !e.enter() {
		return
	}
	if e.peek() == ']' {
		e.leave()
		return
	}
	for e.err == nil {
		e.space()
		e.value(key)
		if !e.more(']') {
			return
		}
	}
}

// enter goes over an opening bracket and the space behind it.
func (e *envelope) enter() bool {
	e.i++
	if e.depth++; e.depth > maxDepth {
		if e.err == nil {
			e.err = jimu.Errorf(jimu.TooLarge, "the request is nested deeper than %d levels", maxDepth)
		}
		e.i = len(e.b)
		return false
	}
	e.space()
	return true
}

func (e *envelope) leave() {
	e.i++
	e.depth--
}

// more goes over a comma, or over the closing bracket and reports false.
func (e *envelope) more(closing byte) bool {
	e.space()
	switch {
	case e.err != nil:
		return false
	case e.peek() == ',':
		e.i++
		return true
	case e.peek() == closing:
		e.leave()
		return false
	}
	e.syntax()
	return false
}

// value goes over a value. key is the name of the member it is in.
func (e *envelope) value(key []byte) {
	switch e.peek() {
	case '{':
		e.object(kindOther)
	case '[':
		e.array(key)
	case '"':
		s := e.str()
		e.count(key, s)
	case 't':
		e.literal("true")
	case 'f':
		e.literal("false")
	case 'n':
		e.literal("null")
	default:
		e.number()
	}
}

// inner goes over a member of an object below the top.
func (e *envelope) inner(name []byte) {
	if isMedia(name) {
		if c := e.peek(); c == '"' {
			e.media++
		}
	}
	e.value(name)
}

// count adds a string to the estimate.
func (e *envelope) count(key, s []byte) {
	if len(s) > 64 && isMedia(key) && (bytes.HasPrefix(s, []byte("data:")) || string(key) == "data") {
		e.large += int64(len(s))
		return
	}
	e.text += int64(len(s))
}

func isMedia(key []byte) bool {
	return slices.Contains(mediaKeys, string(key))
}

func (e *envelope) literal(want string) {
	if !bytes.HasPrefix(e.b[e.i:], []byte(want)) {
		e.syntax()
		return
	}
	e.i += len(want)
}

// str goes over a string and returns what is between its quotes, as written.
func (e *envelope) str() []byte {
	if e.peek() != '"' {
		e.syntax()
		return nil
	}
	e.i++
	from := e.i
	for {
		b, i := e.b, plain(e.b, e.i)
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
			i++
		}
		e.i = i
		switch {
		case i < len(b) && b[i] == '"':
			e.i++
			return b[from:i]
		case i == len(b) || b[i] != '\\' || !e.escape():
			e.syntax()
			return nil
		}
	}
}

// plain goes on from i, eight bytes at a time, while none of them ends a string
// or has to be looked at: a quote, a backslash or a control character.
func plain(b []byte, i int) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		v := binary.LittleEndian.Uint64(b[i:])
		quote, back := v^(each*'"'), v^(each*'\\')
		// The top bit of a byte of (x-each)&^x says that it is 0, or that one
		// below it is.
		if ((quote-each)&^quote|(back-each)&^back|(v-each*' ')&^v)&top != 0 {
			break
		}
	}
	return i
}

func (e *envelope) escape() bool {
	rest := e.b[e.i:]
	if len(rest) < 2 {
		return false
	}
	switch rest[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		e.i += 2
		return true
	case 'u':
		if len(rest) < 6 {
			return false
		}
		for _, c := range rest[2:6] {
			hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
			if !hex {
				return false
			}
		}
		e.i += 6
		return true
	}
	return false
}

func (e *envelope) digits() bool {
	from := e.i
	for e.i < len(e.b) && '0' <= e.b[e.i] && e.b[e.i] <= '9' {
		e.i++
	}
	return e.i > from
}

func (e *envelope) number() {
	if e.peek() == '-' {
		e.i++
	}
	if e.peek() == '0' {
		e.i++
	} else if !e.digits() {
		e.syntax()
		return
	}
	if e.peek() == '.' {
		e.i++
		if !e.digits() {
			e.syntax()
			return
		}
	}
	if c := e.peek(); c == 'e' || c == 'E' {
		e.i++
		if c := e.peek(); c == '+' || c == '-' {
			e.i++
		}
		if !e.digits() {
			e.syntax()
		}
	}
}

// member reads a member of the top object.
func (e *envelope) member(from int, name []byte) {
	field, ok := e.ownedName(name, owned)
	if !ok {
		e.value(name)
		return
	}
	if e.err != nil {
		return
	}
	if e.call.Field(field) != nil {
		e.fail(field, "the request has more than one "+field)
		return
	}
	start := e.i
	e.own(field)
	e.call.Fields = append(e.call.Fields, jimu.Field{Name: field, Start: start, End: e.i, From: from})
}

// ownedName returns the name among names that a member's name is. A spelling
// that a lenient reader would take for it is refused.
func (e *envelope) ownedName(name []byte, names []string) (string, bool) {
	plain := true
	for _, c := range name {
		if c == '\\' || c >= 0x80 || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if plain {
		for _, n := range names {
			if string(name) == n {
				return n, true
			}
		}
		return "", false
	}
	s := unquote(name)
	for _, n := range names {
		if strings.EqualFold(s, n) {
			e.fail(n, "the request spells "+n+" in an unusual way: write it in small letters, without escapes")
			return n, true
		}
	}
	return "", false
}

// unquote resolves the escapes of a string that was scanned before.
func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(append(append(quoted, '"'), raw...), '"')
	var s string
	_ = json.Unmarshal(quoted, &s) // cannot fail: the escapes were checked
	return s
}

// own reads the value of an owned member. null is the same as leaving it out.
func (e *envelope) own(field string) {
	if e.peek() == 'n' {
		e.literal("null")
		return
	}
	c := e.call
	switch field {
	case "model":
		e.model()
	case "stream":
		c.Stream = e.boolean(field)
	case "stream_options":
		if e.peek() != '{' {
			e.fail(field, "stream_options must be an object")
			return
		}
		e.object(kindOptions)
	case "service_tier":
		if e.peek() != '"' {
			e.fail(field, "service_tier must be a string")
			return
		}
		e.str()
	case "n":
		c.N = e.integer(field, maxAnswers)
	case "max_tokens":
		e.max[0] = e.integer(field, maxOutput)
	case "max_completion_tokens":
		e.max[1] = e.integer(field, maxOutput)
	case "max_output_tokens":
		e.max[2] = e.integer(field, maxOutput)
	case "dimensions":
		e.integer(field, maxOutput)
	}
}

func (e *envelope) model() {
	if e.peek() != '"' {
		e.fail("model", "model must be a string")
		return
	}
	raw := e.str()
	if e.err != nil {
		return
	}
	e.call.Model = unquote(raw)
	if n := len(e.call.Model); n == 0 || n > maxModel || strings.ContainsFunc(e.call.Model, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		e.fail("model", "model must be a name of 1 to "+strconv.Itoa(maxModel)+" bytes")
	}
}

func (e *envelope) streamOption(name []byte) {
	field, ok := e.ownedName(name, []string{"include_usage"})
	switch {
	case !ok:
		e.value(name)
	case e.err != nil:
	case e.usage:
		e.fail("stream_options.include_usage", "the request has more than one "+field)
	default:
		e.usage = true
		if e.peek() == 'n' {
			e.literal("null")
			return
		}
		e.call.IncludeUsage = e.boolean("stream_options.include_usage")
	}
}

func (e *envelope) boolean(field string) bool {
	switch e.peek() {
	case 't':
		e.literal("true")
		return true
	case 'f':
		e.literal("false")
	default:
		e.fail(field, field+" must be true or false")
	}
	return false
}

// integer reads a whole number from 1 to most.
func (e *envelope) integer(field string, most int64) int64 {
	from := e.i
	if c := e.peek(); c != '-' && (c < '0' || c > '9') {
		e.fail(field, field+" must be a whole number")
		return 0
	}
	e.number()
	if e.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(e.b[from:e.i]), 10, 64)
	if err != nil || n < 1 || n > most {
		e.fail(field, field+" must be a whole number from 1 to "+strconv.FormatInt(most, 10))
		return 0
	}
	return n
}
