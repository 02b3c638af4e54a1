package relay_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
)

// A panic within one request settles it and harms nothing else, and no client
// takes what it got for the whole answer.
func TestPanic(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		b := newBed(t, 1e9)
		next := b.paced(text("1234"), `data: {"panic":1}`+"\n\n")
		srv := httptest.NewUnstartedServer(b.relay)
		if tls {
			srv.EnableHTTP2 = true
			srv.StartTLS()
		} else {
			srv.Listener = relay.Listen(srv.Listener)
			srv.Start()
		}
		defer srv.Close()
		req, _ := http.NewRequest(http.MethodPost, srv.URL+"/v1/chat/completions", strings.NewReader(stream))
		req.Header.Set("Authorization", "Bearer k")
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, len(text("1234")))); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the answer ends as if it were whole")
		}
		_ = res.Body.Close()
		if r := b.record(); r.State != jimu.StateFailed || r.Cost != input+10 {
			t.Errorf("record %+v", r)
		}
		b.relay.Drain(t.Context())
		if s := b.relay.Stats(); s.Panics != 1 || s.Running != 0 {
			t.Errorf("stats %+v", s)
		}
	}
}
