package server_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/server"
)

func TestPages(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) {
		o.Pages = fstest.MapFS{
			"index.html": {Data: []byte("<html>")}, "index.html.br": {Data: []byte("BR")}, "index.html.gz": {Data: []byte("GZ")},
			"assets/app-1a2b.js": {Data: []byte("js")}, "assets/app-1a2b.js.br": {Data: []byte("jsbr")}, "favicon.svg": {Data: []byte("<svg>")},
			".gitkeep": {},
		}
	})
	const once = "public, max-age=31536000, immutable"
	for _, x := range []struct {
		path, accept         string
		status               int
		body, encoding, mime string
		cache                string
	}{
		{"/", "", 200, "<html>", "", "text/html; charset=utf-8", "no-cache"},
		{"/", "gzip, deflate, br, zstd", 200, "BR", "br", "text/html; charset=utf-8", "no-cache"},
		{"/", "gzip, br;q=0", 200, "GZ", "gzip", "text/html; charset=utf-8", "no-cache"},
		{"/", "br;q=0.000, gzip;q=0.5", 200, "GZ", "gzip", "text/html; charset=utf-8", "no-cache"},
		{"/login", "", 200, "<html>", "", "text/html; charset=utf-8", "no-cache"},
		{"/setup", "br", 200, "BR", "br", "text/html; charset=utf-8", "no-cache"},
		{"/c/01abc", "", 200, "<html>", "", "text/html; charset=utf-8", "no-cache"},
		{"/assets/app-1a2b.js", "", 200, "js", "", "text/javascript; charset=utf-8", once},
		{"/assets/app-1a2b.js", "br", 200, "jsbr", "br", "text/javascript; charset=utf-8", once},
		{"/assets/app-1a2b.js", "gzip", 200, "js", "", "text/javascript; charset=utf-8", once},
		{"/favicon.svg", "br", 200, "<svg>", "", "image/svg+xml", "no-cache"},
		{"/assets/app-1a2b.js.br", "", 404, "", "", "application/problem+json", "no-store"},
		{"/assets/gone.js", "", 404, "", "", "application/problem+json", "no-store"},
		{"/.gitkeep", "", 404, "", "", "application/problem+json", "no-store"},
		{"/assets/", "", 404, "", "", "application/problem+json", "no-store"},
		{"/c/1/2", "", 404, "", "", "application/problem+json", "no-store"},
	} {
		w := e.do(t, call{method: "GET", path: x.path, header: map[string]string{"Accept-Encoding": x.accept}})
		h := w.Header()
		if w.Code != x.status || (x.body != "" && w.Body.String() != x.body) || h.Get("Content-Encoding") != x.encoding || h.Get("Content-Type") != x.mime || h.Get("Cache-Control") != x.cache {
			t.Errorf("%s (%s): %d %q %q %q %q", x.path, x.accept, w.Code, w.Body, h.Get("Content-Encoding"), h.Get("Content-Type"), h.Get("Cache-Control"))
		}
		if x.status != 200 {
			continue
		}
		e.checkCaching(t, x.path, x.accept, h.Get("ETag"))
	}
	want(t, e.do(t, call{method: "POST", path: "/favicon.svg"}), 404)
	w := e.do(t, call{method: "GET", path: "/nothing", header: map[string]string{"Accept": "text/html"}})
	if want(t, w, 404); !strings.Contains(w.Body.String(), "no such page") {
		t.Error(w.Body)
	}
}

// checkCaching asks for a page again, and for its head.
func (e *env) checkCaching(t *testing.T, path, accept, etag string) {
	t.Helper()
	again := e.do(t, call{method: "GET", path: path, header: map[string]string{"Accept-Encoding": accept, "If-None-Match": `"x", W/` + etag}})
	if again.Code != 304 || again.Body.Len() != 0 || etag == "" {
		t.Errorf("%s: again %d, etag %q", path, again.Code, etag)
	}
	head := e.do(t, call{method: "HEAD", path: path, header: map[string]string{"Accept-Encoding": accept}})
	if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("ETag") != etag {
		t.Errorf("%s: HEAD %d", path, head.Code)
	}
}

func TestPagesNotBuilt(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) { o.Pages = fstest.MapFS{".gitkeep": {}} })
	w := e.do(t, call{method: "GET", path: "/"})
	if want(t, w, 503); !strings.Contains(w.Body.String(), "make build") {
		t.Error(w.Body)
	}
	want(t, e.do(t, call{method: "GET", path: "/api/site"}), 200)
}

func TestTurnEvents(t *testing.T) {
	t.Parallel()
	e := setup(t)
	u, session := e.user(t, jimu.RoleUser)
	e.chat.events = []server.Event{{ID: 2, Kind: "reasoning", Data: []byte(`{"text":"hm"}`)}, {ID: 8, Kind: "text", Data: []byte(`{"text":"积木"}`)}, {ID: 8, Kind: "done", Data: []byte(`{}`)}}
	get := func(query string, header map[string]string) *httptest.ResponseRecorder {
		t.Helper()
		return e.do(t, call{method: "GET", path: "/api/turns/" + u.ID + "/events" + query, session: session, header: header})
	}
	w := get("?after=5", nil)
	want(t, w, 200)
	if got := w.Header().Get("Content-Type"); got != "text/event-stream" || w.Header().Get("X-Accel-Buffering") != "no" {
		t.Error(w.Header())
	}
	const all = "id: 2\nevent: reasoning\ndata: {\"text\":\"hm\"}\n\nid: 8\nevent: text\ndata: {\"text\":\"积木\"}\n\nid: 8\nevent: done\ndata: {}\n\n"
	if w.Body.String() != all || e.chat.after != 5 || !w.Flushed {
		t.Errorf("after %d, flushed %v: %q", e.chat.after, w.Flushed, w.Body)
	}
	if get("?after=5", map[string]string{"Last-Event-ID": "7"}); e.chat.after != 7 {
		t.Errorf("after %d", e.chat.after)
	}
	for _, bad := range []string{"?after=x", "?after=-1", "?after=99999999999999999999"} {
		want(t, get(bad, nil), 400)
	}
}

func TestTurnEventsEnd(t *testing.T) {
	t.Parallel()
	e := setup(t)
	u, session := e.user(t, jimu.RoleUser)
	e.chat.events, e.chat.block = []server.Event{{ID: 1, Kind: "text", Data: []byte(`{}`)}}, true
	web := httptest.NewServer(e)
	t.Cleanup(web.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	open := func(ctx context.Context) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/api/turns/"+u.ID+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: "jimu", Value: session})
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, len("id: 1\nevent: text\n"))); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone, stays := open(ctx), open(t.Context())
	defer gone.Body.Close()  //nolint:errcheck // it has gone
	defer stays.Body.Close() //nolint:errcheck // read to its end
	cancel()
	e.Drain()
	rest, err := io.ReadAll(stays.Body)
	if err != nil || string(rest) != "data: {}\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
}
