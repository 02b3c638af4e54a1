package relay

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// answers maps each code to its status and to the type that clients of the
// chat dialect know.
var answers = map[jimu.Code]struct { //nolint:gochecknoglobals // a constant table
	status int
	kind   string
}{
	jimu.Internal:     {http.StatusInternalServerError, "server_error"},
	jimu.Invalid:      {http.StatusBadRequest, "invalid_request_error"},
	jimu.TooLarge:     {http.StatusRequestEntityTooLarge, "invalid_request_error"},
	jimu.Unauthorized: {http.StatusUnauthorized, "invalid_request_error"},
	jimu.Forbidden:    {http.StatusForbidden, "permission_error"},
	jimu.NoCredit:     {http.StatusPaymentRequired, "insufficient_quota"},
	jimu.NotFound:     {http.StatusNotFound, "invalid_request_error"},
	jimu.Conflict:     {http.StatusConflict, "invalid_request_error"},
	jimu.RateLimited:  {http.StatusTooManyRequests, "rate_limit_error"},
	jimu.NoPrice:      {http.StatusBadRequest, "invalid_request_error"},
	jimu.Blocked:      {http.StatusBadRequest, "invalid_request_error"},
	jimu.Unavailable:  {http.StatusBadGateway, "server_error"},
	jimu.Overloaded:   {http.StatusServiceUnavailable, "server_error"},
}

// refused is an upstream's verdict on the request itself, passed on.
type refused struct {
	err    *jimu.Error
	status int
	code   string // the upstream's own
}

func (e *refused) Error() string { return e.err.Error() }
func (e *refused) Unwrap() error { return e.err }

// refusal passes an upstream's verdict on the request on.
func (j *job) refusal(f *jimu.Fault, code jimu.Code) error {
	text := scrub(f.Text, j.target)
	if text == "" {
		text = "the upstream refused the request"
	}
	r := &refused{err: &jimu.Error{Code: code, Text: text}, code: printable(f.Code)}
	if f.Status >= 400 && f.Status < 500 && f.Status != http.StatusUnauthorized && f.Status != http.StatusForbidden {
		r.status = f.Status
	}
	return r
}

func errDraining() error {
	return &jimu.Error{Code: jimu.Overloaded, Text: "the service is being restarted: try again", RetryAfter: 2 * time.Second}
}

// panicked turns a panic into an error, and logs where it came from.
func (j *job) panicked(p any) error {
	j.r.count.panics.Add(1)
	j.r.o.Log.Error("relay panicked", "request", j.rec.Request, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return jimu.Errorf(jimu.Internal, "something went wrong on our side; it has been logged")
}

// WriteError answers with an error in the shape of the chat dialect.
func (r *Relay) WriteError(w http.ResponseWriter, _ *http.Request, err error) {
	e := jimu.ErrorOf(err)
	status := answers[e.Code].status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if u, ok := errors.AsType[*refused](err); ok && u.status != 0 {
		status = u.status
	}
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	body := errorBody(err)
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}

// errorBody writes an error in the shape of the chat dialect.
func errorBody(err error) []byte {
	e := jimu.ErrorOf(err)
	code, kind := string(e.Code), answers[e.Code].kind
	if u, ok := errors.AsType[*refused](err); ok && u.code != "" {
		code = u.code
	}
	if kind == "" {
		kind = "server_error"
	}
	b := append([]byte(nil), `{"error":{"message":`...)
	b = appendString(b, e.Text)
	b = append(b, `,"type":`...)
	b = appendString(b, kind)
	b = append(b, `,"param":`...)
	if e.Param == "" {
		b = append(b, "null"...)
	} else {
		b = appendString(b, e.Param)
	}
	b = append(b, `,"code":`...)
	b = appendString(b, code)
	return append(b, "}}"...)
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}

// maxText bounds an upstream's words.
const maxText = 500

// scrub takes out of an upstream's words what the client must not see: the
// key, addresses, and anything that looks like a key.
func scrub(text string, t *jimu.Target) string {
	text = printable(text)
	if t != nil && t.Upstream != nil {
		for _, k := range append([]jimu.Secret{t.Upstream.Key}, t.Upstream.Keys...) {
			if v := k.Reveal(); len(v) >= 4 {
				text = strings.ReplaceAll(text, v, "***")
			}
		}
	}
	words := strings.Fields(text)
	for i, w := range words {
		switch {
		case strings.Contains(w, "://"):
			words[i] = "[address]"
		case looksLikeKey(w):
			words[i] = "***"
		}
	}
	text = strings.Join(words, " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// looksLikeKey reports whether a word holds a key's usual prefix, or is long
// and of letters and digits at once.
func looksLikeKey(w string) bool {
	for _, prefix := range [...]string{"sk-", "jm_", "org-", "AKIA", "AIza", "Bearer"} {
		if i := strings.Index(w, prefix); i >= 0 && len(w)-i > len(prefix)+4 {
			return true
		}
	}
	return len(w) >= 32 && strings.ContainsAny(w, "0123456789") && strings.ContainsAny(strings.ToLower(w), "ghijklmnopqrstuvwxyz") && !strings.ContainsAny(w, ".,(){}[]<>=/\"'")
}

// printable takes control characters out of a text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
