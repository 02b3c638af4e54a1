package server_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/server"
)

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for _, path := range []string{"/", "/api/site", "/api/nothing", "/nothing", "/healthz"} {
		h := e.do(t, call{method: "GET", path: path}).Header()
		for name, value := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
				"frame-ancestors 'none'; base-uri 'none'; object-src 'none'; form-action 'self'",
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Strict-Transport-Security": "",
		} {
			if got := h.Get(name); got != value {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if len(h.Get("X-Request-Id")) != jimu.IDLen {
			t.Errorf("%s: request ID %q", path, h.Get("X-Request-Id"))
		}
	}
	w := e.do(t, call{method: "GET", path: "/api/site", header: map[string]string{"X-Request-Id": "mine"}})
	if w.Header().Get("X-Request-Id") == "mine" {
		t.Error("a client chose the request ID")
	}
}

func TestModelMount(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for _, x := range []struct {
		method, path, peer, body string
		status                   int
	}{
		{"POST", "/v1/chat/completions", "", "model /v1/chat/completions 203.0.113.9:4711", 200},
		{"POST", "/v1/chat/completions", "10.0.0.1:1", "model /v1/chat/completions 198.51.100.7:0", 200},
		{"GET", "/v1/chat/completions", "", "model error not_found", 418},
		{"GET", "/v1/nothing", "", "model error not_found", 418},
		{"POST", "/v1/chat/completions?panic=1", "", "model error internal", 418},
	} {
		w := e.do(t, call{method: x.method, path: x.path, peer: x.peer, header: map[string]string{
			"X-Forwarded-For": "198.51.100.7", "Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site",
		}})
		if want(t, w, x.status); w.Body.String() != x.body {
			t.Errorf("%s %s: %q", x.method, x.path, w.Body)
		}
		if w.Code == 418 && len(w.Header().Get("X-Request-Id")) != jimu.IDLen {
			t.Error("an error has no request ID")
		}
	}
	if !strings.Contains(e.logs.String(), "panic while answering") {
		t.Error("the panic is not in the log")
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) { o.Demo = func() bool { panic("oops, secret") } })
	w := e.do(t, call{method: "GET", path: "/api/site"})
	want(t, w, 500)
	if p := problemOf(t, w); p.Code != jimu.Internal || strings.Contains(w.Body.String(), "oops") {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(e.logs.String(), "GET /api/site") {
		t.Errorf("the log does not say where: %s", e.logs)
	}
}

// Other sites' pages get nothing done.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) { o.URL = "https://ai.example.com" })
	for _, x := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{map[string]string{"Origin": "https://evil.example"}, 403},
		{map[string]string{"Origin": "null"}, 403},
		{map[string]string{"Sec-Fetch-Site": "same-origin"}, 401},
		{map[string]string{"Origin": "https://ai.example.com"}, 401},
		{nil, 401}, // a script
	} {
		w := e.do(t, call{method: "POST", path: "/api/session", body: `{"name":"nobody","password":"x"}`, header: x.header, peer: "192.0.2.1:1"})
		if w.Code != x.status && w.Code != 429 {
			t.Errorf("%v: %d, want %d", x.header, w.Code, x.status)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) { o.Hosts = []string{"ai.example.com"} })
	for host, status := range map[string]int{"ai.example.com": 200, "ai.example.com:8080": 200, "evil.example": 403, "": 403} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/site", nil)
		r.Host = host
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		want(t, w, status)
	}
}

// The address of X-Forwarded-For counts only as far as trusted proxies wrote it.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, x := range []struct {
		peer string
		xff  []string
		want string
	}{
		{"203.0.113.9:1", nil, "203.0.113.9"},
		{"203.0.113.9:1", []string{"1.1.1.1"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.1:1", []string{"6.6.6.6, 1.1.1.1"}, "1.1.1.1"},
		{"10.0.0.1:1", []string{"6.6.6.6, 1.1.1.1, 10.0.0.2"}, "1.1.1.1"},
		{"10.0.0.1:1", []string{"6.6.6.6", "1.1.1.1", "10.0.0.2"}, "1.1.1.1"},
		{"10.0.0.1:1", []string{"10.0.0.3"}, "10.0.0.3"},
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"6.6.6.6, nonsense"}, "10.0.0.1"},
		{"10.0.0.1:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"[fd00::1]:1", []string{"[2001:db8::1]:99"}, "2001:db8::1"},
		{"10.0.0.1:1", []string{"1.1.1.1:5555"}, "1.1.1.1"},
		{"[::ffff:10.0.0.1]:1", []string{"::ffff:1.1.1.1"}, "1.1.1.1"},
	} {
		got := server.ClientAddress(proxies, x.peer, x.xff)
		if got.String() != x.want {
			t.Errorf("%s %q: %s, want %s", x.peer, x.xff, got, x.want)
		}
	}
}

func FuzzClientAddress(f *testing.F) {
	f.Add("1.1.1.1, 10.0.0.1")
	f.Add(",,,[::1]:")
	f.Fuzz(func(t *testing.T, xff string) {
		proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		if got := server.ClientAddress(proxies, "203.0.113.9:1", []string{xff}); got.String() != "203.0.113.9" {
			t.Errorf("%q: a stranger was believed: %s", xff, got)
		}
		if got := server.ClientAddress(proxies, "10.0.0.1:1", []string{xff}); !got.IsValid() {
			t.Errorf("%q: no address", xff)
		}
	})
}

func TestCookie(t *testing.T) {
	t.Parallel()
	login := func(e *env, change func(r *http.Request)) *http.Cookie {
		t.Helper()
		if _, err := e.ids.UserByName(t.Context(), "Ann"); err != nil {
			if err := e.addReal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/session", strings.NewReader(`{"name":"ann","password":"`+good+`"}`))
		r.Header.Set("Content-Type", "application/json")
		change(r)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		want(t, w, 201)
		if c := w.Result().Cookies(); len(c) == 1 {
			return c[0]
		}
		t.Fatalf("cookies: %v", w.Result().Cookies())
		return nil
	}
	plain := setup(t, func(o *server.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	https := setup(t, func(o *server.Options) { o.URL = "https://ai.example.com" })
	for _, x := range []struct {
		name   string
		e      *env
		change func(r *http.Request)
		secure bool
	}{
		{"plain", plain, func(*http.Request) {}, false},
		{"TLS", plain, func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, true},
		{"trusted proxy", plain, func(r *http.Request) { r.RemoteAddr = "10.0.0.1:1"; r.Header.Set("X-Forwarded-Proto", "https") }, true},
		{"anyone who says so", plain, func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }, false},
		{"https site", https, func(*http.Request) {}, true},
	} {
		c := login(x.e, x.change)
		name := "jimu"
		if x.secure {
			name = "__Host-jimu"
		}
		if c.Name != name || c.Secure != x.secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
			t.Errorf("%s: %v", x.name, c)
		}
		// The other name is not taken: a plain cookie could come from anyone on the way.
		other := "__Host-jimu"
		if x.secure {
			other = "jimu"
		}
		for cookie, status := range map[string]int{name: 200, other: 401} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/me", nil)
			x.change(r)
			r.AddCookie(&http.Cookie{Name: cookie, Value: c.Value})
			w := httptest.NewRecorder()
			x.e.ServeHTTP(w, r)
			want(t, w, status)
			if hsts := w.Header().Get("Strict-Transport-Security"); (hsts != "") != x.secure {
				t.Errorf("%s: HSTS %q", x.name, hsts)
			}
		}
	}
}

// addReal makes a user who can sign in.
func (e *env) addReal(ctx context.Context) error {
	_, err := e.ids.CreateUser(ctx, &jimu.Caller{Role: jimu.RoleOwner}, "Ann", jimu.RoleUser, good)
	return err
}

// A login ends the session that the browser had, and a logout its own.
func TestLoginRotates(t *testing.T) {
	t.Parallel()
	e := setup(t)
	if err := e.addReal(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, old := e.user(t, jimu.RoleUser)
	w := e.do(t, call{method: "POST", path: "/api/session", body: `{"name":"Ann","password":"` + good + `"}`, session: old})
	want(t, w, 201)
	want(t, e.do(t, call{method: "GET", path: "/api/me", session: old}), 401)
	now := w.Result().Cookies()[0].Value
	want(t, e.do(t, call{method: "GET", path: "/api/me", session: now}), 200)
	w = e.do(t, call{method: "DELETE", path: "/api/session", session: now})
	if want(t, w, 204); w.Result().Cookies()[0].MaxAge >= 0 {
		t.Error("the cookie stays")
	}
	want(t, e.do(t, call{method: "GET", path: "/api/me", session: now}), 401)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, session := e.user(t, jimu.RoleUser)
	json := map[string]string{"Content-Type": "application/json"}
	for _, x := range []struct {
		body   string
		header map[string]string
		status int
		param  string
	}{
		{`{"name":"n"}`, json, 201, ""},
		{`{"name":"n","limit":"1.5","limits":{"rpm":5},"models":["a"],"expires":"2099-01-01T00:00:00Z"}`, json, 201, ""},
		{`{"name":"n"}`, map[string]string{"Content-Type": "application/json; charset=utf-8"}, 201, ""},
		{`{"name":"n"}`, map[string]string{"Content-Type": "text/plain"}, 400, ""},
		{`{"name":"n"}`, map[string]string{"Content-Type": "-"}, 400, ""},
		{`{"name":"n","user":"u"}`, json, 400, "user"},
		{`{"name":"n","limits":{"rps":5}}`, json, 400, "rps"},
		{`{"name":5}`, json, 400, "name"},
		{`{"name":"n","limit":"1e5"}`, json, 400, ""},
		{`{"name":"n"}{"name":"m"}`, json, 400, ""},
		{`{"name":"n"} x`, json, 400, ""},
		{`{"name":"n","name":"m"}`, json, 400, ""},
		{`{"name":"n","NAME":"m"}`, json, 400, ""},
		{`{"name":"n"`, json, 400, ""},
		{`[]`, json, 400, ""},
		{`null`, json, 400, "name"},
		{" ", json, 400, ""},
		{"{\"name\":\"\xff\"}", json, 400, ""},
		{`{"models":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, json, 413, ""},
		{`{"name":"` + strings.Repeat("x", 1<<20) + `"}`, json, 413, ""},
	} {
		w := e.do(t, call{method: "POST", path: "/api/keys", body: x.body, session: session, header: x.header})
		if w.Code != x.status {
			t.Errorf("%.60s: %d, want %d: %s", x.body, w.Code, x.status, w.Body)
			continue
		}
		if x.status >= 400 {
			if p := problemOf(t, w); p.Param != x.param {
				t.Errorf("%.60s: param %q: %s", x.body, p.Param, w.Body)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"n","limits":{"rpm":1},"models":["a",{"b":[]}]}`))
	f.Add([]byte(`{"a":1,"A":2}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		if err := server.Decode(b, &v); err == nil && !json.Valid(b) {
			t.Errorf("%q was taken", b)
		}
	})
}

func TestPaging(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, session := e.user(t, jimu.RoleUser)
	for query, status := range map[string]int{
		"": 200, "?limit=1": 200, "?limit=100": 200, "?limit=0": 400, "?limit=101": 400, "?limit=x": 400, "?limit=-1": 400,
		"?cursor=2": 200, "?cursor=x": 400, "?cursor=0": 400, "?cursor=-1": 400, "?cursor=" + strings.Repeat("1", 300): 400, "?cursor=%00": 400,
	} {
		w := e.do(t, call{method: "GET", path: "/api/statement" + query, session: session})
		if w.Code != status {
			t.Errorf("%s: %d, want %d: %s", query, w.Code, status, w.Body)
		}
	}
	var seqs []int64
	var amounts []string
	for path := "/api/statement?limit=2"; path != ""; {
		var l server.List[server.StatementRow]
		w := e.do(t, call{method: "GET", path: path, session: session})
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		for _, r := range l.Data {
			seqs, amounts = append(seqs, r.Seq), append(amounts, r.Amount.String())
			if r.Usage.UpstreamCost != 0 {
				t.Error("the upstream's price is shown")
			}
		}
		path = ""
		if l.Next != "" {
			path = "/api/statement?limit=2&cursor=" + l.Next
		}
	}
	if !slices.Equal(seqs, []int64{3, 2, 1}) || !slices.Equal(amounts, []string{"-0.000000005", "-0.000000005", "0.000000005"}) {
		t.Errorf("%v %v", seqs, amounts)
	}
}

func TestUsageHidesTheUpstream(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, session := e.user(t, jimu.RoleUser)
	w := e.do(t, call{method: "GET", path: "/api/usage", session: session})
	want(t, w, 200)
	for _, hidden := range []string{"hidden-upstream", "upstream_cost", "attempts"} {
		if strings.Contains(w.Body.String(), hidden) {
			t.Errorf("%s is in %s", hidden, w.Body)
		}
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	e := setup(t)
	u, _ := e.user(t, jimu.RoleUser)
	_, finance := e.user(t, jimu.RoleFinance)
	_, another := e.user(t, jimu.RoleFinance)
	grant := func(session, user, body, once string) *httptest.ResponseRecorder {
		t.Helper()
		c := call{method: "POST", path: "/api/users/" + user + "/grants", body: body, session: session}
		if once != "" {
			c.header = map[string]string{"Idempotency-Key": once}
		}
		return e.do(t, c)
	}
	five := `{"amount":"5","reason":"welcome"}`
	for n, x := range []struct {
		session, user, body, once string
		status                    int
		answer                    string
	}{
		{finance, u.ID, five, "", 200, `{"balance":"5"}`},
		{finance, u.ID, five, "", 200, `{"balance":"10"}`},
		{finance, u.ID, five, "one", 200, `{"balance":"15"}`},
		{finance, u.ID, five, "one", 200, `{"balance":"15"}`},
		{finance, u.ID, `{"amount":"6","reason":"welcome"}`, "one", 409, ""},
		{another, u.ID, five, "one", 200, `{"balance":"20"}`},
		{finance, u.ID, five, strings.Repeat("k", 65), 400, ""},
		{finance, u.ID, five, "a b", 400, ""},
		{finance, u.ID, `{"amount":"0","reason":"r"}`, "", 400, ""},
		{finance, u.ID, `{"amount":"-1","reason":"r"}`, "", 400, ""},
		{finance, u.ID, `{"amount":"1","reason":"  "}`, "", 400, ""},
		{finance, u.ID, `{"amount":"99999999999","reason":"r"}`, "", 400, ""},
		{finance, "nobody", five, "", 404, ""},
	} {
		w := grant(x.session, x.user, x.body, x.once)
		if w.Code != x.status || (x.answer != "" && w.Body.String() != x.answer) {
			t.Errorf("%d: %d %s, want %d %s", n, w.Code, w.Body, x.status, x.answer)
		}
	}
}

func TestKeyOnceOverHTTP(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, session := e.user(t, jimu.RoleUser)
	c := call{method: "POST", path: "/api/keys", body: `{"name":"n"}`, session: session, header: map[string]string{"Idempotency-Key": "r1"}}
	want(t, e.do(t, c), 201)
	w := e.do(t, c)
	if want(t, w, 409); problemOf(t, w).Code != jimu.Conflict {
		t.Error(w.Body)
	}
	w = e.do(t, call{method: "GET", path: "/api/keys", session: session})
	if n := strings.Count(w.Body.String(), `"tail"`); n != 1 {
		t.Errorf("%d keys", n)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	e := setup(t)
	want(t, e.do(t, call{method: "GET", path: "/readyz"}), 200)
	e.ready = errors.New("the database is away at 10.0.0.5")
	w := e.do(t, call{method: "GET", path: "/readyz"})
	if want(t, w, 503); strings.Contains(w.Body.String(), "10.0.0.5") || !strings.Contains(e.logs.String(), "10.0.0.5") {
		t.Errorf("answer %q, log %q", w.Body, e.logs)
	}
	e.ready = nil
	e.Drain()
	e.Drain()
	want(t, e.do(t, call{method: "GET", path: "/readyz"}), 503)
	want(t, e.do(t, call{method: "GET", path: "/healthz"}), 200)
	want(t, e.do(t, call{method: "GET", path: "/metrics"}), 404)
	want(t, e.do(t, call{method: "GET", path: "/debug/pprof/"}), 404)
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) {
		o.Metrics = []func(io.Writer){func(w io.Writer) { _, _ = io.WriteString(w, "jimu_custom 1\n") }}
	})
	want(t, e.do(t, call{method: "GET", path: "/api/site"}), 200)
	want(t, e.do(t, call{method: "GET", path: "/api/me"}), 401)
	get := func(path string) string {
		w := httptest.NewRecorder()
		e.Admin().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		want(t, w, 200)
		return w.Body.String()
	}
	metrics := get("/metrics")
	for _, line := range []string{"jimu_http_answers_total{class=\"2xx\"} 1\n", "jimu_http_answers_total{class=\"4xx\"} 1\n", "jimu_info{version=\"1.2.3\"} 1\n", "jimu_custom 1\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %q in\n%s", line, metrics)
		}
	}
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, "jimu_") && !strings.HasPrefix(line, "# ") {
			t.Errorf("not ours: %q", line)
		}
	}
	if !strings.Contains(get("/debug/pprof/"), "goroutine") {
		t.Error("no profiles")
	}
}

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
		etag := h.Get("ETag")
		again := e.do(t, call{method: "GET", path: x.path, header: map[string]string{"Accept-Encoding": x.accept, "If-None-Match": `"x", W/` + etag}})
		if again.Code != 304 || again.Body.Len() != 0 || etag == "" {
			t.Errorf("%s: again %d, etag %q", x.path, again.Code, etag)
		}
		head := e.do(t, call{method: "HEAD", path: x.path, header: map[string]string{"Accept-Encoding": x.accept}})
		if head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("ETag") != etag {
			t.Errorf("%s: HEAD %d", x.path, head.Code)
		}
	}
	want(t, e.do(t, call{method: "POST", path: "/favicon.svg"}), 404)
	w := e.do(t, call{method: "GET", path: "/nothing", header: map[string]string{"Accept": "text/html"}})
	if want(t, w, 404); !strings.Contains(w.Body.String(), "no such page") {
		t.Error(w.Body)
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

// The stream of a turn ends when the client goes, and when the server drains.
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
		r, err := http.NewRequestWithContext(ctx, "GET", web.URL+"/api/turns/"+u.ID+"/events", nil)
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
	defer gone.Body.Close()
	defer stays.Body.Close()
	cancel()
	e.Drain()
	rest, err := io.ReadAll(stays.Body)
	if err != nil || string(rest) != "data: {}\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestSetupOverHTTP(t *testing.T) {
	t.Parallel()
	e := setup(t)
	secret, err := e.ids.NewSetup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	site := func() server.Site {
		var s server.Site
		if err := json.Unmarshal(e.do(t, call{method: "GET", path: "/api/site"}).Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := site(); !s.SetupNeeded || !s.Demo || s.Name != "Jimu" || s.Currency != "CNY" || s.Version != "1.2.3" {
		t.Errorf("%+v", s)
	}
	post := func(body string) *httptest.ResponseRecorder {
		return e.do(t, call{method: "POST", path: "/api/setup", body: body})
	}
	rest := `,"name":"Ann","password":"` + good + `","upstream":{"base_url":"https://api.example.com/v1","key":"sk-upstream","models":["m"]}}`
	// Before anything else of the body counts, the secret does.
	want(t, post(`{"secret":"wrong","nonsense":1}`), 403)
	want(t, post(`{"secret":"wrong"`+rest), 403)
	want(t, post(`{"name":"Ann"}`), 403)
	want(t, post(`{"secret":"`+secret+`","nonsense":1}`), 400)
	want(t, post(`{"secret":"`+secret+`","name":"Ann","password":"`+good+`","upstream":{"base_url":"file:///etc/passwd"}}`), 400)
	if s := site(); !s.SetupNeeded {
		t.Error("a refused setup made an owner")
	}
	w := post(`{"secret":"` + secret + `"` + rest)
	if want(t, w, 201); w.Body.String() != `{"name":"Ann","role":"owner"}` {
		t.Error(w.Body)
	}
	want(t, e.do(t, call{method: "GET", path: "/api/users", session: w.Result().Cookies()[0].Value}), 200)
	if len(e.added) != 1 || e.added[0].Key.Reveal() != "sk-upstream" {
		t.Errorf("upstreams: %v", e.added)
	}
	want(t, post(`{"secret":"`+secret+`"`+rest), 409)
	if s := site(); s.SetupNeeded {
		t.Error("setup is still needed")
	}
}

func TestSetupKeepsOwnerWhenUpstreamFails(t *testing.T) {
	t.Parallel()
	e := setup(t, func(o *server.Options) {
		o.AddUpstream = func(context.Context, server.SetupUpstream) error {
			return jimu.Errorf(jimu.Unavailable, "it does not answer")
		}
	})
	secret, err := e.ids.NewSetup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := e.do(t, call{method: "POST", path: "/api/setup", body: `{"secret":"` + secret + `","name":"Ann","password":"` + good + `","upstream":{"base_url":"http://127.0.0.1:1"}}`})
	if want(t, w, 201); w.Body.String() != `{"name":"Ann","role":"owner","upstream_error":"it does not answer"}` {
		t.Error(w.Body)
	}
}

// Secrets are planted and everything is called: each shows in the one answer
// that is for it, and never in a log.
func TestCanary(t *testing.T) {
	t.Parallel()
	e := setup(t)
	secret, err := e.ids.NewSetup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const password, upstreamKey = "canary-PASSWORD-canary-1", "canary-UPSTREAM-canary-2"
	var answers []string
	do := func(c call) *httptest.ResponseRecorder {
		w := e.do(t, c)
		head := w.Header().Clone()
		head.Del("Set-Cookie")
		b, _ := json.Marshal(head)
		answers = append(answers, c.method+" "+c.path+": "+w.Body.String()+string(b))
		return w
	}
	w := do(call{method: "POST", path: "/api/setup", body: `{"secret":"` + secret + `","name":"Ann","password":"` + password + `","upstream":{"base_url":"https://a.example","key":"` + upstreamKey + `"}}`})
	want(t, w, 201)
	session := w.Result().Cookies()[0].Value
	w = e.do(t, call{method: "POST", path: "/api/keys", body: `{"name":"k"}`, session: session}) // the one that shows it
	var made struct{ ID, Key string }
	if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || !strings.HasPrefix(made.Key, "jm_") {
		t.Fatalf("%s, %v", w.Body, err)
	}
	for pattern, x := range table() {
		method, _, ok := strings.Cut(pattern, " ")
		if !ok {
			method = x.method
		}
		if pattern == "DELETE /api/session" || pattern == "POST /api/keys" {
			continue
		}
		path := strings.NewReplacer("{key}", made.ID, "{me}", "x", "{low}", "x").Replace(x.path) + "?key=" + made.Key + "&secret=" + secret
		for _, c := range []call{{session: session}, {key: made.Key}, {session: session, peer: "127.0.0.1:1"}} {
			c.method, c.path, c.body = method, path, x.body
			do(c)
		}
	}
	do(call{method: "POST", path: "/api/session", body: `{"name":"Ann","password":"` + password + `!"}`})
	do(call{method: "POST", path: "/api/session", body: `{"name":"Ann","password":"` + password + `","` + password + `":1}x`})
	do(call{method: "PUT", path: "/api/me/password", body: `{"old":"` + password + `","new":"short"}`, session: session})
	e.ready, e.ledger.err = errors.New("away"), errors.New("away")
	do(call{method: "GET", path: "/readyz?key=" + made.Key})
	do(call{method: "GET", path: "/api/me?key=" + made.Key, session: session})
	do(call{method: "GET", path: "/auth/verify?key=" + made.Key, session: session, peer: "127.0.0.1:1", header: map[string]string{"X-Original-URI": "/x?key=" + made.Key}})
	log := e.logs.String()
	if n := strings.Count(log, "away"); n != 3 {
		t.Errorf("%d of 3 failures are in the log:\n%s", n, log)
	}
	for what, s := range map[string]string{"setup secret": secret, "password": password, "session": session, "key": made.Key, "upstream key": upstreamKey} {
		if strings.Contains(log, s) {
			t.Errorf("%s is in the log:\n%s", what, log)
		}
		for _, a := range answers {
			if _, after, _ := strings.Cut(a, ": "); strings.Contains(after, s) {
				t.Errorf("%s is in an answer: %s", what, a)
			}
		}
	}
}

func TestHTTPServerLimits(t *testing.T) {
	t.Parallel()
	s := server.HTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout != 10*time.Second || s.IdleTimeout != 120*time.Second || s.MaxHeaderBytes != 32<<10 {
		t.Errorf("%+v", s)
	}
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"ai.example.com", "ftp://x", "https://", "http://%zz"} {
		if _, err := server.New(server.Options{URL: u}); jimu.ErrorOf(err).Code != jimu.Invalid {
			t.Errorf("%q: %v", u, err)
		}
	}
}
