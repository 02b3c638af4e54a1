package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)

func codeOf(err error) jimu.Code {
	if e, ok := errors.AsType[*jimu.Error](err); ok {
		return e.Code
	}
	return ""
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, want jimu.Code, err error) {
	t.Helper()
	if codeOf(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func user(name string, role jimu.Role) *jimu.User {
	return &jimu.User{ID: jimu.NewID(now), Name: name, Role: role, Created: now}
}

func addUser(t *testing.T, people *store.Identity, name string, role jimu.Role) *jimu.User {
	t.Helper()
	u := user(name, role)
	if err := people.AddUser(t.Context(), u, "phc of "+name); err != nil {
		t.Fatal(err)
	}
	return u
}

func revision(t *testing.T, s *store.Store) int64 {
	t.Helper()
	rev, err := s.Main.Revision(t.Context(), "routing")
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// bumped runs f and checks whether replicas are told of it.
func bumped(t *testing.T, s *store.Store, want bool, f func() error) {
	t.Helper()
	was := revision(t, s)
	if err := f(); err != nil {
		t.Fatal(err)
	}
	if got := revision(t, s) > was; got != want {
		t.Errorf("replicas are told: %v, want %v", got, want)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		people := store.NewIdentity(s)
		ann := addUser(t, people, "Ann 积木 🧱", jimu.RoleUser)
		for _, name := range []string{"ann 积木 🧱", "ANN 积木 🧱"} {
			if err := people.AddUser(ctx, user(name, jimu.RoleUser), "x"); codeOf(err) != jimu.Conflict {
				t.Errorf("%q beside Ann: %v", name, err)
			}
			got, err := people.UserByName(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ann, got); diff != "" {
				t.Error(diff)
			}
		}
		addUser(t, people, "ann", jimu.RoleUser)
		addUser(t, people, "änn", jimu.RoleUser) // not equal to ann, whatever the collation
		if _, err := people.UserByName(ctx, "%"); codeOf(err) != jimu.NotFound {
			t.Error(err)
		}
		if _, err := people.UserByID(ctx, "none"); codeOf(err) != jimu.NotFound {
			t.Error(err)
		}
		if phc, err := people.Password(ctx, ann.ID); err != nil || phc != "phc of "+ann.Name {
			t.Errorf("%q, %v", phc, err)
		}
		if _, err := people.Password(ctx, "none"); codeOf(err) != jimu.NotFound {
			t.Error(err)
		}
		var names []string
		pages := 0
		for cursor, next := "", "x"; next != ""; cursor = next {
			var us []jimu.User
			var err error
			us, next, err = people.Users(ctx, cursor, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range us {
				names = append(names, u.Name)
			}
			pages++
		}
		if len(names) != 3 || pages != 2 {
			t.Errorf("%d pages of %q", pages, names)
		}
	})
}

func TestOneFirstOwner(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		stores := []*store.Store{open()}
		if Replicas(stores[0]) {
			stores = append(stores, open())
		}
		const tries = 8
		errs := make([]error, tries)
		var wg sync.WaitGroup
		for i := range tries {
			people := store.NewIdentity(stores[i%len(stores)])
			wg.Go(func() {
				errs[i] = people.AddFirstOwner(t.Context(), user(fmt.Sprintf("owner%d", i), jimu.RoleOwner), "x")
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case codeOf(err) != jimu.Conflict:
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d first owners", won)
		}
		if has, err := store.NewIdentity(stores[0]).HasOwner(t.Context()); err != nil || !has {
			t.Errorf("%v, %v", has, err)
		}
	})
}

func TestChangeUser(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		people := store.NewIdentity(s)
		ann, bob := addUser(t, people, "ann", jimu.RoleOwner), addUser(t, people, "bob", jimu.RoleOwner)
		session := []byte("session of ann, 32 bytes or so..")
		if err := people.AddSession(ctx, session, ann.ID, now); err != nil {
			t.Fatal(err)
		}
		bumped(t, s, false, func() error {
			_, err := people.ChangeUser(ctx, ann.ID, func(u *jimu.User, owners int) error {
				if owners != 2 || u.Name != "ann" {
					t.Errorf("%d owners, %+v", owners, u)
				}
				return nil
			})
			return err
		})
		if _, _, _, err := people.Session(ctx, session); err != nil {
			t.Errorf("nothing changed and the session ended: %v", err)
		}
		bumped(t, s, true, func() error {
			u, err := people.ChangeUser(ctx, ann.ID, func(u *jimu.User, _ int) error { u.Disabled = true; return nil })
			if err == nil && !u.Disabled {
				t.Error("the changed user is not what is returned")
			}
			return err
		})
		if _, _, _, err := people.Session(ctx, session); codeOf(err) != jimu.NotFound {
			t.Errorf("the session of a disabled user: %v", err)
		}
		no := errors.New("no")
		if _, err := people.ChangeUser(ctx, bob.ID, func(u *jimu.User, owners int) error {
			if owners != 1 {
				t.Errorf("%d owners, want 1: a disabled one does not count", owners)
			}
			u.Role = jimu.RoleUser
			return no
		}); !errors.Is(err, no) {
			t.Error(err)
		}
		if u, err := people.UserByID(ctx, bob.ID); err != nil || u.Role != jimu.RoleOwner {
			t.Errorf("a refused change is kept: %+v, %v", u, err)
		}
		if _, err := people.ChangeUser(ctx, "none", func(*jimu.User, int) error { return nil }); codeOf(err) != jimu.NotFound {
			t.Error(err)
		}
	})
}

// TestLastOwnerStays lets two owners dismiss each other at the same time.
func TestLastOwnerStays(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		people := store.NewIdentity(s)
		both := []*jimu.User{addUser(t, people, "ann", jimu.RoleOwner), addUser(t, people, "bob", jimu.RoleOwner)}
		var wg sync.WaitGroup
		for _, u := range both {
			wg.Go(func() {
				_, err := people.ChangeUser(t.Context(), u.ID, func(u *jimu.User, owners int) error {
					if owners <= 1 {
						return jimu.Errorf(jimu.Conflict, "the last one")
					}
					u.Role = jimu.RoleUser
					return nil
				})
				if err != nil && codeOf(err) != jimu.Conflict {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if has, err := people.HasOwner(t.Context()); err != nil || !has {
			t.Errorf("no owner is left (%v)", err)
		}
	})
}

func sessionHash(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

func addSessions(t *testing.T, people *store.Identity, u *jimu.User) {
	t.Helper()
	for i, name := range []string{"a", "b", "c"} {
		noError(t, people.AddSession(t.Context(), sessionHash(name), u.ID, now.Add(time.Duration(i)*time.Hour)))
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		ctx, people := t.Context(), store.NewIdentity(open())
		ann := addUser(t, people, "ann", jimu.RoleUser)
		addSessions(t, people, ann)
		later := now.Add(30 * time.Minute)
		noError(t, people.TouchSession(ctx, sessionHash("a"), later))
		noError(t, people.TouchSession(ctx, sessionHash("a"), now.Add(time.Minute))) // too late to count
		u, created, seen, err := people.Session(ctx, sessionHash("a"))
		noError(t, err)
		if diff := cmp.Diff(ann, u); diff != "" || !created.Equal(now) || !seen.Equal(later) {
			t.Errorf("%s began %v, seen %v", diff, created, seen)
		}
		noError(t, people.EndSession(ctx, sessionHash("a")))
		noError(t, people.EndSession(ctx, sessionHash("a")))
		_, _, _, err = people.Session(ctx, sessionHash("a"))
		wantCode(t, jimu.NotFound, err)
		if n, err := people.PruneSessions(ctx, now, now); err != nil || n != 0 {
			t.Errorf("%d sessions removed too early (%v)", n, err)
		}
		if n, err := people.PruneSessions(ctx, now.Add(90*time.Minute), now); err != nil || n != 1 {
			t.Errorf("%d sessions removed, want 1 (%v)", n, err)
		}
		_, _, _, err = people.Session(ctx, sessionHash("c"))
		noError(t, err)
	})
}

func TestSetPassword(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		ctx, people := t.Context(), store.NewIdentity(open())
		ann := addUser(t, people, "ann", jimu.RoleUser)
		addSessions(t, people, ann)
		noError(t, people.SetPassword(ctx, ann.ID, "new", sessionHash("b")))
		if phc, err := people.Password(ctx, ann.ID); err != nil || phc != "new" {
			t.Errorf("%q, %v", phc, err)
		}
		_, _, _, err := people.Session(ctx, sessionHash("b"))
		noError(t, err)
		for _, other := range []string{"a", "c"} {
			_, _, _, err = people.Session(ctx, sessionHash(other))
			wantCode(t, jimu.NotFound, err)
		}
		noError(t, people.SetPassword(ctx, ann.ID, "newer", nil))
		_, _, _, err = people.Session(ctx, sessionHash("b"))
		wantCode(t, jimu.NotFound, err)
		wantCode(t, jimu.NotFound, people.SetPassword(ctx, "none", "new", nil))
	})
}

func keyHash(k *jimu.Key) jimu.KeyHash { return sha256.Sum256([]byte(k.ID)) }

// keyed is a store with keys of two users.
type keyed struct {
	*store.Store
	people                       *store.Identity
	ann, bob                     *jimu.User
	plain, full, expired, others *jimu.Key
}

func withKeys(t *testing.T, s *store.Store) keyed {
	t.Helper()
	people := store.NewIdentity(s)
	ann, bob := addUser(t, people, "ann", jimu.RoleUser), addUser(t, people, "bob", jimu.RoleAdmin)
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	past := time.Now().Add(-time.Hour).UTC().Truncate(time.Microsecond)
	k := keyed{
		Store: s, people: people, ann: ann, bob: bob,
		plain: &jimu.Key{ID: jimu.NewID(now), User: ann.ID, Name: "it's 🧱", Tail: "abcd", Created: now},
		full: &jimu.Key{
			ID: "zzz-not-by-time", User: ann.ID, Name: "full", Tail: "wxyz", Created: now.Add(-time.Second),
			Models: []string{"gpt-5", "模型/🧱"}, Limit: new(jimu.Credit(math.MaxInt64)),
			Limits: jimu.Limits{RPM: 1, TPM: math.MaxInt64, Concurrent: 3}, Expires: &soon,
		},
		expired: &jimu.Key{ID: jimu.NewID(now), User: ann.ID, Name: "expired", Tail: "wxyz", Created: now.Add(-time.Minute), Expires: &past},
		others:  &jimu.Key{ID: jimu.NewID(now), User: bob.ID, Name: "other", Tail: "wxyz", Created: now},
	}
	for _, key := range []*jimu.Key{k.plain, k.full, k.expired, k.others} {
		bumped(t, s, true, func() error { return people.AddKey(t.Context(), key, keyHash(key)) })
	}
	return k
}

func TestKeys(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		k, ctx := withKeys(t, open()), t.Context()
		wantCode(t, jimu.Conflict, k.people.AddKey(ctx, k.full, jimu.KeyHash{1}))
		var got []jimu.Key
		for cursor, next := "", "x"; next != ""; cursor = next {
			var ks []jimu.Key
			var err error
			ks, next, err = k.people.Keys(ctx, k.ann.ID, cursor, 1)
			noError(t, err)
			got = append(got, ks...)
		}
		if diff := cmp.Diff([]jimu.Key{*k.plain, *k.full, *k.expired}, got); diff != "" {
			t.Error(diff)
		}
		for _, cursor := range []string{"x", "1", ".", "'--.x"} {
			_, _, err := k.people.Keys(ctx, k.ann.ID, cursor, 1)
			wantCode(t, jimu.Invalid, err)
		}
		if names, err := k.people.KeyNames(ctx, k.ann.ID); err != nil || len(names) != 3 || names[k.plain.ID] != k.plain.Name {
			t.Errorf("%v, %v", names, err)
		}
		testBudget(t, k.Store, k.people, k.full)
	})
}

func callers(t *testing.T, people *store.Identity) map[jimu.KeyHash]jimu.Caller {
	t.Helper()
	kcs, err := people.KeyCallers(t.Context())
	noError(t, err)
	out := make(map[jimu.KeyHash]jimu.Caller)
	for _, kc := range kcs {
		out[kc.Hash] = kc.Caller
	}
	return out
}

func TestKeyCallers(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		k, ctx := withKeys(t, open()), t.Context()
		want := map[jimu.KeyHash]jimu.Caller{
			keyHash(k.plain): {User: k.ann.ID, Name: "ann", Role: jimu.RoleUser, Account: "user:" + k.ann.ID, Key: k.plain.ID},
			keyHash(k.full): {
				User: k.ann.ID, Name: "ann", Role: jimu.RoleUser, Account: "user:" + k.ann.ID, Key: k.full.ID,
				Models: k.full.Models, Budget: k.full.ID, KeyLimits: k.full.Limits, Expires: *k.full.Expires,
			},
			keyHash(k.others): {User: k.bob.ID, Name: "bob", Role: jimu.RoleAdmin, Account: "user:" + k.bob.ID, Key: k.others.ID},
		}
		if diff := cmp.Diff(want, callers(t, k.people)); diff != "" {
			t.Error(diff)
		}
		wantCode(t, jimu.NotFound, k.people.RevokeKey(ctx, k.bob.ID, k.plain.ID, now)) // Bob revokes Ann's key
		bumped(t, k.Store, true, func() error { return k.people.RevokeKey(ctx, k.ann.ID, k.plain.ID, now) })
		bumped(t, k.Store, false, func() error { return k.people.RevokeKey(ctx, k.ann.ID, k.plain.ID, now.Add(time.Hour)) })
		bumped(t, k.Store, true, func() error {
			_, err := k.people.ChangeUser(ctx, k.bob.ID, func(u *jimu.User, _ int) error { u.Disabled = true; return nil })
			return err
		})
		delete(want, keyHash(k.plain))
		delete(want, keyHash(k.others))
		if diff := cmp.Diff(want, callers(t, k.people)); diff != "" {
			t.Error(diff)
		}
		ks, _, err := k.people.Keys(ctx, k.ann.ID, "", 10)
		if err != nil || ks[0].Revoked == nil || !ks[0].Revoked.Equal(now) {
			t.Errorf("the time of revocation: %+v, %v", ks, err)
		}
	})
}

// testBudget checks that a key with a limit has its budget in the ledger, and
// shows what was spent.
func testBudget(t *testing.T, s *store.Store, people *store.Identity, k *jimu.Key) {
	t.Helper()
	if n, err := s.Main.Exec(t.Context(), "UPDATE budgets SET spent = ? WHERE id = ? AND cap = ?", int64(42), k.ID, int64(*k.Limit)); err != nil || n != 1 {
		t.Fatalf("%d budgets (%v)", n, err)
	}
	ks, _, err := people.Keys(t.Context(), k.User, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range ks {
		if want := jimu.Credit(42); got.ID == k.ID && got.Spent != want {
			t.Errorf("spent %d, want %d", got.Spent, want)
		}
	}
}

// plainSealer shows what it was asked to bind to, and encrypts nothing.
type plainSealer struct{}

func (plainSealer) Seal(table, column, row string, plain []byte) ([]byte, error) {
	return append([]byte(table+"|"+column+"|"+row+"|"), plain...), nil
}

func (plainSealer) Open(table, column, row string, sealed []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, []byte(table+"|"+column+"|"+row+"|"))
	if !ok {
		return nil, errors.New("elsewhere")
	}
	return plain, nil
}

func TestInstances(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		s, ctx := open(), t.Context()
		instances := store.NewInstances(s, plainSealer{})
		for _, in := range [][3]string{
			{"upstream", "main", `{"key":"a"}`},
			{"upstream", "Main", `{"key":"b"}`},
			{"upstream", "积木 🧱", `{"key":"c"}`},
			{"alipay", "main", `{"key":"d"}`},
			{"upstream", "main", `{"key":"e"}`},
		} {
			bumped(t, s, true, func() error { return instances.Put(ctx, in[0], in[1], []byte(in[2])) })
		}
		got, err := instances.List(ctx, "upstream")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, in := range got {
			names = append(names, in.Name+" "+string(in.Config))
		}
		if diff := cmp.Diff([]string{`Main {"key":"b"}`, `main {"key":"e"}`, `积木 🧱 {"key":"c"}`}, names); diff != "" {
			t.Error(diff)
		}
		if in, err := instances.Get(ctx, "alipay", "main"); err != nil || string(in.Config) != `{"key":"d"}` || in.Created.IsZero() {
			t.Errorf("%+v, %v", in, err)
		}
		bumped(t, s, true, func() error { return instances.Delete(ctx, "alipay", "main") })
		if err := instances.Delete(ctx, "alipay", "main"); codeOf(err) != jimu.NotFound {
			t.Error(err)
		}
		if _, err := instances.Get(ctx, "alipay", "main"); codeOf(err) != jimu.NotFound {
			t.Error(err)
		}
		if _, err := s.Main.Exec(ctx, "UPDATE instances SET name = 'moved' WHERE kind = 'upstream' AND name = 'Main'"); err != nil {
			t.Fatal(err)
		}
		if in, err := instances.Get(ctx, "upstream", "moved"); err == nil {
			t.Errorf("a configuration moved to another row opens: %+v", in)
		}
	})
}
