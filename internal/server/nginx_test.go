package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/routing"
	"github.com/jimu-ai/jimu/internal/server"
	"github.com/jimu-ai/jimu/internal/store"
)

// liveRouter is the routing snapshot, brought up to date as the app does it.
func liveRouter(t *testing.T, s *store.Store) *routing.Router {
	t.Helper()
	r := routing.New(routing.Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	people := store.NewIdentity(s)
	set := func(ctx context.Context) {
		keys, err := people.KeyCallers(ctx)
		if err == nil {
			err = r.Set(routing.Inputs{Keys: keys, Price: func(string) *jimu.Price { return nil }})
		}
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
	set(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		var seen int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if rev, err := s.Main.Revision(ctx, "routing"); err == nil && rev != seen {
				seen = rev
				set(ctx)
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

// service is another service, which trusts the proxy before it.
func service(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\n", r.Method, r.URL)
	for k, v := range r.Header {
		fmt.Fprintf(w, "%s: %s\n", k, strings.Join(v, "|"))
	}
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "body=%s\n", b)
}

// nginx starts a real nginx with the documented configuration in front of
// Jimu and a service, and returns its address.
func nginx(t *testing.T, jimuAddr, serviceAddr string) string {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("nginx is not installed")
		}
		t.Skip("nginx is not installed")
	}
	conf, err := os.ReadFile("../../deploy/nginx/auth_request.conf")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text := string(conf)
	for old, now := range map[string]string{
		"listen 80;": "listen " + addr + ";", "127.0.0.1:8080": jimuAddr, "127.0.0.1:3000": serviceAddr,
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the configuration has no %q", old)
		}
		text = strings.Replace(text, old, now, 1)
	}
	dir := t.TempDir()
	main := fmt.Sprintf("daemon off;\nmaster_process off;\npid %[1]s/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"+
		"client_body_temp_path %[1]s/a;\nproxy_temp_path %[1]s/b;\nfastcgi_temp_path %[1]s/c;\nuwsgi_temp_path %[1]s/d;\nscgi_temp_path %[1]s/e;\n%[2]s}\n", dir, text)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(main), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(bin, "-e", "stderr", "-p", dir, "-c", file)
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("nginx: %s", &out)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", addr); err == nil {
			_ = c.Close()
			return addr
		}
		select {
		case <-ctx.Done():
			t.Fatal("nginx does not answer")
		case <-exited:
			t.Fatalf("nginx ended: %s", &out)
		case <-tick.C:
		}
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func TestForwardAuthThroughNginx(t *testing.T) {
	t.Parallel()
	e := setup(t)
	router := liveRouter(t, e.store)
	e.with(t, func(o *server.Options) { o.Router = router })
	front := httptest.NewServer(e)
	t.Cleanup(front.Close)
	behind := httptest.NewServer(http.HandlerFunc(service))
	t.Cleanup(behind.Close)
	addr := nginx(t, front.Listener.Addr().String(), behind.Listener.Addr().String())
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	get := func(method, path string, header map[string]string) answer {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			r.Header[k] = []string{v} // as written
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{resp.StatusCode, resp.Header, string(b)}
	}
	has := func(a answer, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(a.body, p) {
				t.Errorf("status %d, the service saw no %q:\n%s", a.status, p, a.body)
			}
		}
	}
	hasNot := func(a answer, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if strings.Contains(strings.ToLower(a.body), strings.ToLower(p)) {
				t.Errorf("the service saw %q:\n%s", p, a.body)
			}
		}
	}

	u, session := e.user(t, jimu.RoleUser)
	boss, bossSession := e.user(t, jimu.RoleAdmin)
	k, key := e.key(t, u.ID)
	poor, poorSession := e.user(t, jimu.RoleUser)
	for _, id := range []string{u.ID, boss.ID} {
		e.ledger.balances[jimu.UserAccount(id)] = 12*jimu.OneCredit + jimu.OneCredit/2
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		began := time.Now()
		for !ok() {
			if time.Since(began) > time.Second {
				t.Fatalf("%s took longer than a second", what)
			}
		}
	}
	bearer := map[string]string{"Authorization": "Bearer " + key}
	await("a new key", func() bool { return get("GET", "/", bearer).status == http.StatusOK })

	// A key: the request passes whole, with what Jimu says.
	a := get("POST", "/work/it?x=1&y=%2F", bearer)
	has(a, "POST /work/it?x=1&y=%2F\n", "body=hello\n", "X-Jimu-User: "+u.Name+"\n", "X-Jimu-Role: user\n", "X-Jimu-Credit: 12.5\n")
	hasNot(a, key, "authorization", "x-jimu-plan", "x-jimu-reason")
	has(get("GET", "/", map[string]string{"x-api-key": key}), "X-Jimu-User: "+u.Name+"\n")

	// A session: the cookie is taken out of what the service gets, others stay.
	for _, cookies := range []string{"jimu=" + session, "a=1; jimu=" + session, "jimu=" + session + "; b=2", "a=1; jimu=" + session + "; b=2"} {
		a := get("GET", "/", map[string]string{"Cookie": cookies})
		has(a, "X-Jimu-User: "+u.Name+"\n")
		hasNot(a, session)
		for _, other := range []string{"a=1", "b=2"} {
			if strings.Contains(cookies, other) {
				has(a, other)
			}
		}
	}

	// What a client says about itself does not get through.
	forged := map[string]string{
		"Authorization": "Bearer " + key, "X-Jimu-User": "root", "x-jimu-role": "owner", "X-Jimu-Plan": "gold", "X-JIMU-CREDIT": "999999",
		"X-Jimu-Reason": "forged", "X_Jimu_User": "root", "X-Jimu_Role": "owner", "X-Jimu-CSRF": "forged", "X-Jimu-Cost": "forged", "X-Jimu-Upstream": "forged",
	}
	a = get("GET", "/", forged)
	has(a, "X-Jimu-User: "+u.Name+"\n", "X-Jimu-Role: user\n", "X-Jimu-Credit: 12.5\n")
	hasNot(a, "root", "owner", "gold", "999999", "forged")

	// Nobody, a wrong key, a bad session: 401, and the service hears nothing.
	for _, h := range []map[string]string{nil, {"Authorization": "Bearer " + jimu.NewKey()}, {"Cookie": "jimu=" + strings.Repeat("A", 43)}, {"Authorization": "Basic eDp5"}} {
		if a := get("GET", "/", h); a.status != http.StatusUnauthorized || strings.Contains(a.body, "GET /") {
			t.Errorf("%v: %d\n%s", h, a.status, a.body)
		}
	}
	// Without credit: 403, with the reason.
	a = get("GET", "/", map[string]string{"Cookie": "jimu=" + poorSession})
	if a.status != http.StatusForbidden || a.header.Get("X-Jimu-Reason") != string(jimu.NoCredit) || strings.Contains(a.body, "GET /") {
		t.Errorf("%s without credit: %d, reason %q", poor.Name, a.status, a.header.Get("X-Jimu-Reason"))
	}
	// The question itself cannot be asked from outside.
	if a := get("GET", "/_jimu_verify", bearer); a.status != http.StatusNotFound {
		t.Errorf("the internal location answers %d", a.status)
	}
	has(get("GET", "/", map[string]string{"Cookie": "jimu=" + bossSession}), "X-Jimu-Role: admin\n")

	// A key that is revoked, and a user who is disabled, are out in a second.
	if err := e.ids.RevokeKey(t.Context(), u.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	await("revoking a key", func() bool { return get("GET", "/", bearer).status == http.StatusUnauthorized })
	want(t, e.do(t, call{method: "PATCH", path: "/api/users/" + u.ID, body: `{"disabled":true}`, session: bossSession}), 200)
	if a := get("GET", "/", map[string]string{"Cookie": "jimu=" + session}); a.status != http.StatusUnauthorized {
		t.Errorf("a disabled user's session: %d", a.status)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	var limit error
	e := setup(t, func(o *server.Options) { o.Limit = func(context.Context, *jimu.Caller) error { return limit } })
	rich, richSession := e.user(t, jimu.RoleSupport)
	e.ledger.balances[jimu.UserAccount(rich.ID)] = jimu.OneCredit
	_, poorSession := e.user(t, jimu.RoleUser)
	_, key := e.key(t, rich.ID)
	const here = "127.0.0.1:1"
	tests := []struct {
		name   string
		c      call
		status int
		reason jimu.Code
	}{
		{"session", call{path: "/auth/verify", session: richSession}, 200, ""},
		{"session, as a POST without the CSRF header", call{method: "POST", path: "/auth/verify", session: richSession, header: map[string]string{"X-Jimu-CSRF": "-"}}, 200, ""},
		{"key", call{path: "/auth/verify", key: key}, 200, ""},
		{"key, from IPv6", call{path: "/auth/verify", key: key, peer: "[::1]:1"}, 200, ""},
		{"role below", call{path: "/auth/verify?role=user", key: key}, 200, ""},
		{"role itself", call{path: "/auth/verify?role=support", key: key}, 200, ""},
		{"role above", call{path: "/auth/verify?role=admin", key: key}, 403, jimu.Forbidden},
		{"no such role", call{path: "/auth/verify?role=king", key: key}, 403, jimu.Forbidden},
		{"empty role", call{path: "/auth/verify?role=", key: key}, 403, jimu.Forbidden},
		{"nothing", call{path: "/auth/verify"}, 401, jimu.Unauthorized},
		{"nothing, full", call{path: "/auth/verify?codes=full"}, 401, jimu.Unauthorized},
		{"no credit", call{path: "/auth/verify", session: poorSession}, 403, jimu.NoCredit},
		{"no credit, full", call{path: "/auth/verify?codes=full", session: poorSession}, 402, jimu.NoCredit},
		{"from elsewhere", call{path: "/auth/verify", key: key, peer: "192.0.2.1:1"}, 403, ""},
		{"from elsewhere that says it is here", call{path: "/auth/verify", key: key, peer: "192.0.2.1:1", header: map[string]string{"X-Forwarded-For": "127.0.0.1"}}, 403, ""},
	}
	for _, x := range tests {
		if x.c.method == "" {
			x.c.method = "GET"
		}
		if x.c.peer == "" {
			x.c.peer = here
		}
		w := e.do(t, x.c)
		if w.Code != x.status || w.Header().Get("X-Jimu-Reason") != string(x.reason) {
			t.Errorf("%s: %d %q, want %d %q", x.name, w.Code, w.Header().Get("X-Jimu-Reason"), x.status, x.reason)
		}
		if (w.Header().Get("X-Jimu-User") != "") != (x.status == 200) {
			t.Errorf("%s: user %q", x.name, w.Header().Get("X-Jimu-User"))
		}
	}
	limit = &jimu.Error{Code: jimu.RateLimited, Text: "slow", RetryAfter: 1500 * time.Millisecond}
	want(t, e.do(t, call{method: "GET", path: "/auth/verify", key: key, peer: here}), 403)
	w := e.do(t, call{method: "GET", path: "/auth/verify?codes=full", key: key, peer: here})
	if want(t, w, 429); w.Header().Get("Retry-After") != "2" {
		t.Errorf("retry after %q", w.Header().Get("Retry-After"))
	}
	// What cannot be found out is a no.
	limit, e.ledger.err = nil, errors.New("the ledger is away")
	for _, path := range []string{"/auth/verify", "/auth/verify?codes=full"} {
		want(t, e.do(t, call{method: "GET", path: path, key: key, peer: here}), 403)
	}
}

// A name that is not ASCII goes into the header percent-encoded.
func TestVerifyName(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for name, inHeader := range map[string]string{"王小明": "%E7%8E%8B%E5%B0%8F%E6%98%8E", "50% Ann": "50%25%20Ann", "Ann Lee": "Ann Lee"} {
		u := &jimu.User{ID: jimu.NewID(time.Now()), Name: name, Role: jimu.RoleUser, Created: time.Now()}
		if err := e.people.AddUser(t.Context(), u, phc); err != nil {
			t.Fatal(err)
		}
		e.ledger.balances[jimu.UserAccount(u.ID)] = 1
		w := e.do(t, call{method: "GET", path: "/auth/verify", session: e.session(t, u.ID), peer: "127.0.0.1:1"})
		if got := w.Header().Get("X-Jimu-User"); w.Code != 200 || got != inHeader {
			t.Errorf("%q: %d, %q", name, w.Code, got)
		}
		if w.Header().Get("X-Jimu-Credit") != "0.000000001" {
			t.Errorf("credit %q", w.Header().Get("X-Jimu-Credit"))
		}
	}
}
