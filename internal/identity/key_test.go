package identity

import (
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann, bob := e.add(t, "Ann", jimu.RoleUser), e.add(t, "Bob", jimu.RoleUser)
	limit, expires := 5*jimu.OneCredit, e.clock.Now().Add(time.Hour)
	k, secret, err := e.CreateKey(ctx, ann.User, &jimu.Key{
		Name: "ci", Models: []string{"m1"}, Limit: &limit, Expires: &expires, Limits: jimu.Limits{RPM: 5},
		ID: "mine", User: bob.User, Spent: -1, Tail: "zzzz", // not the caller's to say
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := jimu.HashKey(secret); !ok || k.Tail != secret[len(secret)-4:] || k.User != ann.User || k.ID == "mine" || k.Spent != 0 {
		t.Errorf("key %q: %+v", secret, k)
	}
	list, next, err := e.Keys(ctx, ann.User, "", 10)
	if err != nil || next != "" || len(list) != 1 || list[0].ID != k.ID || *list[0].Limit != limit {
		t.Errorf("list: %+v, %q, %v", list, next, err)
	}
	wantCode(t, e.RevokeKey(ctx, bob.User, k.ID), jimu.NotFound)
	if err := e.RevokeKey(ctx, ann.User, k.ID); err != nil {
		t.Fatal(err)
	}
	if list, _, _ = e.Keys(ctx, ann.User, "", 10); list[0].Revoked == nil {
		t.Error("the key is not revoked")
	}
}

func TestKeyOnce(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann, bob := e.add(t, "Ann", jimu.RoleUser), e.add(t, "Bob", jimu.RoleUser)
	for n, c := range []struct {
		user, once string
		want       jimu.Code
	}{{ann.User, "r1", ""}, {ann.User, "r1", jimu.Conflict}, {ann.User, "r2", ""}, {bob.User, "r1", ""}, {ann.User, "", ""}, {ann.User, "", ""}} {
		_, _, err := e.CreateKey(ctx, c.user, &jimu.Key{Name: "k"}, c.once)
		if codeOf(err) != c.want || (err != nil && c.want == "") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestKeyRefused(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann := e.add(t, "Ann", jimu.RoleUser)
	for param, k := range map[string]*jimu.Key{
		"name":    {Name: " "},
		"models":  {Name: "k", Models: []string{""}},
		"limit":   {Name: "k", Limit: new(jimu.Credit(0))},
		"limits":  {Name: "k", Limits: jimu.Limits{TPM: -1}},
		"expires": {Name: "k", Expires: new(e.clock.Now())},
	} {
		_, _, err := e.CreateKey(ctx, ann.User, k, "")
		wantCode(t, err, jimu.Invalid)
		if got := jimu.ErrorOf(err).Param; got != param {
			t.Errorf("param %q, want %q", got, param)
		}
	}
	_, _, err := e.CreateKey(ctx, ann.User, &jimu.Key{Name: "k", Models: make([]string, maxKeyModels+1)}, "")
	wantCode(t, err, jimu.Invalid)
}

func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	e, ctx := setup1(t), t.Context()
	ann := e.add(t, "Ann", jimu.RoleUser)
	var last string
	for range maxKeys {
		k, _, err := e.CreateKey(ctx, ann.User, &jimu.Key{Name: "k"}, "")
		if err != nil {
			t.Fatal(err)
		}
		last = k.ID
	}
	_, _, err := e.CreateKey(ctx, ann.User, &jimu.Key{Name: "k"}, "")
	wantCode(t, err, jimu.Conflict)
	if err := e.RevokeKey(ctx, ann.User, last); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.CreateKey(ctx, ann.User, &jimu.Key{Name: "k"}, ""); err != nil {
		t.Errorf("a revoked key still counts: %v", err)
	}
}
