package routing

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
)

// One and the same cost with one key, model and upstream as with ten thousand.
func BenchmarkAdmitRoute(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		for _, shape := range []string{"models", "one-model"} {
			b.Run(fmt.Sprintf("%s-%d", shape, n), func(b *testing.B) {
				r, key, model := grown(b, n, shape)
				var buf [MaxTargets]*jimu.Target
				b.ReportAllocs()
				for b.Loop() {
					c, err := r.Admit(key)
					if err != nil {
						b.Fatal(err)
					}
					ts, err := r.Route(buf[:0], c, jimu.OpChat, model)
					if err != nil {
						b.Fatal(err)
					}
					r.Report(ts[0], jimu.Outcome{FirstByte: time.Millisecond})
				}
			})
		}
	}
}

// grown makes a router with n keys and n upstreams, each with a model of its
// own, or all with the same one.
func grown(tb testing.TB, n int, shape string) (r *Router, key, model string) {
	tb.Helper()
	in := Inputs{Price: func(m string) *jimu.Price { return price(tb, m) }}
	model = "cached-model"
	for i := range n {
		key = jimu.NewKey()
		hash, _ := jimu.HashKey(key)
		in.Keys = append(in.Keys, jimu.KeyCaller{Hash: hash, Caller: jimu.Caller{Account: fmt.Sprint("user:", i)}})
		if shape == "models" {
			model = fmt.Sprint("cached-model-", i)
		}
		in.Upstreams = append(in.Upstreams, &fake{up(fmt.Sprint("upstream-", i), model)})
	}
	r = New(Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err := r.Set(in); err != nil {
		tb.Fatal(err)
	}
	return r, key, model
}

// Ten thousand keys, upstreams and models cost a request about as much as one.
func TestCostDoesNotGrow(t *testing.T) {
	best := func(n int, shape string) time.Duration {
		r, key, model := grown(t, n, shape)
		var buf [MaxTargets]*jimu.Target
		quickest := time.Hour
		for range 20 {
			began := time.Now()
			for range 200 {
				c, err := r.Admit(key)
				if err != nil {
					t.Fatal(err)
				}
				ts, err := r.Route(buf[:0], c, jimu.OpChat, model)
				if err != nil {
					t.Fatal(err)
				}
				r.Report(ts[0], jimu.Outcome{FirstByte: time.Millisecond})
			}
			quickest = min(quickest, time.Since(began))
		}
		return quickest
	}
	const most = 6 // eight targets instead of one, and colder caches
	one := best(1, "models")
	for _, shape := range []string{"models", "one-model"} {
		if many := best(10_000, shape); many > most*one {
			t.Errorf("%s: 200 requests take %s with one, %s with 10,000", shape, one, many)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r, key, model := grown(t, 100, "one-model")
	c, err := r.Admit(key)
	if err != nil {
		t.Fatal(err)
	}
	var buf [MaxTargets]*jimu.Target
	n := testing.AllocsPerRun(100, func() {
		ts, err := r.Route(buf[:0], c, jimu.OpChat, model)
		if err != nil || len(ts) != MaxTargets {
			t.Fatalf("%d targets, %v", len(ts), err)
		}
		r.Report(ts[0], jimu.Outcome{FirstByte: time.Millisecond})
	})
	if n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}
