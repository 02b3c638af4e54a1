package jimu_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
)

func TestNewIDSortsByTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var ids []string
	for i := range 1000 {
		ids = append(ids, jimu.NewID(start.Add(time.Duration(i)*time.Millisecond)))
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 1000 || len(ids[0]) != jimu.IDLen {
		t.Error("IDs must be distinct, sorted by time and of one length")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	key := jimu.NewKey()
	hash, ok := jimu.HashKey(key)
	if again, _ := jimu.HashKey(key); !ok || hash != again {
		t.Fatalf("a fresh key %q is not accepted", key)
	}
	// Every typo of one character is refused before any look-up.
	for i := range key {
		b := []byte(key)
		b[i] = map[bool]byte{true: 'b', false: 'a'}[b[i] == 'a']
		if _, ok := jimu.HashKey(string(b)); ok {
			t.Errorf("a key with another character at %d is accepted", i)
		}
	}
	for _, bad := range []string{"", "jm_", key[1:], key + "0", strings.ToUpper(key[:3]) + key[3:], "sk-" + key[3:]} {
		if _, ok := jimu.HashKey(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func FuzzHashKey(f *testing.F) {
	f.Add("jm_000000000000000000000000000000000")
	f.Add(jimu.NewKey())
	f.Fuzz(func(t *testing.T, s string) {
		if _, ok := jimu.HashKey(s); ok && (len(s) != jimu.KeyLen || s[:3] != "jm_") {
			t.Errorf("%q is accepted", s)
		}
	})
}

func TestSecretIsNeverSeen(t *testing.T) {
	t.Parallel()
	const plain = "sk-canary-0123456789"
	type hidden struct{ key jimu.Secret }
	type config struct {
		Key  jimu.Secret   `json:"key"`
		Keys []jimu.Secret `json:"keys"`
	}
	var c config
	if err := json.Unmarshal([]byte(`{"key":"`+plain+`","keys":["`+plain+`"]}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Key.Reveal() != plain {
		t.Fatal("the secret was not read")
	}
	var log bytes.Buffer
	l := slog.New(slog.NewJSONHandler(&log, nil))
	l.Info("x", "key", c.Key, "config", c, "pointer", &c)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"log": log.String(), "json": string(b), "v": fmt.Sprintf("%v", c), "+v": fmt.Sprintf("%+v", c), "#v": fmt.Sprintf("%#v", c), "s": fmt.Sprintf("%s", c.Key), "q": fmt.Sprintf("%q", c.Key), "x": fmt.Sprintf("%x", c.Key), "d": fmt.Sprintf("%d", c.Key),
		"unexported": fmt.Sprintf("%+v %#v", hidden{c.Key}, &hidden{c.Key}),
	} {
		if strings.Contains(s, plain) || strings.Contains(s, fmt.Sprintf("%x", plain)) {
			t.Errorf("%s shows the secret: %s", name, s)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	all := jimu.Roles()
	for i, a := range all {
		for j, b := range all {
			if got := a.AtLeast(b); got != (i >= j) {
				t.Errorf("%s at least %s: %v", a, b, got)
			}
		}
	}
	if jimu.Role("root").AtLeast(jimu.RoleUser) || jimu.RoleOwner.AtLeast("root") || jimu.Role("").Valid() {
		t.Error("an unknown role ranks nowhere")
	}
}

type toy struct{ info jimu.BrickInfo }

func (t toy) BrickInfo() jimu.BrickInfo { return t.info }

func TestRegistry(t *testing.T) {
	t.Parallel()
	var r jimu.Registry
	b := toy{jimu.BrickInfo{ID: "b", New: func() jimu.Brick { return toy{} }}}
	r.Register(b)
	if _, err := r.New("b"); err != nil {
		t.Error(err)
	}
	if _, err := r.New("c"); jimu.ErrorOf(err).Code != jimu.Invalid || !strings.Contains(err.Error(), "[b]") {
		t.Errorf("an unknown brick: %v", err)
	}
	for name, bad := range map[string]toy{"twice": b, "no ID": {jimu.BrickInfo{New: b.info.New}}, "no New": {jimu.BrickInfo{ID: "x"}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: registered", name)
				}
			}()
			r.Register(bad)
		}()
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	var d jimu.Duration
	for _, bad := range []string{`90`, `"90"`, `"-1s"`, `""`, `null1`} {
		if err := d.UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%s is accepted as %v", bad, d)
		}
	}
	if err := json.Unmarshal([]byte(`"1m30s"`), &d); err != nil || d.Or(time.Second) != 90*time.Second || jimu.Duration(0).Or(time.Second) != time.Second {
		t.Errorf("got %v, %v", d, err)
	}
}
