package relay_test

import (
	"net/http"
	"sync"
	"testing"
)

// An upstream's connection serves one request after another: the end of a
// request's context does not end it.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	const good = `{"choices":[{"message":{"content":"Hello"}}],"usage":{"In":7,"Out":3}}`
	var seen sync.Map
	b := newBed(t, 1e12, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.RemoteAddr, true)
		answer(200, good)(w, r)
	})
	for range 50 {
		if r := b.post(plain); r.StatusCode != http.StatusOK || read(t, r) == "" {
			t.Fatal(r.StatusCode)
		}
		b.record()
	}
	n := 0
	seen.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("50 requests took %d connections", n)
	}
}
