package identity

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/internal/store/storetest"
)

func TestSetup(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	_, _, err := e.Setup(ctx, "", "Ann", good)
	wantCode(t, err, jimu.Forbidden)
	old, err := e.NewSetup(ctx)
	if err != nil || len(old) != 32 {
		t.Fatalf("%q, %v", old, err)
	}
	secret, err := e.NewSetup(ctx)
	if err != nil || secret == old {
		t.Fatalf("%q, %v", secret, err)
	}
	for _, bad := range []string{"", old, secret[:31], secret + "0", strings.ToUpper(secret) + " "} {
		_, _, err := e.Setup(ctx, bad, "Ann", good)
		wantCode(t, err, jimu.Forbidden)
	}
	_, _, err = e.Setup(ctx, secret, "Ann", "short")
	wantCode(t, err, jimu.Invalid)
	e.add(t, "Taken", jimu.RoleUser)
	_, _, err = e.Setup(ctx, secret, "taken", good)
	wantCode(t, err, jimu.Conflict)
	token, c, err := e.Setup(ctx, secret, "Ann", good)
	if err != nil || c.Role != jimu.RoleOwner {
		t.Fatalf("%v, %v", c, err)
	}
	if got, err := e.Session(ctx, token); err != nil || got.User != c.User {
		t.Errorf("the owner's session: %v, %v", got, err)
	}
	_, _, err = e.Setup(ctx, secret, "Bob", good)
	wantCode(t, err, jimu.Conflict)
	if again, err := e.NewSetup(ctx); again != "" || err != nil {
		t.Errorf("a site with an owner has a setup secret: %q, %v", again, err)
	}
}

func TestSetupSecretEnds(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	secret, err := e.NewSetup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e.clock.pass(30*time.Minute - time.Second)
	if err := e.CheckSetup(ctx, secret); err != nil {
		t.Errorf("ended too early: %v", err)
	}
	e.clock.pass(time.Second)
	wantCode(t, e.CheckSetup(ctx, secret), jimu.Forbidden)
	_, _, err = e.Setup(ctx, secret, "Ann", good)
	wantCode(t, err, jimu.Forbidden)
}

// Two replicas print two links, and both are used at the same moment.
func TestSetupMakesOneOwner(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		ctx := t.Context()
		s := open()
		replicas := []*store.Store{s}
		if storetest.Replicas(s) {
			replicas = append(replicas, open())
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for n := range 4 {
			i := New(Options{People: store.NewIdentity(replicas[n%len(replicas)]), Log: slog.New(slog.DiscardHandler), Now: time.Now})
			secret, err := i.NewSetup(ctx)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				_, _, err := i.Setup(ctx, secret, "owner "+string(rune('a'+n)), good)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else if codeOf(err) != jimu.Conflict {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if made != 1 {
			t.Errorf("%d owners were made", made)
		}
	})
}
