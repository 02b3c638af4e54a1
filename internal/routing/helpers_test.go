package routing

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
)

// fake is a provider without a dialect.
type fake struct{ up jimu.Upstream }

func (*fake) BrickInfo() jimu.BrickInfo {
	return jimu.BrickInfo{ID: "fake", New: func() jimu.Brick { return new(fake) }}
}

func (*fake) Vendors() []jimu.Vendor {
	return []jimu.Vendor{{ID: "paid"}, {ID: "local", Free: true, Keyless: true}, {ID: "demo"}}
}
func (f *fake) Upstream() *jimu.Upstream { return &f.up }
func (f *fake) Endpoint(op jimu.Operation, key jimu.Secret) (jimu.Endpoint, bool) {
	return jimu.Endpoint{URL: f.up.BaseURL + "/" + string(op), Header: http.Header{"Key": {key.Reveal()}}}, op != jimu.OpEmbeddings
}
func (*fake) Rewrite(dst []byte, _ *jimu.Call, _ string) ([]byte, error) { return dst, nil }
func (*fake) Read([]byte, *jimu.Meter) jimu.Signal                       { return 0 }
func (*fake) Classify(int, http.Header, []byte) jimu.Fault               { return jimu.Fault{} }

var _ jimu.Provider = (*fake)(nil)

// bench is a router with a clock that stands still until it is moved.
type bench struct {
	*Router
	now time.Time
	in  Inputs
}

func newBench(tb testing.TB, ups ...jimu.Upstream) *bench {
	tb.Helper()
	b := &bench{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	seed := uint64(1)
	b.Router = New(Options{
		Now:  func() time.Time { return b.now },
		Rand: func() uint64 { return random(&seed) },
		Log:  slog.New(slog.DiscardHandler),
	})
	b.in.Price = func(model string) *jimu.Price { return price(tb, model) }
	b.set(tb, ups...)
	return b
}

func price(tb testing.TB, model string) *jimu.Price {
	tb.Helper()
	if strings.HasPrefix(model, "unpriced") {
		return nil
	}
	p := &jimu.Price{Model: model, Rates: jimu.Rates{In: 10, Out: 20}}
	if strings.HasPrefix(model, "cached") {
		p.InCached = new(jimu.Credit(1))
	}
	if err := p.Seal(); err != nil {
		tb.Fatal(err)
	}
	return p
}

func (b *bench) set(tb testing.TB, ups ...jimu.Upstream) {
	tb.Helper()
	b.in.Upstreams = nil
	for _, u := range ups {
		if u.Vendor == "" {
			u.Vendor = "paid"
		}
		b.in.Upstreams = append(b.in.Upstreams, &fake{u})
	}
	if err := b.Set(b.in); err != nil {
		tb.Fatal(err)
	}
}

func up(name string, models ...string) jimu.Upstream {
	return jimu.Upstream{Name: name, Key: jimu.NewSecret("key-" + name), Models: models}
}

var anyone = &jimu.Caller{User: "u", Account: "user:u"}

func (b *bench) route(tb testing.TB, model string) []*jimu.Target {
	tb.Helper()
	ts, err := b.Route(nil, anyone, jimu.OpChat, model)
	if err != nil {
		tb.Fatalf("routing %s: %v", model, err)
	}
	return ts
}

func names(ts []*jimu.Target) []string {
	var out []string
	for _, t := range ts {
		out = append(out, fmt.Sprintf("%s/%d", t.Upstream.Name, t.Key))
	}
	return out
}

func (b *bench) code(model string) (jimu.Code, time.Duration) {
	_, err := b.Route(nil, anyone, jimu.OpChat, model)
	if err == nil {
		return "", 0
	}
	e := jimu.ErrorOf(err)
	return e.Code, e.RetryAfter
}

func (b *bench) report(t *jimu.Target, kind jimu.FaultKind, times int) {
	for range times {
		b.Report(t, jimu.Outcome{Fault: jimu.Fault{Kind: kind}})
	}
}
