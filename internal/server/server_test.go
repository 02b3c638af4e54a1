package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/identity"
	"github.com/jimu-ai/jimu/internal/routing"
	"github.com/jimu-ai/jimu/internal/server"
	"github.com/jimu-ai/jimu/internal/store"
)

var (
	_ server.Identity = (*identity.Identity)(nil)
	_ server.Router   = (*routing.Router)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = "violet kettle 7 mornings"

// phc is the hash of good, made once.
const phc = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// logs may be written and read at the same time.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// env is a server over a real store and identity, with the rest in memory.
type env struct {
	*server.Server
	ids    *identity.Identity
	people *store.Identity
	store  *store.Store
	o      server.Options
	ledger *fakeLedger
	router *fakeRouter
	chat   *fakeChat
	logs   *logs
	ready  error
	added  []server.SetupUpstream
	n      int
}

func setup(t *testing.T, change ...func(*server.Options)) *env {
	t.Helper()
	e := &env{logs: new(logs), ledger: &fakeLedger{balances: map[string]jimu.Credit{}, grants: map[string]jimu.Entry{}}}
	log := slog.New(slog.NewTextHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if e.store, err = store.Open(t.Context(), store.Options{Data: t.TempDir(), Log: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.store.Close(); err != nil {
			t.Error(err)
		}
	})
	e.people = store.NewIdentity(e.store)
	e.ids = identity.New(identity.Options{People: e.people, Log: log, Now: time.Now})
	e.router, e.chat = &fakeRouter{people: e.people}, &fakeChat{}
	o := server.Options{
		Log: log, Now: time.Now, Version: "1.2.3", Currency: "CNY",
		Identity: e.ids, Ledger: e.ledger, Router: e.router, Chat: e.chat,
		Usage: func(_ context.Context, user, _ string, _ int) ([]jimu.Record, string, error) {
			return []jimu.Record{{Request: "r1", User: user, Model: "m1", Upstream: "hidden-upstream", Usage: jimu.Usage{InText: 5, UpstreamCost: 99}, Cost: 7}}, "", nil
		},
		Upstreams:   func() []server.Upstream { return []server.Upstream{{Name: "main", Vendor: "demo"}} },
		Demo:        func() bool { return true },
		AddUpstream: func(_ context.Context, u server.SetupUpstream) error { e.added = append(e.added, u); return nil },
		Model: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("panic") != "" {
				panic("model")
			}
			fmt.Fprintf(w, "model %s %s", r.URL.Path, r.RemoteAddr)
		}),
		ModelRoutes: []string{"POST /v1/chat/completions", "GET /v1/models"},
		ModelError: func(w http.ResponseWriter, _ *http.Request, e *jimu.Error) {
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, "model error %s", e.Code)
		},
		Pages: fstest.MapFS{"index.html": {Data: []byte("<html>")}},
		Ready: func(context.Context) error { return e.ready },
	}
	e.o = o
	return e.with(t, change...)
}

// with serves with other options.
func (e *env) with(t *testing.T, change ...func(*server.Options)) *env {
	t.Helper()
	for _, c := range change {
		c(&e.o)
	}
	s, err := server.New(e.o)
	if err != nil {
		t.Fatal(err)
	}
	e.Server = s
	return e
}

// user makes a user with a session, without the cost of hashing.
func (e *env) user(t *testing.T, role jimu.Role) (*jimu.User, string) {
	t.Helper()
	e.n++
	u := &jimu.User{ID: jimu.NewID(time.Now()), Name: fmt.Sprintf("%s %d", role, e.n), Role: role, Created: time.Now()}
	if err := e.people.AddUser(t.Context(), u, phc); err != nil {
		t.Fatal(err)
	}
	return u, e.session(t, u.ID)
}

func (e *env) session(t *testing.T, user string) string {
	t.Helper()
	e.n++
	token := fmt.Sprintf("%043d", e.n)
	hash := sha256.Sum256([]byte(token))
	if err := e.people.AddSession(t.Context(), hash[:], user, time.Now()); err != nil {
		t.Fatal(err)
	}
	return token
}

func (e *env) key(t *testing.T, user string) (*jimu.Key, string) {
	t.Helper()
	k, secret, err := e.ids.CreateKey(t.Context(), user, &jimu.Key{Name: "k"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// call is a request to be made.
type call struct {
	method, path, body string
	session, key       string
	header             map[string]string // "-" leaves a header out
	peer               string
}

func (e *env) do(t *testing.T, c call) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
	r.RemoteAddr = "203.0.113.9:4711"
	if c.peer != "" {
		r.RemoteAddr = c.peer
	}
	if c.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.session != "" {
		r.AddCookie(&http.Cookie{Name: "jimu", Value: c.session})
		r.Header.Set("X-Jimu-CSRF", "1")
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
		if v == "-" {
			r.Header.Del(k)
		}
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) server.Problem {
	t.Helper()
	var p server.Problem
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("status %d, type %q, body %q", w.Code, got, w.Body)
		return p
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != w.Code || p.RequestID != w.Header().Get("X-Request-Id") || len(p.RequestID) != jimu.IDLen || p.Detail == "" {
		t.Errorf("status %d, %+v", w.Code, p)
	}
	return p
}

func want(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d: %s", w.Code, status, w.Body)
	}
}

type fakeLedger struct {
	mu       sync.Mutex
	balances map[string]jimu.Credit
	grants   map[string]jimu.Entry
	err      error
}

func (l *fakeLedger) Balance(_ context.Context, account string) (jimu.Balance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return jimu.Balance{Balance: l.balances[account]}, l.err
}

func (l *fakeLedger) Statement(_ context.Context, account string, before int64, limit int) ([]jimu.Entry, error) {
	if before == 0 {
		before = 4
	}
	var es []jimu.Entry
	for seq := before - 1; seq >= 1 && len(es) < limit; seq-- {
		e := jimu.Entry{Seq: seq, Owner: account, Debit: account, Credit: jimu.AccountSales, Amount: 5, Kind: jimu.EntryUsage, Ref: fmt.Sprint("q", seq), Usage: &jimu.Usage{InText: 1, UpstreamCost: 99}}
		if seq == 1 {
			e.Debit, e.Credit, e.Kind = jimu.AccountPromotion, account, jimu.EntryGrant
		}
		es = append(es, e)
	}
	return es, nil
}

func (l *fakeLedger) Grant(_ context.Context, account string, amount jimu.Credit, reason, ref string) (jimu.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g, ok := l.grants[ref]; ok {
		if g.Credit != account || g.Amount != amount {
			return g, jimu.Errorf(jimu.Conflict, "another grant has this key")
		}
		return g, nil
	}
	l.balances[account] += amount
	g := jimu.Entry{Credit: account, Amount: amount, Reason: reason, Ref: ref}
	l.grants[ref] = g
	return g, nil
}

// fakeRouter reads the keys anew each time.
type fakeRouter struct{ people *store.Identity }

func (r *fakeRouter) Admit(key string) (*jimu.Caller, error) {
	hash, ok := jimu.HashKey(key)
	ks, err := r.people.KeyCallers(context.Background())
	for n := range ks {
		if ok && ks[n].Hash == hash {
			return &ks[n].Caller, nil
		}
	}
	return nil, errors.Join(err, jimu.Errorf(jimu.Unauthorized, "the key is not valid"))
}

func (r *fakeRouter) Models(*jimu.Caller) []jimu.Model {
	return []jimu.Model{{ID: "m1", Demo: true, Price: &jimu.Price{Model: "m1", Rates: jimu.Rates{In: jimu.OneCredit, Out: 2 * jimu.OneCredit}, Context: 1000}}}
}

// fakeChat has conversations and turns whose ID is their owner's.
type fakeChat struct {
	events []server.Event
	block  bool // after its events a turn goes on without any
	after  int64
}

func mine(user, id string) error {
	if user != id {
		return jimu.Errorf(jimu.NotFound, "there is no such thing")
	}
	return nil
}

func (c *fakeChat) List(_ context.Context, user, _ string, _ int) ([]jimu.Conversation, string, error) {
	return []jimu.Conversation{{ID: user}}, "", nil
}

func (c *fakeChat) Create(_ context.Context, user, title, _ string) (*jimu.Conversation, error) {
	return &jimu.Conversation{ID: user, Title: title}, nil
}

func (c *fakeChat) Get(_ context.Context, user, id string) (*jimu.Conversation, []jimu.Turn, error) {
	return &jimu.Conversation{ID: id, Title: "t"}, nil, mine(user, id)
}

func (c *fakeChat) Rename(_ context.Context, user, id, title string) (*jimu.Conversation, error) {
	return &jimu.Conversation{ID: id, Title: title}, mine(user, id)
}
func (c *fakeChat) Delete(_ context.Context, user, id string) error { return mine(user, id) }
func (c *fakeChat) Start(_ context.Context, caller *jimu.Caller, id string, ask server.Ask) (*jimu.Turn, error) {
	return &jimu.Turn{ID: id, Text: ask.Text}, mine(caller.User, id)
}

func (c *fakeChat) Turn(_ context.Context, user, id string) (*jimu.Turn, error) {
	return &jimu.Turn{ID: id}, mine(user, id)
}

func (c *fakeChat) Stop(_ context.Context, user, id string) (*jimu.Turn, error) {
	return &jimu.Turn{ID: id}, mine(user, id)
}

func (c *fakeChat) Attach(_ context.Context, user, id string, after int64) (server.Events, error) {
	c.after = after
	return &fakeEvents{left: slices.Clone(c.events), block: c.block}, mine(user, id)
}

type fakeEvents struct {
	left  []server.Event
	block bool
}

func (f *fakeEvents) Next(ctx context.Context) (server.Event, error) {
	if len(f.left) > 0 {
		e := f.left[0]
		f.left = f.left[1:]
		return e, nil
	}
	if f.block {
		<-ctx.Done()
		return server.Event{}, ctx.Err()
	}
	return server.Event{}, io.EOF
}
