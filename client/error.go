package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Codes of errors that programs act on. There are more; all are stable.
const (
	CodeUnauthorized = "unauthorized"
	CodeNoCredit     = "insufficient_credit"
	CodeNotFound     = "not_found"
	CodeRateLimited  = "rate_limited"
	CodeUnavailable  = "upstream_unavailable"
)

// ErrCut says that a stream ended before its answer was complete.
var ErrCut = errors.New("the stream ended before the answer was complete")

// Error is an answer that says no.
type Error struct {
	Status     int    // the HTTP status; 200 for an error in the middle of a stream
	Code       string // stable, for programs
	Message    string // for people
	Param      string // the field at fault, if one is
	RequestID  string // what the server's log calls the request
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = http.StatusText(e.Status)
	}
	s += " (" + strconv.Itoa(e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.RequestID != "" {
		s += ", request " + e.RequestID
	}
	return s + ")"
}

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 1 << 20

// wireError is the shape of the model API: {"error": {...}}.
type wireError struct {
	Message string          `json:"message"`
	Code    json.RawMessage `json:"code"` // a few upstreams send a number
	Type    string          `json:"type"`
	Param   string          `json:"param"`
}

// errorOf reads an answer that says no: in the shape of the model API, of the
// platform API (problem+json), or none at all.
func errorOf(res *http.Response, now time.Time) *Error {
	e := &Error{Status: res.StatusCode, RequestID: res.Header.Get("X-Request-Id"), RetryAfter: retryAfter(res.Header, now)}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	if err != nil {
		e.Message = fmt.Sprintf("reading the error: %v", err)
		return e
	}
	var body struct {
		Error  json.RawMessage `json:"error"`
		Code   string          `json:"code"`
		Detail string          `json:"detail"`
		Title  string          `json:"title"`
		Param  string          `json:"param"`
	}
	if json.Unmarshal(b, &body) != nil {
		return e // a page of some proxy: the status says all
	}
	e.Code, e.Param, e.Message = body.Code, body.Param, body.Detail
	if e.Message == "" {
		e.Message = body.Title
	}
	e.fill(body.Error)
	return e
}

// fill takes over the error object of the model API.
func (e *Error) fill(raw json.RawMessage) {
	var w wireError
	if len(raw) == 0 || json.Unmarshal(raw, &w) != nil {
		return
	}
	e.Message, e.Param, e.Code = w.Message, w.Param, strings.Trim(string(w.Code), `"`)
	if e.Code == "" || e.Code == "null" {
		e.Code = w.Type
	}
}

// retryAfter reads how long the server asks to wait: seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
