package server

import (
	"strconv"

	"github.com/jimu-ai/jimu"
)

const (
	maxPage     = 100
	defaultPage = 50
	maxCursor   = 200 // bytes
	maxOnce     = 64  // bytes of an Idempotency-Key
)

func paging() []string { return []string{"cursor", "limit"} }

// page reads the parameters of a list.
func (q *request) page() (cursor string, limit int, err error) {
	v := q.r.URL.Query()
	limit = defaultPage
	if t := v.Get("limit"); t != "" {
		if limit, err = strconv.Atoi(t); err != nil || limit < 1 || limit > maxPage {
			return "", 0, &jimu.Error{Code: jimu.Invalid, Param: "limit", Text: "limit must be a number from 1 to 100"}
		}
	}
	cursor = v.Get("cursor")
	if len(cursor) > maxCursor || !visible(cursor) {
		return "", 0, errCursor()
	}
	return cursor, limit, nil
}

func errCursor() error {
	return &jimu.Error{Code: jimu.Invalid, Param: "cursor", Text: "the cursor is not one that this list gave out; leave it out to begin at the top"}
}

// pathID reads the {id} of the path. What cannot be an ID is not found.
func (q *request) pathID() (string, error) {
	id := q.r.PathValue("id")
	if id == "" || len(id) > 2*jimu.IDLen || !visible(id) {
		return "", jimu.Errorf(jimu.NotFound, "there is nothing with this ID")
	}
	return id, nil
}

// once reads the Idempotency-Key, "" if there is none.
func (q *request) once() (string, error) {
	v := q.r.Header.Get("Idempotency-Key")
	if len(v) > maxOnce || !visible(v) {
		return "", &jimu.Error{Code: jimu.Invalid, Param: "Idempotency-Key", Text: "the Idempotency-Key must be 1 to 64 visible ASCII characters"}
	}
	return v, nil
}

// visible reports whether s is printable ASCII without spaces.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
