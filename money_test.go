package jimu_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/jimu-ai/jimu"
)

func TestParseCredit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want jimu.Credit
		out  string // what String writes; in itself if empty
	}{
		{in: "0", want: 0},
		{in: "1", want: 1e9},
		{in: "12.5", want: 125e8},
		{in: "0.000000001", want: 1},
		{in: "-0.000000001", want: -1},
		{in: "1.10", want: 11e8, out: "1.1"},
		{in: "0.29", want: 29e7},
		{in: "9223372036.854775807", want: math.MaxInt64},
	} {
		got, err := jimu.ParseCredit(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseCredit(%q) = %d, %v; want %d", tt.in, got, err, tt.want)
		}
		if tt.out == "" {
			tt.out = tt.in
		}
		if s := got.String(); s != tt.out {
			t.Errorf("String of %q is %q, want %q", tt.in, s, tt.out)
		}
	}
	for _, in := range []string{"", "-", ".", "1.", ".5", "+1", "1e3", " 1", "1 ", "1,5", "0x1", "1.0000000001", "--1", "1.-5", "NaN", "٣", "9223372036.854775808", "99999999999999999999"} {
		if got, err := jimu.ParseCredit(in); err == nil {
			t.Errorf("ParseCredit(%q) = %d, want an error", in, got)
		}
	}
	if s := jimu.Credit(math.MinInt64).String(); s != "-9223372036.854775808" {
		t.Errorf("smallest amount is written %q", s)
	}
}

func TestCreditJSON(t *testing.T) {
	t.Parallel()
	var got struct{ A, B jimu.Credit }
	if err := json.Unmarshal([]byte(`{"A":"0.1","B":0.3}`), &got); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"A":"0.1","B":"0.3"}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	if err := json.Unmarshal([]byte(`{"A":1e2}`), &got); err == nil {
		t.Error("an exponent was accepted")
	}
}

// L11: arithmetic is exact or refused, never wrapped.
func TestL11CreditNeverWraps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		for name, op := range map[string]struct {
			got  func() (jimu.Credit, error)
			want *big.Int
		}{
			"add": {func() (jimu.Credit, error) { return jimu.Credit(a).Add(jimu.Credit(b)) }, new(big.Int).Add(big.NewInt(a), big.NewInt(b))},
			"sub": {func() (jimu.Credit, error) { return jimu.Credit(a).Sub(jimu.Credit(b)) }, new(big.Int).Sub(big.NewInt(a), big.NewInt(b))},
		} {
			got, err := op.got()
			switch {
			case err == nil && op.want.Cmp(big.NewInt(int64(got))) != 0:
				t.Fatalf("%s(%d, %d) = %d", name, a, b, got)
			case err != nil && (!errors.Is(err, jimu.ErrOverflow) || (op.want.IsInt64() && b != math.MinInt64)):
				t.Fatalf("%s(%d, %d): %v", name, a, b, err)
			}
		}
		if back, err := jimu.ParseCredit(jimu.Credit(a).String()); a != math.MinInt64 && (err != nil || int64(back) != a) {
			t.Fatalf("%d came back as %d, %v", a, back, err)
		}
	})
}

func FuzzParseCredit(f *testing.F) {
	for _, s := range []string{"1", "-1.5", "0.000000001", "1e9", ".", "9223372036.854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := jimu.ParseCredit(s)
		if err != nil {
			return
		}
		if back, err := jimu.ParseCredit(c.String()); err != nil || back != c {
			t.Errorf("%q is %d, written %q, read as %d, %v", s, c, c, back, err)
		}
	})
}

func credits(s string) *jimu.Credit {
	c, err := jimu.ParseCredit(s)
	if err != nil {
		panic(err)
	}
	return &c
}

func TestPriceCost(t *testing.T) {
	t.Parallel()
	monday := time.Date(2026, 11, 23, 0, 30, 0, 0, time.UTC)
	plain := jimu.Price{Model: "m", Rates: jimu.Rates{In: *credits("2"), Out: *credits("8")}}
	full := jimu.Price{
		Model: "m",
		Rates: jimu.Rates{
			In: *credits("2"), InCached: credits("0.4"), InCacheWrite5m: credits("2.5"),
			Out: *credits("8"), OutReasoning: credits("10"), WebSearch: *credits("0.07"), Request: *credits("0.001"),
		},
		Tiers:   []jimu.Tier{{Above: 1000, Rates: jimu.Rates{In: *credits("4"), Out: *credits("12")}}},
		Windows: []jimu.Window{{Days: []int{1, 2, 3, 4, 5}, From: "01:00", To: "04:00", Percent: 200}, {From: "23:00", To: "00:10", Percent: 50}},
	}
	for _, tt := range []struct {
		name  string
		price jimu.Price
		usage jimu.Usage
		at    time.Time
		want  string
	}{
		{name: "nothing costs nothing", price: plain, want: "0"},
		{name: "by the token", price: plain, usage: jimu.Usage{InText: 1000, OutText: 500}, want: "0.006"},
		{name: "rounded up to the nano-credit", price: jimu.Price{Model: "m", Rates: jimu.Rates{In: 1}}, usage: jimu.Usage{InText: 1}, want: "0.000000001"},
		{name: "a kind without a rate is charged like its parent", price: plain, usage: jimu.Usage{InCached: 10, InAudio: 10, OutReasoning: 10}, want: "0.00012"},
		{name: "each kind at its own rate", price: full, at: monday, usage: jimu.Usage{InText: 100, InCached: 50, InCacheWrite5m: 10, OutText: 20, OutReasoning: 30, WebSearches: 2}, want: "0.141705"},
		{name: "a tier replaces the rates of the whole request", price: full, at: monday, usage: jimu.Usage{InText: 1001, OutText: 1}, want: "0.004016"},
		{name: "at the tier's border the lower rates hold", price: full, at: monday, usage: jimu.Usage{InText: 1000}, want: "0.003"},
		{name: "peak hours double", price: full, at: monday.Add(time.Hour), usage: jimu.Usage{InText: 500}, want: "0.004"},
		{name: "not at the weekend", price: full, at: monday.Add(-23 * time.Hour), usage: jimu.Usage{InText: 500}, want: "0.002"},
		{name: "a window over midnight", price: full, at: monday.Add(-25 * time.Minute), usage: jimu.Usage{InText: 500}, want: "0.001"},
		{name: "the time zone of the clock does not matter", price: full, at: monday.Add(time.Hour).In(time.FixedZone("x", 8*3600)), usage: jimu.Usage{InText: 500}, want: "0.004"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.price.Seal(); err != nil {
				t.Fatal(err)
			}
			got, err := tt.price.Cost(&tt.usage, tt.at)
			if err != nil || got.String() != tt.want {
				t.Errorf("cost is %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// L11: a cost is what unbounded arithmetic says, or refused.
func TestL11CostIsExactOrRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in, out := rapid.Int64Range(0, 1e10).Draw(t, "in"), rapid.Int64Range(0, 1e10).Draw(t, "out")
		rin, rout := rapid.Int64Range(0, 1e15).Draw(t, "rate in"), rapid.Int64Range(0, 1e15).Draw(t, "rate out")
		percent := rapid.Int64Range(0, 10000).Draw(t, "percent")
		p := jimu.Price{
			Model: "m", Rates: jimu.Rates{In: jimu.Credit(rin), Out: jimu.Credit(rout)},
			Windows: []jimu.Window{{From: "00:00", To: "23:59", Percent: percent}},
		}
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
		mul := func(a, b int64) *big.Int { return new(big.Int).Mul(big.NewInt(a), big.NewInt(b)) }
		want := mul(in, rin)
		want.Add(want, mul(out, rout)).Mul(want, big.NewInt(percent))
		want.Add(want, big.NewInt(100*1e6-1)).Div(want, big.NewInt(100*1e6))
		got, err := p.Cost(&jimu.Usage{InText: in, OutText: out}, time.Unix(0, 0))
		if (err == nil) != want.IsInt64() || (err == nil && int64(got) != want.Int64()) {
			t.Fatalf("cost is %d, %v; want %d", got, err, want)
		}
	})
}

func TestPriceSeal(t *testing.T) {
	t.Parallel()
	price := func(edit func(*jimu.Price)) *jimu.Price {
		p := &jimu.Price{Model: "m", Rates: jimu.Rates{In: 1, Out: 2}}
		edit(p)
		return p
	}
	for name, p := range map[string]*jimu.Price{
		"no model":       price(func(p *jimu.Price) { p.Model = "" }),
		"negative":       price(func(p *jimu.Price) { p.Out = -1 }),
		"negative kind":  price(func(p *jimu.Price) { p.InCached = credits("-1") }),
		"absurd":         price(func(p *jimu.Price) { p.In = 1e6*jimu.OneCredit + 1 }),
		"tiers fall":     price(func(p *jimu.Price) { p.Tiers = []jimu.Tier{{Above: 2}, {Above: 1}} }),
		"tier from 0":    price(func(p *jimu.Price) { p.Tiers = []jimu.Tier{{}} }),
		"bad time":       price(func(p *jimu.Price) { p.Windows = []jimu.Window{{From: "9:00", To: "10:00"}} }),
		"bad day":        price(func(p *jimu.Price) { p.Windows = []jimu.Window{{Days: []int{7}, From: "09:00", To: "10:00"}} }),
		"bad percentage": price(func(p *jimu.Price) { p.Windows = []jimu.Window{{From: "09:00", To: "10:00", Percent: -1}} }),
	} {
		if err := p.Seal(); jimu.ErrorOf(err).Code != jimu.Invalid {
			t.Errorf("%s: sealed with %v", name, err)
		}
	}
	a, b, c := price(func(*jimu.Price) {}), price(func(p *jimu.Price) { p.Source = "elsewhere" }), price(func(p *jimu.Price) { p.In = 3 })
	for _, p := range []*jimu.Price{a, b, c} {
		if err := p.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	if a.Version() != b.Version() || a.Version() == c.Version() || len(a.Version()) != 20 {
		t.Errorf("versions %q %q %q: the same charges must have the same version, others another", a.Version(), b.Version(), c.Version())
	}
}

func TestUsageSane(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		usage   jimu.Usage
		context int64
		want    bool
	}{
		"nothing":             {want: true},
		"ordinary":            {usage: jimu.Usage{InText: 10, InCached: 5, OutText: 7}, context: 100, want: true},
		"negative":            {usage: jimu.Usage{InText: -1}},
		"negative cached":     {usage: jimu.Usage{InText: 10, InCached: -5}},
		"absurd":              {usage: jimu.Usage{OutText: 1e10 + 1}},
		"beyond the context":  {usage: jimu.Usage{InText: 60, InCached: 41}, context: 100},
		"context not known":   {usage: jimu.Usage{InText: 1e9}, want: true},
		"negative web search": {usage: jimu.Usage{WebSearches: -1}},
	} {
		if got := tt.usage.Sane(tt.context); got != tt.want {
			t.Errorf("%s: sane is %v, want %v", name, got, tt.want)
		}
	}
}

func TestErrorOf(t *testing.T) {
	t.Parallel()
	hidden := errors.New("disk on fire")
	if e := jimu.ErrorOf(hidden); e.Code != jimu.Internal || !errors.Is(e, hidden) || cmp.Equal(e.Text, hidden.Error()) {
		t.Errorf("an unknown error became %#v", e)
	}
	if e := jimu.ErrorOf(errors.Join(hidden, jimu.Errorf(jimu.NoCredit, "top up"))); e.Code != jimu.NoCredit || e.Text != "top up" {
		t.Errorf("a known error became %#v", e)
	}
}
