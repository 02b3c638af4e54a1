package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

var _ People = (*store.Identity)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = "violet kettle 7 mornings"

// clock is a clock that moves when told.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type env struct {
	*Identity
	clock *clock
	store *store.Store
	logs  *bytes.Buffer
	dir   string
}

func setup1(t *testing.T) *env {
	t.Helper()
	e := &env{clock: &clock{t: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}, logs: new(bytes.Buffer), dir: t.TempDir()}
	log := slog.New(slog.NewTextHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := store.Open(t.Context(), store.Options{Data: e.dir, Log: log, Now: e.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	e.store = s
	e.Identity = New(Options{People: store.NewIdentity(s), Log: log, Now: e.clock.Now})
	return e
}

func (e *env) add(t *testing.T, name string, role jimu.Role) *jimu.Caller {
	t.Helper()
	u, err := e.CreateUser(t.Context(), Operator(), name, role, good)
	if err != nil {
		t.Fatal(err)
	}
	return caller(u)
}

func from(s string) netip.Addr { return netip.MustParseAddr(s) }

func wantCode(t *testing.T, err error, want jimu.Code) {
	t.Helper()
	if codeOf(err) != want {
		t.Errorf("got %v (%q), want code %q", err, codeOf(err), want)
	}
}

func TestLoginSessionLogout(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann := e.add(t, "Ann", jimu.RoleUser)
	token, c, err := e.Login(ctx, "  aNN ", good, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if c.User != ann.User || c.Account != "user:"+ann.User || c.Key != "" {
		t.Errorf("caller %+v", c)
	}
	second, _, err := e.Login(ctx, "Ann", good, from("192.0.2.1"))
	if err != nil || second == token {
		t.Fatalf("a second login: %v, the same session: %v", err, second == token)
	}
	if got, err := e.Session(ctx, token); err != nil || got.User != ann.User {
		t.Fatalf("session: %v, %v", got, err)
	}
	for _, bad := range []string{"", "x", token[1:], token + "A", strings.ToUpper(token)} {
		_, err := e.Session(ctx, bad)
		wantCode(t, err, jimu.Unauthorized)
	}
	if err := e.Logout(ctx, token); err != nil {
		t.Fatal(err)
	}
	_, err = e.Session(ctx, token)
	wantCode(t, err, jimu.Unauthorized)
	if _, err := e.Session(ctx, second); err != nil {
		t.Errorf("the other session ended too: %v", err)
	}
}

func TestLoginRefuses(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	e.add(t, "Ann", jimu.RoleUser)
	gone := e.add(t, "Gone", jimu.RoleUser)
	if _, err := e.UpdateUser(ctx, Operator(), gone.User, new(true), nil); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for n, in := range [][2]string{{"Ann", good + "x"}, {"Nobody", good}, {"Gone", good}, {"Ann", ""}, {"\x00", good}, {"Ann", strings.Repeat("x", 5000)}} {
		_, _, err := e.Login(ctx, in[0], in[1], netip.AddrFrom4([4]byte{10, 0, byte(n), 1}))
		wantCode(t, err, jimu.Unauthorized)
		texts = append(texts, jimu.ErrorOf(err).Text)
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("the answers differ: %q", texts)
		}
	}
}

// Whether or not there is such a user, a password is hashed: here, each login
// waits for its turn to. Breaking off the wait resets no count.
func TestLoginDoesTheSameWorkForAll(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	e.add(t, "Ann", jimu.RoleUser)
	gone := e.add(t, "Gone", jimu.RoleUser)
	if _, err := e.UpdateUser(ctx, Operator(), gone.User, new(true), nil); err != nil {
		t.Fatal(err)
	}
	for range hashesAtOnce {
		e.hashing <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	for _, name := range []string{"Ann", "Gone", "Nobody", "\x00"} {
		_, _, err := e.Login(ctx, name, good, from("192.0.2.1"))
		if codeOf(err) != jimu.Overloaded && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, v := range e.tries.accounts {
		if v.running != 0 || v.failures != 0 || len(v.familiar) != 0 {
			t.Errorf("%q: %+v", name, v)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	e.add(t, "Ann", jimu.RoleUser)
	e.add(t, "Boss", jimu.RoleAdmin)
	login := func(name string) string {
		token, _, err := e.Login(ctx, name, good, from("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	alive := func(token string) bool {
		_, err := e.Session(ctx, token)
		if err != nil && codeOf(err) != jimu.Unauthorized {
			t.Fatal(err)
		}
		return err == nil
	}
	ann, boss := login("Ann"), login("Boss")
	e.clock.pass(12*time.Hour - time.Second)
	if !alive(boss) {
		t.Error("an admin's session ended before 12 hours")
	}
	e.clock.pass(time.Second)
	if alive(boss) {
		t.Error("an admin's session lasts longer than 12 hours")
	}
	for day := range 29 {
		e.clock.pass(24 * time.Hour)
		if !alive(ann) {
			t.Fatalf("a used session ended on day %d", day)
		}
	}
	e.clock.pass(24 * time.Hour)
	if alive(ann) {
		t.Error("a session lasts longer than 30 days")
	}
	ann = login("Ann")
	e.clock.pass(7 * 24 * time.Hour)
	if alive(ann) {
		t.Error("an idle session lasts 7 days")
	}
	e.clock.pass(time.Second)
	last := login("Ann")
	if n, err := e.PruneSessions(ctx); err != nil || n != 3 || !alive(last) {
		t.Errorf("pruned %d sessions (%v), the last is alive: %v", n, err, alive(last))
	}
}

func TestPasswordChangeEndsOtherSessions(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann := e.add(t, "Ann", jimu.RoleUser)
	here, _, err := e.Login(ctx, "Ann", good, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	there, _, err := e.Login(ctx, "Ann", good, from("192.0.2.2"))
	if err != nil {
		t.Fatal(err)
	}
	const better = "seven lanterns over Xiamen"
	wantCode(t, e.SetPassword(ctx, here, "this is not the one", better, from("192.0.2.1")), jimu.Forbidden)
	wantCode(t, e.SetPassword(ctx, here, good, "password1234", from("192.0.2.1")), jimu.Invalid)
	if _, err := e.Session(ctx, there); err != nil {
		t.Fatalf("a refused change ended a session: %v", err)
	}
	if err := e.SetPassword(ctx, here, good, better, from("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Session(ctx, here); err != nil {
		t.Errorf("the session that changed it ended: %v", err)
	}
	_, err = e.Session(ctx, there)
	wantCode(t, err, jimu.Unauthorized)
	_, _, err = e.Login(ctx, "Ann", good, from("192.0.2.1"))
	wantCode(t, err, jimu.Unauthorized)
	if err := e.ResetPassword(ctx, ann.User, good); err != nil {
		t.Fatal(err)
	}
	_, err = e.Session(ctx, here)
	wantCode(t, err, jimu.Unauthorized)
}

func TestDisableEndsSessions(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann := e.add(t, "Ann", jimu.RoleUser)
	token, _, err := e.Login(ctx, "Ann", good, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, disabled := range []bool{true, false} {
		if _, err := e.UpdateUser(ctx, Operator(), ann.User, &disabled, nil); err != nil {
			t.Fatal(err)
		}
		_, err = e.Session(ctx, token)
		wantCode(t, err, jimu.Unauthorized)
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	people := map[jimu.Role]*jimu.Caller{}
	for _, r := range jimu.Roles() {
		people[r] = e.add(t, "the "+string(r), r)
	}
	e.add(t, "another owner", jimu.RoleOwner)
	for actorRole, actor := range people {
		for _, target := range jimu.Roles() {
			may := actorRole == jimu.RoleOwner || (actorRole == jimu.RoleAdmin && target != jimu.RoleAdmin && target != jimu.RoleOwner)
			check := func(what string, err error) {
				t.Helper()
				if (err == nil) != may || (err != nil && codeOf(err) != jimu.Forbidden) {
					t.Errorf("%s %s a %s: %v", actorRole, what, target, err)
				}
			}
			made, err := e.CreateUser(ctx, actor, string(actorRole)+" makes "+string(target), target, good)
			check("makes", err)
			if !may {
				made, err = e.CreateUser(ctx, Operator(), string(actorRole)+" may not make "+string(target), target, good)
				if err != nil {
					t.Fatal(err)
				}
			}
			_, err = e.UpdateUser(ctx, actor, made.ID, new(true), nil)
			check("disables", err)
			_, err = e.UpdateUser(ctx, actor, made.ID, nil, new(jimu.RoleUser))
			check("lowers", err)
		}
		if actorRole != jimu.RoleOwner {
			_, err := e.UpdateUser(ctx, actor, actor.User, nil, new(jimu.RoleOwner))
			wantCode(t, err, jimu.Forbidden)
			_, err = e.UpdateUser(ctx, actor, people[jimu.RoleUser].User, nil, new(jimu.RoleOwner))
			wantCode(t, err, jimu.Forbidden)
		}
	}
	_, err := e.CreateUser(ctx, people[jimu.RoleOwner], "strange", "root", good)
	wantCode(t, err, jimu.Invalid)
	_, err = e.UpdateUser(ctx, people[jimu.RoleOwner], "nobody", new(true), nil)
	wantCode(t, err, jimu.NotFound)
}

func TestLastOwnerStays(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		i := New(Options{People: store.NewIdentity(open()), Log: slog.New(slog.DiscardHandler), Now: time.Now})
		first, err := i.CreateUser(ctx, Operator(), "first", jimu.RoleOwner, good)
		if err != nil {
			t.Fatal(err)
		}
		_, err = i.UpdateUser(ctx, Operator(), first.ID, new(true), nil)
		wantCode(t, err, jimu.Conflict)
		_, err = i.UpdateUser(ctx, Operator(), first.ID, nil, new(jimu.RoleAdmin))
		wantCode(t, err, jimu.Conflict)
		second, err := i.CreateUser(ctx, Operator(), "second", jimu.RoleOwner, good)
		if err != nil {
			t.Fatal(err)
		}
		// Both at once: one of the two stays.
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for n, id := range []string{first.ID, second.ID} {
			wg.Go(func() { _, errs[n] = i.UpdateUser(ctx, Operator(), id, new(true), nil) })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("disabling two owners at once: %v, %v", errs[0], errs[1])
		}
		wantCode(t, errors.Join(errs...), jimu.Conflict)
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Ann": "Ann", "  Ann Lee ": "Ann Lee", "王小明": "王小明", "e\u0301": "\u00e9", strings.Repeat("木", 64): strings.Repeat("木", 64),
	} {
		if got, err := cleanName(name); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", "   ", "a\nb", "a\x00", "a\u200bb", "a\u202eb", "\xff", "a\tb", strings.Repeat("木", 65)} {
		if got, err := cleanName(name); err == nil {
			t.Errorf("%q was taken as %q", name, got)
		}
	}
	e, ctx := setup1(t), t.Context()
	e.add(t, "Zoë", jimu.RoleUser)
	_, err := e.CreateUser(ctx, Operator(), "ZOE\u0308", jimu.RoleUser, good)
	wantCode(t, err, jimu.Conflict)
	if u, err := e.UserByName(ctx, "zoë"); err != nil || u.Name != "Zoë" {
		t.Errorf("%v, %v", u, err)
	}
}

// Nothing that proves who somebody is, is in the database files or the logs.
func TestNoSecretIsKept(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	secret, err := e.NewSetup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	session, c, err := e.Setup(ctx, secret, "Ann", good)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := e.CreateKey(ctx, c.User, &jimu.Key{Name: "k"}, "")
	if err != nil {
		t.Fatal(err)
	}
	_, _, _ = e.Login(ctx, "Ann", good+"x", from("192.0.2.1"))
	files, err := filepath.Glob(filepath.Join(e.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a folder
		}
		for what, s := range map[string]string{"setup secret": secret, "session": session, "key": key, "password": good} {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s is in %s", what, f)
			}
			if strings.Contains(e.logs.String(), s) {
				t.Errorf("%s is in the logs", what)
			}
		}
	}
}

// brokenPeople cannot be reached.
type brokenPeople struct{ People }

var errBroken = errors.New("the database is away")

func (brokenPeople) HasOwner(context.Context) (bool, error) { return false, errBroken }

func (brokenPeople) UserByName(context.Context, string) (*jimu.User, error) { return nil, errBroken }

func (brokenPeople) Session(context.Context, []byte) (*jimu.User, time.Time, time.Time, error) {
	return nil, time.Time{}, time.Time{}, errBroken
}

func TestFailsClosed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	i := New(Options{People: brokenPeople{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	token, _ := sessionToken()
	if c, err := i.Session(ctx, token); !errors.Is(err, errBroken) || c != nil {
		t.Errorf("session: %v, %v", c, err)
	}
	if _, c, err := i.Login(ctx, "Ann", good, from("192.0.2.1")); !errors.Is(err, errBroken) || c != nil {
		t.Errorf("login: %v, %v", c, err)
	}
	if err := i.CheckSetup(ctx, "x"); !errors.Is(err, errBroken) {
		t.Errorf("setup: %v", err)
	}
	if s, err := i.NewSetup(ctx); s != "" || !errors.Is(err, errBroken) {
		t.Errorf("setup: %q, %v", s, err)
	}
}
