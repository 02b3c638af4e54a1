package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/server"
)

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for _, path := range []string{"/", "/api/site", "/api/nothing", "/nothing", "/healthz", "/v1", "/v1%2Fmodels"} {
		h := e.do(t, call{method: "GET", path: path}).Header()
		for name, value := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; " +
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
		{"GET", "/v1/models%2Fx", "", "model error not_found", 418},
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

// A request whose time is up, or whose client has gone, is no fault of ours.
func TestCancelled(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, session := e.user(t, jimu.RoleUser)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/me", nil)
	r.AddCookie(&http.Cookie{Name: "jimu", Value: session})
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if want(t, w, 503); problemOf(t, w).Code != jimu.Overloaded || strings.Contains(e.logs.String(), "request failed") {
		t.Errorf("%s\n%s", w.Body, e.logs)
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
	want(t, e.do(t, call{method: "GET", path: "/readyz"}), 200)
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
	plain := setup(t, func(o *server.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	https := setup(t, func(o *server.Options) { o.URL = "https://ai.example.com" })
	for _, e := range []*env{plain, https} {
		if err := e.addReal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
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
		t.Run(x.name, func(t *testing.T) { x.e.checkCookie(t, x.change, x.secure) })
	}
}

// checkCookie signs in, and sees which cookie comes and which is taken.
func (e *env) checkCookie(t *testing.T, change func(r *http.Request), secure bool) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/session", strings.NewReader(`{"name":"ann","password":"`+good+`"}`))
	r.Header.Set("Content-Type", "application/json")
	change(r)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	want(t, w, 201)
	c := w.Result().Cookies()[0]
	name, other := "jimu", "__Host-jimu"
	if secure {
		name, other = other, name
	}
	if c.Name != name || c.Secure != secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 {
		t.Errorf("%v", c)
	}
	// The other name is not taken: a plain cookie could come from anyone on the way.
	for cookie, status := range map[string]int{name: 200, other: 401} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/me", nil)
		change(r)
		r.AddCookie(&http.Cookie{Name: cookie, Value: c.Value})
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		want(t, w, status)
		if hsts := w.Header().Get("Strict-Transport-Security"); (hsts != "") != secure {
			t.Errorf("HSTS %q", hsts)
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

// The stream of a turn ends when the client goes, and when the server drains.
// Secrets are planted and everything is called: each shows in the one answer
// that is for it, and never in a log.
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
