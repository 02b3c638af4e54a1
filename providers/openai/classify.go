package openai

import (
	_ "embed" // the data files
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/jimu-ai/jimu"
)

//go:embed faults.json
var faultsJSON []byte

// faultRow is a row of faults.json: what an error means. A row matches where
// all that it names is equal; the first match decides. There is no searching
// for words within messages: a message matches whole, or by how it begins.
type faultRow struct {
	Vendors []string      `json:"vendors,omitempty"` // none means every vendor
	Status  int           `json:"status,omitempty"`
	Code    string        `json:"code,omitempty"`
	Type    string        `json:"type,omitempty"`
	Message string        `json:"message,omitempty"`
	Prefix  string        `json:"prefix,omitempty"` // how the message begins
	Kind    string        `json:"kind"`
	For     jimu.Duration `json:"for,omitempty"` // how long to rest, where the answer does not say
	Source  string        `json:"source,omitempty"`

	kind jimu.FaultKind
}

func faultKind(name string) (jimu.FaultKind, bool) {
	switch name {
	case "other":
		return jimu.FaultOther, true
	case "retry":
		return jimu.FaultRetry, true
	case "cool":
		return jimu.FaultCool, true
	case "key":
		return jimu.FaultKey, true
	case "model":
		return jimu.FaultModel, true
	case "client":
		return jimu.FaultClient, true
	case "content":
		return jimu.FaultContent, true
	}
	return jimu.FaultNone, false
}

// faultsOf returns the rows that can match a vendor, its own first.
func faultsOf(vendor string) ([]faultRow, error) {
	var rows, own, all []faultRow
	d := json.NewDecoder(strings.NewReader(string(faultsJSON)))
	d.DisallowUnknownFields()
	if err := d.Decode(&rows); err != nil {
		return nil, fmt.Errorf("decoding the fault table: %w", err)
	}
	for i := range rows {
		r := &rows[i]
		var ok bool
		if r.kind, ok = faultKind(r.Kind); !ok {
			return nil, fmt.Errorf("decoding the fault table: row %d: kind %q", i, r.Kind)
		}
		if len(r.Vendors) == 0 {
			all = append(all, *r)
			continue
		}
		for _, v := range r.Vendors {
			if v == vendor {
				own = append(own, *r)
			}
		}
	}
	return append(own, all...), nil
}

// failure is what an error answer says of itself.
type failure struct{ code, typ, message string }

// Classify implements [jimu.Provider].
func (o *OpenAI) Classify(status int, header http.Header, body []byte) jimu.Fault {
	e := readFailure(body)
	if n, err := strconv.Atoi(e.code); err == nil && status < http.StatusBadRequest && n >= http.StatusBadRequest && n < 600 {
		status = n // an error under 200 that tells its status (OpenRouter)
	}
	f := jimu.Fault{Kind: byStatus(status), Status: status, Code: clean(e.code), Text: clean(e.message)}
	if f.Code == "" {
		f.Code = clean(e.typ)
	}
	for i := range o.faults {
		if r := &o.faults[i]; r.matches(status, &e) {
			f.Kind, f.For = r.kind, time.Duration(r.For)
			break
		}
	}
	now := time.Now
	if o.now != nil {
		now = o.now
	}
	switch f.Kind {
	case jimu.FaultCool, jimu.FaultRetry, jimu.FaultOther:
		if wait := rest(header, body, now()); wait > 0 {
			f.For = wait
		}
	}
	return f
}

func (r *faultRow) matches(status int, e *failure) bool {
	return (r.Status == 0 || r.Status == status) &&
		(r.Code == "" || r.Code == e.code) &&
		(r.Type == "" || r.Type == e.typ) &&
		(r.Message == "" || r.Message == e.message) &&
		(r.Prefix == "" || strings.HasPrefix(e.message, r.Prefix))
}

// byStatus is what a status means when no row matches.
func byStatus(status int) jimu.FaultKind {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired:
		return jimu.FaultKey
	case http.StatusNotFound:
		return jimu.FaultModel
	case http.StatusTooManyRequests, 529: // Anthropic's and Zhipu's "overloaded"
		return jimu.FaultCool
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return jimu.FaultRetry
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		return jimu.FaultOther
	}
	if status >= http.StatusBadRequest && status < http.StatusInternalServerError {
		return jimu.FaultClient
	}
	return jimu.FaultOther
}

// readFailure finds code, type and message wherever a vendor puts them.
func readFailure(body []byte) failure {
	v := gjson.ParseBytes(body)
	if v.IsArray() {
		v = v.Get("0") // Gemini wraps it
	}
	first := func(paths ...string) string {
		for _, p := range paths {
			if r := v.Get(p); r.Type == gjson.String || r.Type == gjson.Number {
				if s := r.String(); s != "" {
					return s
				}
			}
		}
		return ""
	}
	return failure{
		code:    first("error.code", "base_resp.status_code", "error_code", "code", "header.code"),
		typ:     first("error.type", "error.status", "type"),
		message: first("error.message", "base_resp.status_msg", "error_msg", "message", "msg", "detail", "header.message", "error"),
	}
}

// rest is how long the answer asks to wait; 0 where it does not say.
func rest(h http.Header, body []byte, now time.Time) time.Duration {
	if ms, err := strconv.ParseInt(h.Get("Retry-After-Ms"), 10, 64); err == nil && ms > 0 {
		return limit(ms, time.Millisecond)
	}
	if s := h.Get("Retry-After"); s != "" {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return limit(n, time.Second)
		}
		if t, err := http.ParseTime(s); err == nil {
			return limit(int64(t.Sub(now)), 1)
		}
	}
	wait := time.Duration(0)
	for _, of := range [...]string{"requests", "tokens"} {
		if h.Get("X-Ratelimit-Remaining-"+of) == "0" {
			wait = max(wait, span(h.Get("X-Ratelimit-Reset-"+of), now))
		}
	}
	if wait == 0 {
		wait = span(h.Get("X-Ratelimit-Reset"), now)
	}
	if wait == 0 {
		for _, path := range [...]string{"error.details.#.retryDelay", "0.error.details.#.retryDelay"} {
			for _, d := range gjson.GetBytes(body, path).Array() {
				wait = max(wait, span(d.Str, now))
			}
		}
	}
	return wait
}

// span reads a wait such as "6m0s" or "20", or a moment in Unix seconds or
// milliseconds.
func span(s string, now time.Time) time.Duration {
	if d, err := time.ParseDuration(s); err == nil {
		return limit(int64(d), 1)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	const year2001, year2001ms = 1e9, 1e12
	switch {
	case err != nil:
		return 0
	case n > year2001ms:
		return limit(int64(time.UnixMilli(n).Sub(now)), 1)
	case n > year2001:
		return limit(int64(time.Unix(n, 0).Sub(now)), 1)
	}
	return limit(n, time.Second)
}

// limit keeps a wait within a day: what asks for more is asked again then.
func limit(n int64, unit time.Duration) time.Duration {
	const most = 24 * time.Hour
	if n <= 0 {
		return 0
	}
	if n > int64(most/unit) {
		return most
	}
	return time.Duration(n) * unit
}
