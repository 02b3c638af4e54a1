package routing

import (
	"slices"
	"testing"

	"github.com/jimu-ai/jimu"
)

// What is held against an upstream outlives a new snapshot, unless the
// upstream changed.
func TestHealthOutlivesASwap(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"), up("b", "m"))
	old := b.route(t, "m")
	for _, tg := range old {
		if tg.Upstream.Name == "a" {
			b.report(tg, jimu.FaultKey, 1)
		}
	}
	b.set(t, up("a", "m", "added"), up("b", "m"))
	if got := names(b.route(t, "m")); !slices.Equal(got, []string{"b/0"}) {
		t.Errorf("after a swap: %v", got)
	}
	if code, _ := b.code("added"); code != jimu.Unavailable {
		t.Errorf("a model added to a disabled key: %s", code)
	}
	for _, tg := range old { // requests that began before the swap end after it
		b.report(tg, jimu.FaultOther, breakerAt)
	}
	if code, _ := b.code("m"); code != jimu.Unavailable {
		t.Errorf("a report on an old target is lost: %s", code)
	}
	moved := up("a", "m")
	moved.BaseURL = "http://elsewhere"
	b.set(t, moved)
	b.route(t, "m")
	for _, tg := range old {
		b.report(tg, jimu.FaultKey, 1)
	}
	b.route(t, "m")
}

// A target stays the same value while nothing about it changes.
func TestTargetsOutliveASwap(t *testing.T) {
	t.Parallel()
	b := newBench(t, up("a", "m"), up("b", "m"))
	was := b.route(t, "m")
	if err := b.Set(b.in); err != nil {
		t.Fatal(err)
	}
	for _, tg := range b.route(t, "m") {
		if !slices.Contains(was, tg) {
			t.Errorf("%s is a new target", tg.Upstream.Name)
		}
	}
	b.in.Price = func(model string) *jimu.Price {
		p := price(t, model)
		p.Context = 5
		return p
	}
	if err := b.Set(b.in); err != nil {
		t.Fatal(err)
	}
	for _, tg := range b.route(t, "m") {
		if slices.Contains(was, tg) || tg.Price.Context != 5 {
			t.Errorf("%s has the old price", tg.Upstream.Name)
		}
	}
}
