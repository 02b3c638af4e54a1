package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/server"
)

// proxied is another service, with a real nginx before it that asks Jimu.
type proxied struct {
	*env
	base      string // of nginx
	transport *http.Transport
}

func throughNginx(t *testing.T) *proxied {
	t.Helper()
	e := setup(t)
	router := liveRouter(t, e.store)
	e.with(t, func(o *server.Options) { o.Router = router })
	front := httptest.NewServer(e)
	t.Cleanup(front.Close)
	behind := httptest.NewServer(http.HandlerFunc(service))
	t.Cleanup(behind.Close)
	p := &proxied{env: e, transport: &http.Transport{}}
	p.base = "http://" + nginx(t, front.Listener.Addr().String(), behind.Listener.Addr().String())
	t.Cleanup(p.transport.CloseIdleConnections)
	return p
}

// answer is what came back through nginx; the service writes what it got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (p *proxied) get(t *testing.T, method, path string, header map[string]string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = []string{v} // as written
	}
	resp, err := p.transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// rich makes a user with credit.
func (p *proxied) rich(t *testing.T, role jimu.Role) (*jimu.User, string) {
	t.Helper()
	u, session := p.user(t, role)
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	p.ledger.balances[jimu.UserAccount(u.ID)] = 12*jimu.OneCredit + jimu.OneCredit/2
	return u, session
}

// liveKey makes a key, and waits until it is in force.
func (p *proxied) liveKey(t *testing.T, user string) (*jimu.Key, map[string]string) {
	t.Helper()
	k, key := p.key(t, user)
	bearer := map[string]string{"Authorization": "Bearer " + key}
	withinSecond(t, "a new key", func() bool { return p.get(t, "GET", "/", bearer).status == http.StatusOK })
	return k, bearer
}

func withinSecond(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); {
		if time.Since(began) > time.Second {
			t.Fatalf("%s took longer than a second", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (a answer) has(t *testing.T, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(a.body, p) {
			t.Errorf("status %d, the service saw no %q:\n%s", a.status, p, a.body)
		}
	}
}

func (a answer) hasNot(t *testing.T, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if strings.Contains(strings.ToLower(a.body), strings.ToLower(p)) {
			t.Errorf("the service saw %q:\n%s", p, a.body)
		}
	}
}

func TestForwardAuthThroughNginx(t *testing.T) {
	t.Parallel()
	p := throughNginx(t)
	t.Run("key", p.testKey)
	t.Run("session", p.testSession)
	t.Run("forged headers", p.testForged)
	t.Run("refused", p.testRefused)
	t.Run("revoked", p.testRevoked)
}

// The request passes whole, with what Jimu says, and without the key.
func (p *proxied) testKey(t *testing.T) {
	u, _ := p.rich(t, jimu.RoleUser)
	_, bearer := p.liveKey(t, u.ID)
	key := strings.TrimPrefix(bearer["Authorization"], "Bearer ")
	for _, header := range []map[string]string{bearer, {"x-api-key": key}} {
		a := p.get(t, "POST", "/work/it?x=1&y=%2F", header)
		a.has(t, "POST /work/it?x=1&y=%2F\n", "body=hello\n", "X-Jimu-User: "+u.Name+"\n", "X-Jimu-Role: user\n", "X-Jimu-Credit: 12.5\n")
		a.hasNot(t, key, "authorization", "x-api-key", "x-jimu-plan", "x-jimu-reason")
	}
}

// Jimu's cookie is taken out of what the service gets; others stay.
func (p *proxied) testSession(t *testing.T) {
	u, session := p.rich(t, jimu.RoleAdmin)
	for cookies, left := range map[string]string{
		"jimu=" + session:                   "",
		"a=1; jimu=" + session:              "Cookie: a=1;",
		"jimu=" + session + "; b=2":         "Cookie: b=2\n",
		"a=1; jimu=" + session + "; b=2":    "Cookie: a=1; b=2\n",
		"notjimu=3; jimu=" + session + ";c": "Cookie: notjimu=3; c\n",
	} {
		a := p.get(t, "GET", "/", map[string]string{"Cookie": cookies})
		a.has(t, "X-Jimu-User: "+u.Name+"\n", "X-Jimu-Role: admin\n", left)
		a.hasNot(t, session)
	}
}

// What a client says about itself does not get through.
func (p *proxied) testForged(t *testing.T) {
	u, _ := p.rich(t, jimu.RoleUser)
	_, bearer := p.liveKey(t, u.ID)
	a := p.get(t, "GET", "/", map[string]string{
		"Authorization": bearer["Authorization"], "X-Jimu-User": "root", "x-jimu-role": "owner", "X-Jimu-Plan": "gold", "X-JIMU-CREDIT": "999999",
		"X-Jimu-Reason": "forged", "X_Jimu_User": "root", "X-Jimu_Role": "owner", "X-Jimu-CSRF": "forged", "X-Jimu-Cost": "forged", "X-Jimu-Upstream": "forged",
	})
	a.has(t, "X-Jimu-User: "+u.Name+"\n", "X-Jimu-Role: user\n", "X-Jimu-Credit: 12.5\n")
	a.hasNot(t, "root", "owner", "gold", "999999", "forged")
}

// Nobody and nonsense are 401, no credit is 403 with the reason, and the
// service hears of none.
func (p *proxied) testRefused(t *testing.T) {
	_, poor := p.user(t, jimu.RoleUser)
	u, _ := p.rich(t, jimu.RoleUser)
	_, bearer := p.liveKey(t, u.ID)
	for _, x := range []struct {
		path   string
		header map[string]string
		status int
		reason jimu.Code
	}{
		{"/", nil, 401, jimu.Unauthorized},
		{"/", map[string]string{"Authorization": "Bearer " + jimu.NewKey()}, 401, jimu.Unauthorized},
		{"/", map[string]string{"Authorization": "Basic eDp5"}, 401, jimu.Unauthorized},
		{"/", map[string]string{"Cookie": "jimu=" + strings.Repeat("A", 43)}, 401, jimu.Unauthorized},
		{"/", map[string]string{"Cookie": "jimu=" + poor}, 403, jimu.NoCredit},
		{"/_jimu_verify", bearer, 404, ""}, // cannot be asked from outside
	} {
		a := p.get(t, "GET", x.path, x.header)
		if a.status != x.status || a.header.Get("X-Jimu-Reason") != string(x.reason) {
			t.Errorf("%s %v: %d %q, want %d %q", x.path, x.header, a.status, a.header.Get("X-Jimu-Reason"), x.status, x.reason)
		}
		a.hasNot(t, "GET /")
	}
}

// A key that is revoked, and a user who is disabled, are out in a second.
func (p *proxied) testRevoked(t *testing.T) {
	u, session := p.rich(t, jimu.RoleUser)
	_, boss := p.rich(t, jimu.RoleAdmin)
	k, bearer := p.liveKey(t, u.ID)
	_, second := p.liveKey(t, u.ID)
	if err := p.ids.RevokeKey(t.Context(), u.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	withinSecond(t, "revoking a key", func() bool { return p.get(t, "GET", "/", bearer).status == http.StatusUnauthorized })
	cookie := map[string]string{"Cookie": "jimu=" + session}
	for _, header := range []map[string]string{second, cookie} {
		if a := p.get(t, "GET", "/", header); a.status != http.StatusOK {
			t.Errorf("with the first key revoked: %d", a.status)
		}
	}
	want(t, p.do(t, call{method: "PATCH", path: "/api/users/" + u.ID, body: `{"disabled":true}`, session: boss}), 200)
	if a := p.get(t, "GET", "/", cookie); a.status != http.StatusUnauthorized {
		t.Errorf("a disabled user's session: %d", a.status)
	}
	withinSecond(t, "disabling a user", func() bool { return p.get(t, "GET", "/", second).status == http.StatusUnauthorized })
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
