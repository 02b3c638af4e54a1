package server

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/jimu-ai/jimu"
)

// Problem is an error as the platform API answers it (RFC 9457).
type Problem struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Code      jimu.Code `json:"code"`
	Detail    string    `json:"detail"`
	Param     string    `json:"param,omitempty"`
	RequestID string    `json:"request_id"`
}

// statusOf is the HTTP status of a code, on the platform API.
func statusOf(c jimu.Code) int {
	switch c {
	case jimu.Invalid, jimu.NoPrice, jimu.Blocked:
		return http.StatusBadRequest
	case jimu.TooLarge:
		return http.StatusRequestEntityTooLarge
	case jimu.Unauthorized:
		return http.StatusUnauthorized
	case jimu.Forbidden:
		return http.StatusForbidden
	case jimu.NoCredit:
		return http.StatusPaymentRequired
	case jimu.NotFound:
		return http.StatusNotFound
	case jimu.Conflict:
		return http.StatusConflict
	case jimu.RateLimited:
		return http.StatusTooManyRequests
	case jimu.Unavailable:
		return http.StatusBadGateway
	case jimu.Overloaded:
		return http.StatusServiceUnavailable
	case jimu.Internal:
	}
	return http.StatusInternalServerError
}

// problem answers an error. It is the only place that logs one.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	e, id := jimu.ErrorOf(err), factsOf(r).id
	switch {
	case e.Code != jimu.Internal:
	case r.Context().Err() != nil: // the client has gone, or its time is up, and that is why it failed
		e = jimu.Errorf(jimu.Overloaded, "this took too long; try again")
	default:
		s.o.Log.ErrorContext(r.Context(), "request failed", "request_id", id, "pattern", r.Pattern, "error", err)
	}
	writeProblem(w, id, e)
}

func writeProblem(w http.ResponseWriter, id string, e *jimu.Error) {
	status := statusOf(e.Code)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	writeJSON(w, "application/problem+json", status, Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Code: e.Code, Detail: e.Text, Param: e.Param, RequestID: id,
	})
}

func writeJSON(w http.ResponseWriter, mime string, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", mime)
	h.Set("Cache-Control", "no-store")
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always marshal; the middleware answers and logs
	}
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that has gone is no error of ours
}
