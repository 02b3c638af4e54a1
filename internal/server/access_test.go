package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jimu-ai/jimu"
)

// expect is a row of the access table: who may use a route, written down by
// hand and apart from the code.
type expect struct {
	path   string // {me}: the caller's user ID, which is also his conversation and turn; {key}: one of his keys; {low}: a user of the role user
	body   string
	method string    // for patterns without one
	anyone bool      // no credential is needed
	lowest jimu.Role // of a session
	key    bool      // a key does too (if its user may)
	peer   bool      // only a trusted peer may; then as key says
	ok     int       // status for those who may
	other  int       // status with another user's IDs; 0: the path has none of the caller's
}

func table() map[string]expect {
	user, support, finance, admin := jimu.RoleUser, jimu.RoleSupport, jimu.RoleFinance, jimu.RoleAdmin
	t := map[string]expect{
		"GET /api/site":         {path: "/api/site", anyone: true, ok: 200},
		"POST /api/setup":       {path: "/api/setup", body: `{"secret":"x","name":"n","password":"p"}`, anyone: true, ok: 409}, // there is an owner
		"GET /api/openapi.json": {path: "/api/openapi.json", anyone: true, ok: 200},
		"/api/":                 {path: "/api/nothing", method: "GET", anyone: true, ok: 404},

		"POST /api/session":    {path: "/api/session", body: `{"name":"nobody {n}","password":"x"}`, anyone: true, ok: 401}, // wrong, but let in
		"DELETE /api/session":  {path: "/api/session", lowest: user, ok: 204},
		"GET /api/me":          {path: "/api/me", lowest: user, key: true, ok: 200},
		"PUT /api/me/password": {path: "/api/me/password", body: `{"old":"x","new":"y"}`, lowest: user, ok: 403}, // the old one is wrong

		"GET /api/keys":         {path: "/api/keys", lowest: user, ok: 200},
		"POST /api/keys":        {path: "/api/keys", body: `{"name":"n"}`, lowest: user, ok: 201},
		"DELETE /api/keys/{id}": {path: "/api/keys/{key}", lowest: user, ok: 204, other: 404},

		"GET /api/usage":              {path: "/api/usage", lowest: user, key: true, ok: 200},
		"GET /api/statement":          {path: "/api/statement", lowest: user, key: true, ok: 200},
		"GET /api/models":             {path: "/api/models", lowest: user, key: true, ok: 200},
		"POST /api/users/{id}/grants": {path: "/api/users/{low}/grants", body: `{"amount":"1","reason":"r"}`, lowest: finance, ok: 200},

		"GET /api/conversations":             {path: "/api/conversations", lowest: user, ok: 200},
		"POST /api/conversations":            {path: "/api/conversations", body: `{}`, lowest: user, ok: 201},
		"GET /api/conversations/{id}":        {path: "/api/conversations/{me}", lowest: user, ok: 200, other: 404},
		"PATCH /api/conversations/{id}":      {path: "/api/conversations/{me}", body: `{"title":"t"}`, lowest: user, ok: 200, other: 404},
		"DELETE /api/conversations/{id}":     {path: "/api/conversations/{me}", lowest: user, ok: 204, other: 404},
		"POST /api/conversations/{id}/turns": {path: "/api/conversations/{me}/turns", body: `{"text":"t","model":"m"}`, lowest: user, ok: 201, other: 404},
		"GET /api/turns/{id}":                {path: "/api/turns/{me}", lowest: user, ok: 200, other: 404},
		"GET /api/turns/{id}/events":         {path: "/api/turns/{me}/events", lowest: user, ok: 200, other: 404},
		"POST /api/turns/{id}/stop":          {path: "/api/turns/{me}/stop", lowest: user, ok: 200, other: 404},

		"GET /api/users":        {path: "/api/users", lowest: support, ok: 200},
		"POST /api/users":       {path: "/api/users", body: `{"name":"","role":"user","password":""}`, lowest: admin, ok: 400}, // let in, then refused
		"PATCH /api/users/{id}": {path: "/api/users/{low}", body: `{"disabled":true}`, lowest: admin, ok: 200},
		"GET /api/upstreams":    {path: "/api/upstreams", lowest: admin, ok: 200},

		"/auth/verify": {path: "/auth/verify", method: "GET", lowest: user, key: true, peer: true, ok: 200},

		"GET /healthz":              {path: "/healthz", anyone: true, ok: 200},
		"GET /readyz":               {path: "/readyz", anyone: true, ok: 200},
		"POST /v1/chat/completions": {path: "/v1/chat/completions", anyone: true, ok: 200}, // the model API checks the key itself
		"GET /v1/models":            {path: "/v1/models", anyone: true, ok: 200},
		"/v1/":                      {path: "/v1/nothing", method: "GET", anyone: true, ok: 418},
		"/":                         {path: "/nothing", method: "GET", anyone: true, ok: 404},
	}
	for _, p := range []string{"/{$}", "/login", "/setup", "/c/{id}", "/keys", "/usage", "/account"} {
		path := strings.NewReplacer("{$}", "", "{id}", "{me}").Replace(p)
		t["GET "+p] = expect{path: path, anyone: true, ok: 200}
	}
	return t
}

// Every route is called by everyone, and answers as the table says. A route
// that is not in the table fails.
func TestAccess(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.user(t, jimu.RoleOwner)
	rows := table()
	for _, r := range e.Routes() {
		x, ok := rows[r.Pattern]
		if !ok {
			t.Errorf("the route %q (%s) is not in the access table: add a row that says who may use it", r.Pattern, r.Policy)
			continue
		}
		delete(rows, r.Pattern)
		method, _, found := strings.Cut(r.Pattern, " ")
		if !found {
			method = x.method
		}
		t.Run(r.Pattern, func(t *testing.T) { e.calledByEveryone(t, method, x) })
	}
	if len(rows) > 0 {
		t.Errorf("rows of the table without a route: %v", slices.Sorted(maps.Keys(rows)))
	}
}

func (e *env) calledByEveryone(t *testing.T, method string, x expect) {
	t.Helper()
	low, _ := e.user(t, jimu.RoleUser)
	somebody, _ := e.user(t, jimu.RoleUser)
	theirs, _ := e.key(t, somebody.ID)
	c := &caller{env: e, method: method, x: x, low: low.ID}
	if !x.peer {
		c.everyone(t, somebody.ID, theirs.ID)
		return
	}
	c.from = "127.0.0.1:1"
	c.everyone(t, somebody.ID, theirs.ID)
	c.from, c.refused = "203.0.113.9:1", true
	c.everyone(t, somebody.ID, theirs.ID)
}

// caller calls one route as one after the other.
type caller struct {
	*env
	x       expect
	method  string
	low     string // a user of the role user
	from    string // "": another network each time, as failed logins are slowed down
	refused bool   // everyone is, from there
}

func (c *caller) as(t *testing.T, who string, want int, user, key string, with call) {
	t.Helper()
	c.n++
	with.method, with.peer = c.method, c.from
	with.body = strings.ReplaceAll(c.x.body, "{n}", strconv.Itoa(c.n))
	with.path = strings.NewReplacer("{low}", c.low, "{me}", user, "{key}", key).Replace(c.x.path)
	if c.from == "" {
		with.peer = fmt.Sprintf("198.%d.%d.9:1", c.n>>8, c.n&255)
	}
	if c.refused {
		want = http.StatusForbidden
	}
	if w := c.do(t, with); w.Code != want {
		t.Errorf("%s from %s: %d, want %d: %s", who, with.peer, w.Code, want, w.Body)
	}
}

// status chooses between the one for those who may and the one for the rest.
func status(may bool, ok, refused int) int {
	if may {
		return ok
	}
	return refused
}

func (c *caller) everyone(t *testing.T, somebody, theirs string) {
	t.Helper()
	nobody := status(c.x.anyone, c.x.ok, http.StatusUnauthorized)
	c.as(t, "anonymous", nobody, somebody, theirs, call{})
	c.as(t, "a wrong session", nobody, somebody, theirs, call{session: strings.Repeat("z", 43)})
	c.as(t, "a wrong key", nobody, somebody, theirs, call{key: jimu.NewKey()})
	for _, role := range jimu.Roles() {
		u, session := c.user(t, role)
		c.ledger.balances[jimu.UserAccount(u.ID)] = jimu.OneCredit
		own, secret := c.key(t, u.ID)
		may := c.x.anyone || role.AtLeast(c.x.lowest)
		c.as(t, "the key of "+u.Name, status(c.x.anyone || (c.x.key && may), c.x.ok, http.StatusForbidden), u.ID, own.ID, call{key: secret})
		if c.x.other != 0 && may {
			c.as(t, u.Name+" with another's ID", c.x.other, somebody, theirs, call{session: session})
		}
		if !c.x.anyone && c.method != http.MethodGet {
			c.as(t, u.Name+" without the CSRF header", http.StatusForbidden, u.ID, own.ID,
				call{session: session, header: map[string]string{"X-Jimu-CSRF": "-"}})
		}
		c.as(t, u.Name, status(may, c.x.ok, http.StatusForbidden), u.ID, own.ID, call{session: session})
	}
}

// What a disabled user had is worth nothing.
func TestAccessOfDisabled(t *testing.T) {
	t.Parallel()
	e := setup(t)
	u, session := e.user(t, jimu.RoleUser)
	_, key := e.key(t, u.ID)
	_, boss := e.user(t, jimu.RoleOwner)
	want(t, e.do(t, call{method: "GET", path: "/api/me", key: key}), 200)
	want(t, e.do(t, call{method: "PATCH", path: "/api/users/" + u.ID, body: `{"disabled":true}`, session: boss}), 200)
	want(t, e.do(t, call{method: "GET", path: "/api/me", session: session}), 401)
	want(t, e.do(t, call{method: "GET", path: "/api/me", key: key}), 401)
}

// Where a key is given, the cookie beside it does not count.
func TestKeyGoesBeforeCookie(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, session := e.user(t, jimu.RoleOwner)
	u, _ := e.user(t, jimu.RoleUser)
	_, key := e.key(t, u.ID)
	for _, c := range []call{
		{key: "jm_wrong"},
		{header: map[string]string{"X-Api-Key": "jm_wrong"}},
	} {
		c.method, c.path, c.session = "GET", "/api/me", session
		want(t, e.do(t, c), 401)
	}
	w := e.do(t, call{method: "GET", path: "/api/me", session: session, header: map[string]string{"x-api-key": key}})
	if want(t, w, 200); !strings.Contains(w.Body.String(), u.ID) {
		t.Errorf("not the key's user: %s", w.Body)
	}
	want(t, e.do(t, call{method: "GET", path: "/api/users", session: session, key: key}), 403)
}
