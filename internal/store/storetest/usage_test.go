package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/store"
)

// record makes a full record that began at a time.
func record(at time.Time, user, model string) *jimu.Record {
	return &jimu.Record{
		Request: jimu.NewID(at), At: at.UTC().Truncate(time.Microsecond), User: user, Key: "key-" + user, Op: jimu.OpChat,
		Model: model, Stream: true, State: jimu.StateOK, Upstream: "主 upstream",
		Usage: jimu.Usage{
			InText: 1, InCached: 2, InCacheWrite5m: 3, InCacheWrite1h: 4, InAudio: 5, InImage: 6,
			OutText: 7, OutReasoning: 8, OutAudio: 9, OutImage: 10, WebSearches: 11, UpstreamCost: 12, Estimated: true,
		},
		Cost: 123456789, Price: "0123456789abcdef0123", First: 1500 * time.Microsecond, Took: 2 * time.Second,
		Attempts: []jimu.Attempt{
			{Upstream: "a", Key: 1, Name: "m@a", Fault: jimu.FaultCool, Status: 429, Code: "rate_limit_exceeded", Took: time.Millisecond},
			{Upstream: "主 upstream", Name: model, Status: 200, Took: 2 * time.Second},
		},
	}
}

func list(t *testing.T, u *store.Usage, f store.UsageFilter, size int) []jimu.Record {
	t.Helper()
	var all []jimu.Record
	for cursor := ""; ; {
		page, next, err := u.List(t.Context(), f, cursor, size)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		if len(page) != size {
			t.Fatalf("a page of %d before the last, want %d", len(page), size)
		}
		cursor = next
	}
}

func TestUsageRows(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		u, ctx := store.NewUsage(open()), t.Context()
		day := time.Date(2026, 11, 20, 23, 59, 0, 0, time.UTC)
		var in []*jimu.Record
		for i := range 7 {
			in = append(in, record(day.Add(time.Duration(i)*time.Minute), fmt.Sprintf("user%d", i%2), fmt.Sprintf("model%d", i%3)))
		}
		in[3].State, in[3].Code, in[3].Stream, in[3].Quarantined = jimu.StateFailed, jimu.Unavailable, false, true
		in[3].Usage, in[3].Attempts = jimu.Usage{}, nil
		for range 2 { // the second time changes nothing
			if err := u.Insert(ctx, in); err != nil {
				t.Fatal(err)
			}
			in[0].Attempts[0].Status = 500
		}
		in[0].Attempts[0].Status = 429
		if err := u.Insert(ctx, nil); err != nil {
			t.Fatal(err)
		}
		want := make([]jimu.Record, 0, len(in))
		for _, each := range slices.Backward(in) {
			r := *each
			r.Attempts = nil
			want = append(want, r)
		}
		if d := cmp.Diff(want, list(t, u, store.UsageFilter{}, 3)); d != "" {
			t.Errorf("all rows (-want +got):\n%s", d)
		}
		got, err := u.Attempts(ctx, in[0].Request)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(in[0].Attempts, got); d != "" {
			t.Errorf("attempts (-want +got):\n%s", d)
		}
		for name, c := range map[string]struct {
			f    store.UsageFilter
			want []int // indexes of in, newest first
		}{
			"user":     {store.UsageFilter{User: "user1"}, []int{5, 3, 1}},
			"key":      {store.UsageFilter{Key: "key-user0"}, []int{6, 4, 2, 0}},
			"model":    {store.UsageFilter{Model: "model2"}, []int{5, 2}},
			"state":    {store.UsageFilter{State: jimu.StateFailed}, []int{3}},
			"from":     {store.UsageFilter{From: in[5].At}, []int{6, 5}},
			"to":       {store.UsageFilter{To: in[1].At}, []int{0}},
			"together": {store.UsageFilter{User: "user0", Model: "model1", From: in[1].At, To: in[5].At}, []int{4}},
			"nothing":  {store.UsageFilter{User: "nobody"}, nil},
		} {
			var want, got []string
			for _, i := range c.want {
				want = append(want, in[i].Request)
			}
			for _, r := range list(t, u, c.f, 2) {
				got = append(got, r.Request)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("by %s (-want +got):\n%s", name, d)
			}
		}
		usageSums(t, u, in)
		usagePrune(t, u, in)
	})
}

func usageSums(t *testing.T, u *store.Usage, in []*jimu.Record) {
	t.Helper()
	ctx := t.Context()
	got, err := u.Sums(ctx, store.UsageFilter{}, store.ByDay)
	if err != nil {
		t.Fatal(err)
	}
	cost := in[0].Cost
	if d := cmp.Diff([]store.UsageSum{
		{Day: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), Requests: 1, In: 21, Out: 34, Cost: cost},
		{Day: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), Requests: 6, In: 5 * 21, Out: 5 * 34, Cost: 6 * cost},
	}, got); d != "" {
		t.Errorf("by day (-want +got):\n%s", d)
	}
	got, err = u.Sums(ctx, store.UsageFilter{User: "user0"}, store.ByModel)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]store.UsageSum{
		{Model: "model0", Requests: 2, In: 42, Out: 68, Cost: 2 * cost},
		{Model: "model1", Requests: 1, In: 21, Out: 34, Cost: cost},
		{Model: "model2", Requests: 1, In: 21, Out: 34, Cost: cost},
	}, got); d != "" {
		t.Errorf("by model (-want +got):\n%s", d)
	}
	if _, err := u.Sums(ctx, store.UsageFilter{}, "hour"); jimu.ErrorOf(err).Code != jimu.Invalid {
		t.Errorf("by hour: %v", err)
	}
}

func usagePrune(t *testing.T, u *store.Usage, in []*jimu.Record) {
	t.Helper()
	ctx := t.Context()
	for _, want := range []int64{2, 1, 0} {
		n, err := u.Prune(ctx, in[3].At, 2)
		if err != nil || n != want {
			t.Fatalf("pruned %d, %v, want %d", n, err, want)
		}
	}
	if left := list(t, u, store.UsageFilter{}, 10); len(left) != 4 || left[3].Request != in[3].Request {
		t.Errorf("left: %v", left)
	}
	if as, err := u.Attempts(ctx, in[2].Request); err != nil || len(as) != 0 {
		t.Errorf("attempts of a pruned request: %v, %v", as, err)
	}
	if as, err := u.Attempts(ctx, in[4].Request); err != nil || len(as) != 2 {
		t.Errorf("attempts of a kept request: %v, %v", as, err)
	}
}

// What a client or an upstream sends may be anything; the row is written all
// the same.
func TestUsageOfStrangeTexts(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		u, ctx := store.NewUsage(open()), t.Context()
		at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
		for _, s := range []string{"a\x00b", "\xff\xfe", strings.Repeat("x", 500), strings.Repeat("积", 300), "'; --", "🧱"} {
			r := record(at, "user", s)
			r.Attempts[0].Code, r.Attempts[0].Name, r.Code = s, s, jimu.Code(s)
			if err := u.Insert(ctx, []*jimu.Record{r}); err != nil {
				t.Errorf("%q: %v", s, err)
			}
			as, err := u.Attempts(ctx, r.Request)
			if err != nil || len(as) != 2 {
				t.Errorf("%q: %d attempts, %v", s, len(as), err)
			}
		}
		if got := list(t, u, store.UsageFilter{Model: strings.Repeat("积", 190)}, 5); len(got) != 1 {
			t.Errorf("%d rows of the long name, cut to what fits", len(got))
		}
	})
}

func TestPriceOverrides(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		t.Helper()
		s, ctx := open(), t.Context()
		p := store.NewPrices(s)
		cached := jimu.Credit(7)
		full := jimu.Price{
			Model: "gpt-*", Rates: jimu.Rates{In: 5, InCached: &cached, Out: 9},
			Tiers:   []jimu.Tier{{Above: 272_000, Rates: jimu.Rates{In: 10, Out: 13}}},
			Windows: []jimu.Window{{Days: []int{1}, From: "01:00", To: "04:00", Percent: 200}},
			Context: 1000, MaxOutput: 100, Abilities: []string{"vision"}, Source: "operator", Date: "2026-11-23",
		}
		steps := []func() error{
			func() error { return p.Set(ctx, full, "owner") },
			func() error { return p.Set(ctx, jimu.Price{Model: "a", Rates: jimu.Rates{In: 1}}, "owner") },
			func() error { return p.Set(ctx, jimu.Price{Model: "a", Rates: jimu.Rates{In: 2}}, "所有者") },
			func() error { return p.Set(ctx, jimu.Price{Model: "b"}, "owner") },
			func() error { return p.Delete(ctx, "b") },
		}
		for i, step := range steps {
			if err := step(); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if rev, err := s.Main.Revision(ctx, "routing"); err != nil || rev != int64(i+1) {
				t.Errorf("step %d: revision %d, %v", i, rev, err)
			}
		}
		if err := p.Delete(ctx, "b"); jimu.ErrorOf(err).Code != jimu.NotFound {
			t.Errorf("deleting again: %v", err)
		}
		for _, bad := range []jimu.Price{{}, {Model: "x", Rates: jimu.Rates{In: -1}}, {Model: strings.Repeat("x", 191)}, {Model: "积木"}} {
			if err := p.Set(ctx, bad, "owner"); jimu.ErrorOf(err).Code != jimu.Invalid {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		got, err := p.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := []jimu.Price{{Model: "a", Rates: jimu.Rates{In: 2}}, full}
		for i := range want {
			if err := want[i].Seal(); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(jimu.Price{})); d != "" {
			t.Errorf("prices (-want +got):\n%s", d)
		}
	})
}

// An only attempt that answered has no row of its own, and is told all the same.
func TestOnlyAttempt(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, open func() *store.Store) {
		u, ctx := store.NewUsage(open()), t.Context()
		answered, failed := record(time.Unix(1, 0), "user", "model"), record(time.Unix(2, 0), "user", "model")
		answered.Attempts = []jimu.Attempt{{Upstream: answered.Upstream, Key: 2, Name: "m@b", Status: 200, Took: answered.First}}
		failed.Attempts = []jimu.Attempt{{Upstream: "a", Name: "m@a", Fault: jimu.FaultTimeout, Took: time.Second}}
		for _, r := range []*jimu.Record{answered, failed} {
			if err := u.Insert(ctx, []*jimu.Record{r}); err != nil {
				t.Fatal(err)
			}
			got, err := u.Attempts(ctx, r.Request)
			if err != nil || cmp.Diff(r.Attempts, got) != "" {
				t.Errorf("%v (-want +got):\n%s", err, cmp.Diff(r.Attempts, got))
			}
		}
	})
}

// The cost of a record in batches of 256, each with one attempt.
func BenchmarkUsageInsert(b *testing.B) {
	const batch = 256
	u := store.NewUsage(Open(b, ""))
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	rs := make([]*jimu.Record, batch)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for i := range rs {
			rs[i] = record(at.Add(time.Duration(n*batch+i)*time.Millisecond), "user", "model")
			rs[i].Attempts = rs[i].Attempts[1:]
		}
		b.StartTimer()
		if err := u.Insert(b.Context(), rs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/record")
}
