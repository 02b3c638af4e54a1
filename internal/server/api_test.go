package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/server"
)

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
