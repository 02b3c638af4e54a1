package jimu

import (
	"errors"
	"fmt"
	"time"
)

// Code says what kind of failure an error is. It is stable: clients and
// scripts may compare it. Each transport alone turns a code into its status.
type Code string

// The codes.
const (
	Internal     Code = "internal"             // a fault of ours; the text goes to the log only
	Invalid      Code = "invalid_request"      // the request cannot be understood or is not allowed as such
	TooLarge     Code = "request_too_large"    // a limit on size or depth is exceeded
	Unauthorized Code = "unauthorized"         // no valid key or session
	Forbidden    Code = "forbidden"            // known, but not allowed
	NoCredit     Code = "insufficient_credit"  // the balance, or the key's limit, does not cover it
	NotFound     Code = "not_found"            // no such thing, or not visible to the caller
	Conflict     Code = "conflict"             // it exists already, or its state forbids the change
	RateLimited  Code = "rate_limited"         // a limit per time is exceeded; see Error.RetryAfter
	NoPrice      Code = "no_price"             // the model has no price, so it may not be sold
	Blocked      Code = "content_blocked"      // refused for its content
	Unavailable  Code = "upstream_unavailable" // no upstream answered
	Overloaded   Code = "overloaded"           // we are at a limit, draining or stopped for safety; try again
)

// Error is a failure that the caller may see. Any other error reaches the
// caller as [Internal], and its text goes to the log only.
type Error struct {
	Code       Code
	Text       string        // for people: what happened and what to do
	Param      string        // the field at fault, if one is
	RetryAfter time.Duration // how long to wait before trying again; 0 is unknown
	Err        error         // the cause; logged, never shown
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return fmt.Sprintf("%s: %v", e.Text, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error] of a code and a text for the caller.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// ErrorOf returns what the caller may see of an error: the [Error] in its
// chain, or an [Internal] one that hides the text.
func ErrorOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: Internal, Text: "something went wrong on our side; it has been logged", Err: err}
}
