package mock

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// run is the answering of one request.
type run struct {
	m *Mock
	w http.ResponseWriter
	r *http.Request
	d dialect
	a *ask
}

// all answers to the end.
func (x *run) all() {
	if !x.start() {
		return
	}
	if x.upto(len(x.a.pieces)) {
		x.finish(true)
	}
}

// start waits for the delay; unless streaming, it also answers. It reports
// whether there are pieces to send.
func (x *run) start() bool {
	if !x.wait(x.m.o.Delay) {
		return false
	}
	if x.a.stream {
		x.headers()
		return true
	}
	x.a.out = x.d.answer(x.a.out[:0], x.a)
	send(x.w, http.StatusOK, "application/json", x.a.out)
	x.m.answered.Add(1)
	return false
}

func (x *run) headers() {
	h := x.w.Header()
	h["Content-Type"] = []string{"text/event-stream; charset=utf-8"}
	if x.a.array {
		h["Content-Type"] = []string{"application/json; charset=UTF-8"}
	}
	h["Cache-Control"] = []string{"no-cache"}
	x.w.WriteHeader(http.StatusOK)
}

// upto sends the first n pieces at their pace. It reports false when the
// client has gone.
func (x *run) upto(n int) bool {
	now := x.m.o.Now()
	due := now
	for i := range n {
		x.a.out = x.a.out[:0]
		if i == 0 {
			x.a.out = x.d.begin(x.a.out, x.a)
		} else if gap := x.m.pause(); gap > 0 {
			due = due.Add(gap)
			if !x.wait(due.Sub(now)) {
				return false
			}
			now = x.m.o.Now()
		}
		x.a.out = x.d.piece(x.a.out, x.a, i, now)
		if !x.put(x.a.out) {
			return false
		}
	}
	return true
}

func (x *run) finish(done bool) {
	x.a.out = x.d.end(x.a.out[:0], x.a, done)
	if x.put(x.a.out) {
		x.m.answered.Add(1)
	}
}

// put writes and flushes. It reports false when the client has gone.
func (x *run) put(b []byte) bool {
	if _, err := x.w.Write(b); err != nil {
		return false
	}
	return http.NewResponseController(x.w).Flush() == nil
}

// wait returns false when the client has gone before the time is over.
func (x *run) wait(d time.Duration) bool {
	if d <= 0 {
		return x.r.Context().Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// fixed gives the mock's own answer.
func (m *Mock) fixed(a *ask) {
	switch limit := a.max * bytesPerToken; {
	case a.tool != "":
		a.text, a.pieces, a.whole = `{"location":"Paris"}`, []string{`{"location":`, `"Paris"}`}, nil
	case a.max > 0 && limit < int64(len(m.text)):
		a.text, a.pieces, a.whole, a.cut = m.text[:limit], nil, nil, true
	default:
		a.text, a.pieces, a.whole, a.quoted = m.text, m.pieces, m.whole, m.quoted
	}
	for _, s := range a.stops {
		if before, _, ok := strings.Cut(a.text, s); ok && s != "" {
			a.text, a.pieces, a.whole, a.cut = before, nil, nil, false
		}
	}
	m.complete(a)
}

// complete derives the rest of the answer from its text.
func (m *Mock) complete(a *ask) {
	if a.pieces == nil {
		a.pieces = split(a.text, m.o.Chunks)
	}
	if a.whole == nil {
		a.whole, a.quoted = quote(a.text), nil
		for _, p := range a.pieces {
			a.quoted = append(a.quoted, quote(p))
		}
	}
	a.usage.reasoning = m.count(a.reasoning)
	a.usage.out = int64(a.n)*m.count(a.text) + a.usage.reasoning
}

// split cuts a text into at most n pieces of about the same length, between
// characters.
func split(text string, n int) []string {
	if text == "" {
		return []string{""}
	}
	var out []string
	start := 0
	for i := range text {
		if i > start && i >= len(text)*(len(out)+1)/n {
			out = append(out, text[start:i])
			start = i
		}
	}
	return append(out, text[start:])
}

// quote writes a text as a JSON string.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`) // a string can always be encoded
	}
	return b
}
