package routing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAdmit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	key, expiring := jimu.NewKey(), jimu.NewKey()
	for i, k := range []string{key, expiring} {
		hash, _ := jimu.HashKey(k)
		c := jimu.Caller{User: fmt.Sprint("user", i)}
		if k == expiring {
			c.Expires = b.now.Add(time.Hour)
		}
		b.in.Keys = append(b.in.Keys, jimu.KeyCaller{Hash: hash, Caller: c})
	}
	b.set(t)
	for i, k := range []string{key, expiring} {
		if c, err := b.Admit(k); err != nil || c.User != fmt.Sprint("user", i) {
			t.Errorf("key %d: %v, %v", i, c, err)
		}
	}
	b.now = b.now.Add(time.Hour)
	var texts []string
	for _, k := range []string{"", "Bearer x", "sk-" + key[3:], key[:len(key)-1] + "!", jimu.NewKey(), expiring} {
		_, err := b.Admit(k)
		if jimu.ErrorOf(err).Code != jimu.Unauthorized {
			t.Errorf("%q: %v", k, err)
		}
		texts = append(texts, err.Error())
	}
	if len(slices.Compact(texts)) != 1 {
		t.Errorf("the errors tell the cases apart: %q", texts)
	}
	b.in.Keys = nil
	b.set(t)
	if _, err := b.Admit(key); jimu.ErrorOf(err).Code != jimu.Unauthorized {
		t.Errorf("a revoked key: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "gpt-5.6-sol", "gpt-5.6-luna", "unpriced-x"))
	bound := &jimu.Caller{Models: []string{"gpt-5.6-luna", "gone"}}
	for _, c := range []struct {
		caller *jimu.Caller
		op     jimu.Operation
		model  string
		code   jimu.Code
		says   string
	}{
		{anyone, jimu.OpChat, "gpt-5.6-sol", "", ""},
		{bound, jimu.OpChat, "gpt-5.6-luna", "", ""},
		{bound, jimu.OpChat, "gpt-5.6-sol", jimu.Forbidden, "gpt-5.6-sol"},
		{bound, jimu.OpChat, "never-was", jimu.Forbidden, "never-was"},
		{bound, jimu.OpChat, "gone", jimu.NotFound, "GET /v1/models"},
		{anyone, jimu.OpChat, "gpt-5.6-sole", jimu.NotFound, "did you mean gpt-5.6-sol"},
		{anyone, jimu.OpChat, "claude", jimu.NotFound, "GET /v1/models"},
		{anyone, jimu.OpChat, strings.Repeat("积", 1000), jimu.NotFound, "..."},
		{anyone, jimu.OpChat, "unpriced-x", jimu.NoPrice, "jimu price set"},
		{anyone, jimu.OpEmbeddings, "gpt-5.6-sol", jimu.Invalid, "embeddings"},
	} {
		_, err := b.Route(nil, c.caller, c.op, c.model)
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", c.model, err)
			}
			continue
		}
		if e := jimu.ErrorOf(err); e.Code != c.code || !strings.Contains(e.Text, c.says) {
			t.Errorf("%s %.20s: %s %q, want %s and %q", c.op, c.model, e.Code, e.Text, c.code, c.says)
		}
	}
}

func TestUnpriced(t *testing.T) {
	t.Parallel()
	local := up("local", "unpriced-x")
	local.Vendor = "local"
	b := newBench(t, up("a", "unpriced-x"), local)
	if got := names(b.route(t, "unpriced-x")); !slices.Equal(got, []string{"local/0"}) {
		t.Errorf("without a price %v serve it; only the free one may", got)
	}
	b.in.Unpriced = "free"
	b.set(t, up("a", "unpriced-x"))
	ts := b.route(t, "unpriced-x")
	if c, err := ts[0].Price.Cost(&jimu.Usage{InText: 1000}, b.now); err != nil || c != 0 || ts[0].Price.Version() == "" {
		t.Errorf("the free price costs %v, %v", c, err)
	}
	b.in.Unpriced = ""
	b.set(t, up("first", "unpriced-y=unpriced-at-first"), up("second", "unpriced-y=priced"))
	if ts := b.route(t, "unpriced-y"); len(ts) != 2 || ts[0].Price != ts[1].Price || ts[0].Price.Model != "priced" {
		t.Errorf("a new name for a model with a price: %v", names(ts))
	}
	priced := up("local", "priced")
	priced.Vendor = "local"
	b.set(t, priced)
	if p := b.route(t, "priced")[0].Price; p.In != 10 {
		t.Errorf("a price of the book does not count for a free vendor: %v", p.In)
	}
}

func TestPriorityThenWeight(t *testing.T) {
	t.Parallel()
	first, second, last := up("first", "m"), up("second", "m=other"), up("last", "m")
	first.Priority, first.Weight = 5, 3
	second.Priority = 5
	b := newBench(t, last, second, first)
	const rounds = 4000
	won := 0
	for range rounds {
		ts := b.route(t, "m")
		if len(ts) != 3 || ts[2].Upstream.Name != "last" {
			t.Fatalf("order %v", names(ts))
		}
		if ts[0].Upstream.Name == "first" {
			won++
		}
	}
	if share := float64(won) / rounds; math.Abs(share-0.75) > 0.03 {
		t.Errorf("weight 3 of 4 has a share of %.2f", share)
	}
	for _, tg := range b.route(t, "m") {
		if want := map[string]string{"first": "m", "second": "other", "last": "m"}[tg.Upstream.Name]; tg.Name != want || tg.Model != "m" {
			t.Errorf("%s serves %s as %s", tg.Upstream.Name, tg.Model, tg.Name)
		}
	}
}

func TestStickyWhereCachedInputIsCheaper(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "cached", "m"), up("b", "cached", "m"), up("c", "cached", "m"))
	firsts := func(model, account string) map[string]int {
		got := make(map[string]int)
		for range 50 {
			ts, err := b.Route(nil, &jimu.Caller{Account: account}, jimu.OpChat, model)
			if err != nil {
				t.Fatal(err)
			}
			got[ts[0].Upstream.Name]++
		}
		return got
	}
	if got := firsts("m", "x"); len(got) != 3 {
		t.Errorf("a model without cheaper cached input: %v", got)
	}
	all := make(map[string]bool)
	for i := range 30 {
		got := firsts("cached", fmt.Sprint("user:", i))
		if len(got) != 1 {
			t.Fatalf("account %d goes to %v", i, got)
		}
		for name := range got {
			all[name] = true
		}
	}
	if len(all) != 3 {
		t.Errorf("30 accounts use only %v", all)
	}
	spells := make(map[string]bool)
	for range 30 {
		b.now = b.now.Add(10 * time.Minute)
		for name := range firsts("cached", "user:1") {
			spells[name] = true
		}
	}
	if len(spells) != 3 {
		t.Errorf("one account uses only %v within five hours", spells)
	}
}

func TestKeysTakeTurns(t *testing.T) {
	t.Parallel()
	pool := jimu.Upstream{Name: "pool", Models: []string{"m"}, Keys: []jimu.Secret{jimu.NewSecret("k0"), jimu.NewSecret("k1"), jimu.NewSecret("k2")}}
	b := newBench(t, pool)
	used := make(map[string]int)
	for range 300 {
		ts := b.route(t, "m")
		if len(ts) != 3 {
			t.Fatalf("%v: want the three keys", names(ts))
		}
		used[ts[0].Endpoints[jimu.OpChat].Header.Get("Key")]++
	}
	for k, n := range used {
		if n < 60 || len(used) != 3 {
			t.Errorf("key %s was used %d times of 300 (%v)", k, n, used)
		}
	}
	for _, tg := range b.route(t, "m") {
		if tg.Key == 0 {
			b.report(tg, jimu.FaultKey, 1)
		}
		if tg.Key == 1 {
			b.Report(tg, jimu.Outcome{Fault: jimu.Fault{Kind: jimu.FaultCool, For: time.Minute}})
		}
	}
	if got := names(b.route(t, "m")); !slices.Equal(got, []string{"pool/2"}) {
		t.Errorf("with a bad and a resting key: %v", got)
	}
	h := b.Health()[0]
	if h.Keys[0].State != StateDisabled || h.Keys[1].State != StateResting || h.Keys[2].State != StateOK {
		t.Errorf("health %+v", h.Keys)
	}
	b.now = b.now.Add(time.Minute)
	if got := b.route(t, "m"); len(got) != 2 {
		t.Errorf("after the rest: %v", names(got))
	}
	pool.Keys[0] = jimu.NewSecret("new")
	b.set(t, pool)
	if got := b.route(t, "m"); len(got) != 3 {
		t.Errorf("after the bad key was changed: %v", names(got))
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m", "n"), up("b", "m"))
	a := func() *jimu.Target {
		for _, tg := range b.route(t, "m") {
			if tg.Upstream.Name == "a" {
				return tg
			}
		}
		return nil
	}
	target := a()
	for _, kind := range []jimu.FaultKind{jimu.FaultClient, jimu.FaultContent, jimu.FaultCancelled} {
		b.report(target, kind, 20)
		if a() == nil {
			t.Fatalf("fault kind %d, which is not the upstream's, put it aside", kind)
		}
	}
	b.report(target, jimu.FaultOther, breakerAt-1)
	b.report(target, jimu.FaultNone, breakerOf)
	b.report(target, jimu.FaultTimeout, breakerAt-1)
	if a() == nil {
		t.Fatal("four failures of ten put it aside")
	}
	b.report(target, jimu.FaultTransport, 1)
	if a() != nil {
		t.Fatal("five failures of ten did not put it aside")
	}
	if len(b.route(t, "n")) != 1 {
		t.Error("another model of the upstream is put aside too")
	}
	b.report(target, jimu.FaultNone, 1) // an answer to an old request
	if a() != nil {
		t.Error("an answer from before closed the breaker")
	}
	trials(t, b, target)
	b.report(target, jimu.FaultOther, breakerAt-1)
	if a() == nil {
		t.Error("old failures count after the breaker closed")
	}
}

// trials goes on from a breaker that has just opened until it closes.
func trials(t *testing.T, b *bench, target *jimu.Target) {
	t.Helper()
	first := func() bool { return b.route(t, "m")[0].Upstream.Name == "a" }
	b.now = b.now.Add(openAtFirst)
	if !first() {
		t.Error("the trial is not first")
	}
	for range 20 {
		if first() {
			t.Fatal("a second request makes the trial")
		}
	}
	b.report(target, jimu.FaultOther, 1)
	b.now = b.now.Add(openAtFirst)
	if slices.Contains(names(b.route(t, "m")), "a/0") {
		t.Error("a failed trial did not open it again, for longer")
	}
	b.now = b.now.Add(openAtFirst)
	if !first() {
		t.Fatal("no second trial")
	}
	b.report(target, jimu.FaultCancelled, 1)
	if !first() {
		t.Error("a trial whose client went away is not made again")
	}
	b.report(target, jimu.FaultNone, 1)
}

func TestOneTrialAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"))
	b.report(b.route(t, "m")[0], jimu.FaultOther, breakerAt)
	if code, after := b.code("m"); code != jimu.Unavailable || after != openAtFirst {
		t.Errorf("open: %s, try again in %s", code, after)
	}
	b.now = b.now.Add(openAtFirst)
	b.route(t, "m")
	if code, after := b.code("m"); code != jimu.Unavailable || after != probeFor {
		t.Errorf("beside a trial: %s, try again in %s", code, after)
	}
	b.now = b.now.Add(probeFor)
	b.route(t, "m") // the first trial was never reported
}

func TestAllRest(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"), up("b", "m"))
	ts := b.route(t, "m")
	b.Report(ts[0], jimu.Outcome{Fault: jimu.Fault{Kind: jimu.FaultCool, For: 90 * time.Second}})
	b.Report(ts[1], jimu.Outcome{Fault: jimu.Fault{Kind: jimu.FaultCool, For: 2500 * time.Millisecond}})
	if code, after := b.code("m"); code != jimu.RateLimited || after != 3*time.Second {
		t.Errorf("%s, try again in %s", code, after)
	}
	b.report(ts[1], jimu.FaultKey, 1)
	b.now = b.now.Add(3 * time.Second)
	if code, after := b.code("m"); code != jimu.RateLimited || after != 87*time.Second {
		t.Errorf("%s, try again in %s", code, after)
	}
	b.report(ts[0], jimu.FaultKey, 1)
	if code, after := b.code("m"); code != jimu.Unavailable || after != 0 {
		t.Errorf("all disabled: %s, try again in %s", code, after)
	}
	if !b.Reset("a") || b.Reset("nobody") {
		t.Error("reset finds the wrong upstreams")
	}
	if got := names(b.route(t, "m")); !slices.Equal(got, []string{"a/0"}) {
		t.Errorf("after a reset: %v", got)
	}
}

func TestCoolBacksOff(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"))
	target := b.route(t, "m")[0]
	for _, want := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		b.report(target, jimu.FaultCool, 1)
		if _, after := b.code("m"); int(after.Seconds()) != want {
			t.Errorf("rests %s, want %d s", after, want)
		}
		b.now = b.now.Add(time.Hour)
	}
	b.report(target, jimu.FaultNone, 1)
	b.Report(target, jimu.Outcome{Fault: jimu.Fault{Kind: jimu.FaultCool, For: 300 * time.Hour}})
	if _, after := b.code("m"); after != restAtMost {
		t.Errorf("rests %s, want %s at most", after, restAtMost)
	}
}

func TestMissingModel(t *testing.T) {
	t.Parallel()
	pool := up("a", "m", "n")
	pool.Keys = []jimu.Secret{jimu.NewSecret("second")}
	b := newBench(t, pool)
	b.report(b.route(t, "m")[0], jimu.FaultModel, 1)
	if code, after := b.code("m"); code != jimu.Unavailable || after != absentFor {
		t.Errorf("%s, try again in %s", code, after)
	}
	if len(b.route(t, "n")) != 2 {
		t.Error("another model is gone too")
	}
}

func TestLatencyOrdersTheFallbacks(t *testing.T) {
	t.Parallel()
	var ups []jimu.Upstream
	for i := range 4 {
		ups = append(ups, up(strconv.Itoa(i), "m"))
	}
	b := newBench(t, ups...)
	for _, tg := range b.route(t, "m") {
		b.Report(tg, jimu.Outcome{FirstByte: time.Duration(9-tg.Upstream.Name[0]+'0') * 100 * time.Millisecond})
	}
	for range 20 {
		if got := names(b.route(t, "m"))[1:]; !slices.IsSortedFunc(got, func(x, y string) int { return strings.Compare(y, x) }) {
			t.Fatalf("fallbacks %v; the higher names are quicker", got)
		}
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	demo := up("demo", "jimu-demo", "both")
	demo.Vendor = "demo"
	b := newBench(t, up("a", "m", "both", "unpriced-x"), demo, jimu.Upstream{Name: "learns"})
	b.in.Learned = map[string][]string{"learns": {"learned=as-it-is", "m"}, "a": {"not-asked"}}
	b.set(t, up("a", "m", "both", "unpriced-x"), demo, jimu.Upstream{Name: "learns"})
	show := func(c *jimu.Caller) []string {
		var out []string
		for _, m := range b.Models(c) {
			out = append(out, fmt.Sprint(m.ID, " ", m.Demo, " ", m.Price.In))
		}
		return out
	}
	want := []string{"both false 0.00000001", "jimu-demo true 0.00000001", "learned=as-it-is false 0.00000001", "m false 0.00000001"}
	if d := cmp.Diff(want, show(anyone)); d != "" {
		t.Errorf("models (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want[3:], show(&jimu.Caller{Models: []string{"m", "unpriced-x"}})); d != "" {
		t.Errorf("models of a bound caller (-want +got):\n%s", d)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "cached=real"), up("b", "cached"))
	b.report(b.route(t, "cached")[0], jimu.FaultKey, 1)
	text := strings.Join(b.Explain(anyone, "cached"), "\n")
	for _, want := range []string{"as real", "weight 1 of 2 (50%)", "disabled", "ten minutes"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	if got := b.Explain(anyone, "cache"); len(got) != 1 || !strings.Contains(got[0], "did you mean cached") {
		t.Errorf("%v", got)
	}
}

func TestSetRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"))
	for _, bad := range [][]jimu.Upstream{{up("a", "x"), up("a", "y")}, {up("a", "=x")}, {up("a", "x=")}} {
		b.in.Upstreams = nil
		for _, u := range bad {
			b.in.Upstreams = append(b.in.Upstreams, &fake{u})
		}
		var e *jimu.Error
		if err := b.Set(b.in); !errors.As(err, &e) {
			t.Errorf("%v: %v", bad, err)
		}
		b.route(t, "m") // the old snapshot is in force
	}
}

// Requests, reports and new snapshots at the same time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"), up("b", "m"))
	b.o.Rand = func() uint64 { return 7 }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 4)
	for i := range cap(done) {
		go func() {
			var err error
			for n := 0; ctx.Err() == nil; n++ {
				ts, e := b.Route(nil, anyone, jimu.OpChat, "m")
				if e != nil {
					continue
				}
				if len(ts) == 0 {
					err = errors.New("no target and no error")
				}
				b.Report(ts[0], jimu.Outcome{Fault: jimu.Fault{Kind: jimu.FaultKind((n + i) % 4)}, FirstByte: time.Millisecond})
			}
			done <- err
		}()
	}
	for range 200 {
		b.set(t, up("a", "m"), up("b", "m"))
		b.Reset("a")
	}
	cancel()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseModels(f *testing.F) {
	f.Add([]byte(`{"data":[{"id":"b"},{"id":"a"},{"id":"a"},{"id":""}]}`))
	f.Add([]byte(`{"data":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := ParseModels(body)
		if err == nil && (!slices.IsSorted(got) || slices.Contains(got, "")) {
			t.Errorf("%q", got)
		}
	})
}
