package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

const (
	// maxHead bounds the head of an answer, with the interim ones before it.
	maxHead = 64 << 10
	// maxTrailer bounds the trailer and each chunk's size line.
	maxTrailer = 64 << 10
)

// ErrAnswer says that an upstream's answer is not HTTP/1.1, or could be read
// in two ways. The connection is closed.
var ErrAnswer = errors.New("the upstream's answer is not proper HTTP")

func bad(what string) error { return fmt.Errorf("%w: %s", ErrAnswer, what) }

// framing is how the body of an answer is delimited.
type framing struct {
	status  int
	length  int64 // -1 is not stated
	chunked bool
	keep    bool // the connection may be used again
	ctype   string
}

// headEnd returns the length of the head in b with its blank line, or 0 if it
// is not whole. from is where to look from.
func headEnd(b []byte, from int) int {
	from = max(from-3, 0)
	i := bytes.Index(b[from:], []byte("\r\n\r\n"))
	if i < 0 {
		return 0
	}
	return from + i + 4
}

// parseHead reads a whole head. Every line must end with CR LF, no line may be
// folded, and the length must be stated once or not at all.
func parseHead(b []byte) (f framing, err error) {
	line, rest, ok := cutLine(b)
	if !ok {
		return f, bad("no status line")
	}
	minor, err := f.statusLine(line)
	if err != nil {
		return f, err
	}
	f.length, f.keep = -1, minor == '1'
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return f, bad("a line of the head does not end with CR LF")
		}
		if len(line) == 0 {
			return f, f.check(minor)
		}
		if err := f.field(line); err != nil {
			return f, err
		}
	}
}

// statusLine reads the first line. It returns the minor version.
func (f *framing) statusLine(line []byte) (minor byte, err error) {
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return 0, bad("no status line")
	}
	if minor = line[7]; minor != '0' && minor != '1' {
		return 0, bad("unknown version")
	}
	for _, d := range line[9:12] {
		if d < '0' || d > '9' {
			return 0, bad("no status")
		}
		f.status = f.status*10 + int(d-'0')
	}
	if f.status < 100 || (len(line) > 12 && line[12] != ' ') {
		return 0, bad("no status")
	}
	return minor, nil
}

// cutLine splits off a line. A line holds no control character but the tab.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, false
	}
	line = b[:i-1]
	if slices.ContainsFunc(line, control) {
		return nil, nil, false
	}
	return line, b[i+1:], true
}

// field notes one field of the head.
func (f *framing) field(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || !token(line[:colon]) {
		return bad("a field without a proper name")
	}
	value := bytes.Trim(line[colon+1:], " \t")
	name := line[:colon]
	switch {
	case is(name, "content-length"):
		return f.contentLength(value)
	case is(name, "transfer-encoding"):
		if f.chunked || !is(value, "chunked") {
			return bad("an unknown transfer encoding")
		}
		f.chunked = true
	case is(name, "content-type"):
		f.ctype = contentType(value)
	case is(name, "content-encoding"):
		if len(value) > 0 && !is(value, "identity") {
			return bad("it is compressed, which was not asked for")
		}
	case is(name, "connection"):
		for v := range bytes.SplitSeq(value, []byte(",")) {
			if is(bytes.Trim(v, " \t"), "close") {
				f.keep = false
			}
		}
	}
	return nil
}

func (f *framing) contentLength(value []byte) error {
	if len(value) == 0 || len(value) > 18 {
		return bad("no proper length")
	}
	var n int64
	for _, d := range value {
		if d < '0' || d > '9' {
			return bad("no proper length")
		}
		n = n*10 + int64(d-'0')
	}
	if f.length >= 0 && f.length != n {
		return bad("two lengths")
	}
	f.length = n
	return nil
}

// check decides how the body is delimited.
func (f *framing) check(minor byte) error {
	switch {
	case f.chunked && f.length >= 0:
		return bad("a length and a transfer encoding")
	case f.chunked && minor == '0':
		return bad("a transfer encoding in HTTP/1.0")
	case f.status == http.StatusSwitchingProtocols:
		return bad("it switched protocols, which was not asked for")
	case f.status < 200 && (f.chunked || f.length > 0):
		return bad("an interim answer with a body")
	case f.status == http.StatusNoContent || f.status == http.StatusNotModified:
		if f.chunked || f.length > 0 {
			f.keep = false // what follows cannot be told from the next answer
		}
		f.length, f.chunked = 0, false
	case !f.chunked && f.length < 0:
		f.keep = false
	}
	return nil
}

func control(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

// is compares without regard to the case of ASCII letters.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// token reports whether b is a field name (RFC 9110, 5.6.2).
func token(b []byte) bool {
	for _, c := range b {
		if !tokenByte(c) {
			return false
		}
	}
	return true
}

func tokenByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// contentType returns the value as a string, without making one where it is
// one of the usual.
func contentType(b []byte) string {
	switch string(b) {
	case "application/json":
		return "application/json"
	case "text/event-stream":
		return "text/event-stream"
	case "text/event-stream; charset=utf-8":
		return "text/event-stream; charset=utf-8"
	}
	return string(b)
}

// fields parses the fields of a head that parseHead has accepted.
func fields(head []byte) http.Header {
	h := make(http.Header)
	_, rest, _ := cutLine(head)
	for {
		line, next, ok := cutLine(rest)
		if !ok || len(line) == 0 {
			return h
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		h.Add(textproto.CanonicalMIMEHeaderKey(string(name)), string(bytes.Trim(value, " \t")))
		rest = next
	}
}
