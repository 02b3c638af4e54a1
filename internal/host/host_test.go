package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal records what happens to bricks.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := j.lines
	j.lines = nil
	return out
}

// Common is embedded, as a provider embeds jimu.Upstream.
type Common struct {
	Name  string        `json:"name"`
	Key   jimu.Secret   `json:"key"`
	Keys  []jimu.Secret `json:"keys"`
	Level int           `json:"level"`
}

type nested struct {
	Token jimu.Secret `json:"token"`
	URL   string      `json:"url"`
}

type block struct {
	Common
	Models  []string               `json:"models"`
	Deep    nested                 `json:"deep"`
	List    []nested               `json:"list"`
	ByName  map[string]jimu.Secret `json:"by_name"`
	Timeout jimu.Duration          `json:"timeout"`
	Price   *jimu.Credit           `json:"price"`
	Bad     string                 `json:"bad"` // a text to fail with

	id     string
	log    *journal
	users  atomic.Int64
	closed atomic.Int64
}

func (b *block) BrickInfo() jimu.BrickInfo {
	return jimu.BrickInfo{ID: b.id, New: func() jimu.Brick {
		return &block{id: b.id, log: b.log, Timeout: jimu.Duration(90 * time.Second), Common: Common{Level: 3}}
	}}
}

func (b *block) Provision(_ context.Context, h jimu.Host) error {
	b.log.add("provision %s %s", b.id, h.Name)
	if b.Bad == "provision" {
		return errBoom
	}
	return nil
}

func (b *block) Validate() error {
	b.log.add("validate %s %s", b.id, b.Name)
	if b.Bad == "validate" {
		return errBoom
	}
	return nil
}

func (b *block) Close() error {
	b.log.add("close %s %s", b.id, b.Name)
	if b.closed.Add(1) > 1 || b.users.Load() > 0 {
		b.log.add("BREACH: closed twice or in use")
	}
	if b.Bad == "close" {
		return errBoom
	}
	return nil
}

var errBoom = errors.New("boom")

func setup(t *testing.T, ids ...string) (*host.Host, *journal, func(pairs ...string) error) {
	t.Helper()
	j := &journal{}
	reg := new(jimu.Registry)
	for _, id := range ids {
		reg.Register(&block{id: id, log: j})
	}
	h := host.New(host.Options{
		Registry: reg, Dir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Env: func(k string) (string, bool) {
			v, ok := map[string]string{"GOOD": "s3cret", "OTHER": "0ther"}[k]
			return v, ok
		},
	})
	load := func(pairs ...string) error { return h.Load(t.Context(), entries(pairs...)) }
	return h, j, load
}

// entries makes entries of "id", "id/name" and raw JSON in turn.
func entries(pairs ...string) []host.Entry {
	var out []host.Entry
	for i := 0; i < len(pairs); i += 2 {
		id, name, _ := strings.Cut(pairs[i], "/")
		out = append(out, host.Entry{Brick: id, Name: name, Raw: json.RawMessage(pairs[i+1])})
	}
	return out
}

func shut(t *testing.T, h *host.Host) {
	t.Helper()
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// A start that fails undoes itself: the brick at fault is closed too, and those
// before it, last made first. The old set stays.
func TestFailedStartUndoesItself(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"provision", "validate"} {
		h, j, load := setup(t, "a", "b", "c")
		if err := load("a", `{"level":1}`); err != nil {
			t.Fatal(err)
		}
		j.take()
		err := load("a", `{}`, "b", `{}`, "c/two", `{"bad":"`+at+`"}`)
		if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "brick c two") {
			t.Fatalf("Load: %v, want boom of brick c two", err)
		}
		got := slices.DeleteFunc(j.take(), func(s string) bool { return strings.HasPrefix(s, "validate") })
		want := []string{"provision a main", "provision b main", "provision c two", "close c two", "close b main", "close a main"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		s, release := h.Acquire()
		if b, ok := host.Find[*block](s, "a", "main"); !ok || b.Level != 1 {
			t.Errorf("the old set is gone: %v", s.Instances())
		}
		release()
		shut(t, h)
	}
}

func TestFillsEverything(t *testing.T) {
	t.Parallel()
	h, _, load := setup(t, "a")
	err := load("a/x", `{"key":"env:GOOD","keys":["env:OTHER","plain"],"models":["m"],"timeout":"5s","price":"1.5",
		"deep":{"token":"env:GOOD","url":"env:GOOD"},"list":[{"token":"env:OTHER"}],"by_name":{"q":"env:GOOD"}}`)
	if err != nil {
		t.Fatal(err)
	}
	defer shut(t, h)
	s, release := h.Acquire()
	defer release()
	b := host.All[*block](s)[0]
	got := []string{
		b.Name, b.Key.Reveal(), b.Keys[0].Reveal(), b.Keys[1].Reveal(), b.Deep.Token.Reveal(), b.Deep.URL,
		b.List[0].Token.Reveal(), b.ByName["q"].Reveal(), time.Duration(b.Timeout).String(), b.Price.String(), strconv.Itoa(b.Level),
	}
	want := []string{"x", "s3cret", "0ther", "plain", "s3cret", "env:GOOD", "0ther", "s3cret", "5s", "1.5", "3"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ id, raw, want string }{
		{"a", `{"modells":[]}`, `@modells: brick a: unknown key "modells"; did you mean "models"?`},
		{"a", `{"deep":{"tokn":"x"}}`, `@deep.tokn: brick a: unknown key "tokn"; did you mean "token"?`},
		{"a", `{"list":[{},{"zzzzzzzz":1}]}`, `@list[1].zzzzzzzz: brick a: unknown key "zzzzzzzz"; known are token, url`},
		{"a", `{"MODELS":[]}`, `unknown key "MODELS"`},
		{"a", `{"closed":1}`, `unknown key "closed"`},
		{"a", `{"models":["x",5]}`, `@models[1]: brick a: models[1] must be text, not a number; quote it`},
		{"a", `{"models":["x",null]}`, `@models[1]: brick a: models[1] is empty`},
		{"a", `{"models":"x"}`, `models must be a list`},
		{"a", `{"deep":[]}`, `deep must be a map`},
		{"a", `{"key":5}`, `key must be text (secret), not a number; quote it`},
		{"a", `{"level":"5"}`, `level must be whole number, not a string`},
		{"a", `{"timeout":"5 minutes"}`, `timeout: "5 minutes" is not a duration: write one such as "90s"`},
		{"a", `{"price":"1,5"}`, `price: "1,5" is not an amount`},
		{"a", `{"level":1,"level":2}`, `key "level" is written twice`},
		{"a", `{"key":"env:NONE"}`, `@key: brick a: key: the environment variable NONE is not set`},
		{"a", `{"keys":["x","env:NONE"]}`, `@keys[1]`},
		{"a", `{"by_name":{"q":"file:/nowhere"}}`, `by_name.q: there is no file /nowhere`},
		{"a", `{"key":"file:` + open + `"}`, `can be read or changed by others (mode 0644); run: chmod 600`},
		{"b", `{}`, `brick b is not in this build, which has [a]`},
		{"", `{"vendor":"x"}`, `unknown vendor "x"`},
	} {
		h, j, _ := setup(t, "a")
		e := host.Entry{Brick: c.id, Raw: json.RawMessage(c.raw), Where: func(p string) string { return "@" + p }}
		err := h.Load(t.Context(), []host.Entry{e})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", c.raw, err, c.want)
		}
		if lines := j.take(); len(lines) > 0 {
			t.Errorf("%s: a brick was started: %v", c.raw, lines)
		}
	}
}

// All mistakes of all instances are told at once.
func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	_, _, load := setup(t, "a", "b")
	err := load("a", `{"x":1,"key":"env:NONE"}`, "b", `{"level":[]}`, "a", `{}`)
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 {
		t.Errorf("want four mistakes, got: %v", err)
	}
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := host.New(host.Options{Dir: dir})
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want, fail    string
	}{
		{"ok", "abc\n", 0o600, "abc", ""},
		{"group", "abc", 0o640, "abc", ""},
		{"keepspace", " a b \r\n", 0o400, " a b ", ""},
		{"world", "abc", 0o604, "", "chmod 600"},
		{"groupwrite", "abc", 0o620, "", "chmod 600"},
		{"pub", "-----BEGIN PUBLIC KEY-----\nx", 0o644, "-----BEGIN PUBLIC KEY-----\nx", ""},
		{"priv", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----", 0o644, "", "chmod 600"},
		{"empty", "\n", 0o600, "", "is empty"},
		{"big", strings.Repeat("x", 65<<10), 0o600, "", "larger than 64 KiB"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := h.Resolve(jimu.NewSecret("file:" + c.name))
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) || strings.Contains(err.Error(), "abc") {
				t.Errorf("%s: got %v, want an error with %q", c.name, err, c.fail)
			}
			continue
		}
		if err != nil || got.Reveal() != c.want {
			t.Errorf("%s: got %q, %v", c.name, got.Reveal(), err)
		}
	}
}

// What did not change is kept; what changed is closed when its last user lets go.
func TestSwapKeepsAndDrains(t *testing.T) {
	t.Parallel()
	h, j, load := setup(t, "a", "b")
	if err := load("a", `{}`, "b", `{"level":1}`); err != nil {
		t.Fatal(err)
	}
	s1, release1 := h.Acquire()
	a1, _ := host.Find[*block](s1, "a", "main")
	j.take()
	if err := load("a", `{}`, "b", `{"level":2}`); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"provision b main", "validate b main"}, j.take()); d != "" {
		t.Errorf("after the swap: %s", d)
	}
	s2, release2 := h.Acquire()
	a2, _ := host.Find[*block](s2, "a", "main")
	if a1 != a2 {
		t.Error("the unchanged brick was made anew")
	}
	if d := cmp.Diff([]string{"a main", "b main"}, names(s2)); d != "" {
		t.Error(d)
	}
	release1()
	release1() // a second call does nothing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close while in use: %v", err)
	}
	if b2, _ := host.Find[*block](s2, "b", "main"); b2.closed.Load() != 0 || a2.closed.Load() != 0 {
		t.Error("closed while in use")
	}
	release2()
	shut(t, h)
	got := j.take()
	slices.Sort(got)
	if d := cmp.Diff([]string{"close a main", "close b main", "close b main"}, got); d != "" {
		t.Error(d)
	}
	if err := load("a", `{}`); err == nil {
		t.Error("a closed host loads")
	}
	s, release := h.Acquire()
	release()
	if len(s.Instances()) != 0 {
		t.Error("a closed host has bricks")
	}
}

func names(s *host.Set) []string {
	var out []string
	for _, i := range s.Instances() {
		out = append(out, i.Brick+" "+i.Name)
	}
	return out
}

// A secret that changed outside the file makes a new instance.
func TestChangedSecretMakesANewInstance(t *testing.T) {
	t.Parallel()
	h, j, load := setup(t, "a")
	defer shut(t, h)
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	for i, content := range []string{"one", "one", "two"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := load("a", `{"key":"file:`+path+`"}`); err != nil {
			t.Fatal(err)
		}
		made := slices.Contains(j.take(), "provision a main")
		if want := i != 1; made != want {
			t.Errorf("load %d: made anew %v, want %v", i, made, want)
		}
	}
}

// Under load, sets are swapped again and again: nobody ever holds a closed
// brick, and each brick is closed exactly once.
func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	h, j, load := setup(t, "a", "b", "c")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var uses atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, release := h.Acquire()
				for _, b := range host.All[*block](s) {
					b.users.Add(1)
					if b.closed.Load() != 0 {
						j.add("BREACH: a user holds a closed brick")
					}
					b.users.Add(-1)
				}
				uses.Add(1)
				release()
			}
		})
	}
	rounds := 1000
	for i := range rounds {
		if err := load("a", `{}`, "b", fmt.Sprintf(`{"level":%d}`, i), "c", fmt.Sprintf(`{"level":%d}`, rand.IntN(3))); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	shut(t, h)
	count := map[string]int{}
	for _, l := range j.take() {
		if strings.HasPrefix(l, "BREACH") {
			t.Fatal(l)
		}
		verb, rest, _ := strings.Cut(l, " ")
		count[verb+" "+rest[:1]]++
	}
	if count["provision b"] != rounds || count["provision a"] != 1 {
		t.Errorf("made: %v", count)
	}
	for _, id := range []string{"a", "b", "c"} {
		if count["provision "+id] != count["close "+id] {
			t.Errorf("%s was made %d times and closed %d times", id, count["provision "+id], count["close "+id])
		}
	}
	if uses.Load() == 0 {
		t.Error("nobody used a set")
	}
}

// Check makes and closes, and changes nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	h, j, load := setup(t, "a")
	if err := load("a", `{}`); err != nil {
		t.Fatal(err)
	}
	j.take()
	if err := h.Check(t.Context(), entries("a", `{}`)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"provision a main", "validate a main", "close a main"}, j.take()); d != "" {
		t.Error(d)
	}
	if err := h.Check(t.Context(), entries("a", `{"bad":"close"}`)); !errors.Is(err, errBoom) {
		t.Errorf("Check: %v", err)
	}
	shut(t, h)
}

// A brick that fails to close is told of in the log, and no secret is.
func TestCloseErrorsAreLogged(t *testing.T) {
	t.Parallel()
	j, reg := &journal{}, new(jimu.Registry)
	reg.Register(&block{id: "a", log: j})
	var logged bytes.Buffer
	h := host.New(host.Options{
		Registry: reg, Now: time.Now, Log: slog.New(slog.NewTextHandler(&logged, nil)),
		Env: func(string) (string, bool) { return "", false },
	})
	if err := h.Load(t.Context(), entries("a", `{"bad":"close","key":"hush"}`)); err != nil {
		t.Fatal(err)
	}
	shut(t, h)
	if !strings.Contains(logged.String(), "boom") || strings.Contains(logged.String(), "hush") {
		t.Errorf("log: %s", logged.String())
	}
}

// FuzzLoad: no configuration makes the host panic, and one that is refused
// starts nothing.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		`{"key":"env:GOOD","list":[{"token":"x"}],"by_name":{"q":"file:y"}}`, `{"timeout":"1h","price":1.5,"models":[]}`,
		`[]`, `null`, ``, `{"deep":null,"level":1e99}`, `{"a":1,"a":2}`, `{"by_name":{"x":{}}}`, `{"name":5}`,
	} {
		f.Add([]byte(s))
	}
	j, reg := &journal{}, new(jimu.Registry)
	reg.Register(&block{id: "a", log: j})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := host.New(host.Options{
			Registry: reg, Dir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Env: func(string) (string, bool) { return "v", true },
		})
		err := h.Load(t.Context(), []host.Entry{{Brick: "a", Raw: raw}})
		host.Mask(reg)("a", raw)
		shut(t, h)
		if lines := j.take(); err != nil && !errors.Is(err, errBoom) && len(lines) > 0 {
			t.Errorf("refused (%v), but: %v", err, lines)
		}
	})
}
