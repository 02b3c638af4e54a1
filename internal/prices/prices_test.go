package prices

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t *testing.T, currency string, fx map[string]string) *Book {
	t.Helper()
	b, err := Load(currency, fx)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every row has a source and a date, and prices that can be charged.
func TestBook(t *testing.T) {
	t.Parallel()
	rows, err := readBook(bookJSON)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, r := range rows {
		for _, n := range append([]string{r.Model}, r.Aliases...) {
			if names[n] {
				t.Errorf("%s is there twice", n)
			}
			names[n] = true
		}
		if r.Source == "" || r.Vendor == "" || (r.Currency == "") != (r.Vendor == "demo") {
			t.Errorf("%s: source %q, vendor %q, currency %q", r.Model, r.Source, r.Vendor, r.Currency)
		}
		if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
			t.Errorf("%s: %v", r.Model, err)
		}
		if err := r.Seal(); err != nil {
			t.Error(err)
		}
		checkRates(t, &r)
	}
	for _, must := range []string{"jimu-demo", "gpt-5.6-luna", "deepseek-flash", "glm-5.3", "qwen3.8-max", "text-embedding-3-small"} {
		if !names[must] {
			t.Errorf("%s is missing", must)
		}
	}
}

// checkRates looks for rates that are missing or make no sense.
func checkRates(t *testing.T, r *row) {
	t.Helper()
	if r.In <= 0 || (r.Out <= 0) != slices.Contains(r.Abilities, "embeddings") {
		t.Errorf("%s: in %s, out %s", r.Model, r.In, r.Out)
	}
	for _, tier := range append([]jimu.Tier{{Rates: r.Rates}}, r.Tiers...) {
		if c := tier.InCached; c != nil && *c >= tier.In {
			t.Errorf("%s above %d: cached input at %s is not cheaper than %s", r.Model, tier.Above, c, tier.In)
		}
		if (tier.InCached == nil) != (r.InCached == nil) {
			t.Errorf("%s above %d: a tier without the rate for cached input charges it in full", r.Model, tier.Above)
		}
	}
}

func TestConversion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		currency string
		fx       map[string]string
		model    string
		want     string // input; "" is unknown
	}{
		{"CNY", nil, "deepseek-v4-pro", "4.5"},
		{"CNY", nil, "gpt-5.6-luna", "1.42"},
		{"CNY", map[string]string{"USD": "6.725"}, "gpt-5.6-luna", "1.345"},
		{"CNY", map[string]string{"USD": "0.000000001"}, "gpt-5.6-luna", "0.000000001"}, // rounded up
		{"CNY", nil, "jimu-demo", "1"},
		{"USD", nil, "gpt-5.6-luna", "0.2"},
		{"USD", nil, "deepseek-v4-pro", "0.63380282"}, // 4.5 × 0.140845071, rounded up
		{"USD", nil, "jimu-demo", "1"},
		{"EUR", nil, "gpt-5.6-luna", ""},
		{"EUR", nil, "jimu-demo", "1"},
		{"EUR", map[string]string{"USD": "0.9"}, "gpt-5.6-luna", "0.18"},
		{"EUR", map[string]string{"USD": "0.9"}, "deepseek-v4-pro", ""},
	} {
		b := load(t, c.currency, c.fx)
		p := b.Lookup(c.model)
		switch {
		case p == nil && c.want == "":
		case p == nil || p.In.String() != c.want || p.Version() == "" || b.Currency() != c.currency:
			t.Errorf("%s in %s at %v: %+v, want %s", c.model, c.currency, c.fx, p, c.want)
		}
	}
	if got := load(t, "EUR", nil).Skipped(); !slices.Contains(got, "USD") || !slices.Contains(got, "CNY") {
		t.Errorf("skipped %v", got)
	}
	for _, bad := range []string{"", "0", "-1", "1e3", "x", "99999999999999999999"} {
		if _, err := Load("CNY", map[string]string{"USD": bad}); jimu.ErrorOf(err).Code != jimu.Invalid {
			t.Errorf("rate %q: %v", bad, err)
		}
	}
	if _, err := Load("JPY", map[string]string{"USD": "9000000000", "CNY": "1"}); err == nil {
		t.Error("prices too large to charge are taken")
	}
}

// The whole of a price is converted: tiers, and every kind.
func TestConversionOfTiers(t *testing.T) {
	t.Parallel()
	p := load(t, "CNY", map[string]string{"USD": "10"}).Lookup("gpt-6.1-terra")
	if len(p.Tiers) != 1 || p.Tiers[0].Above != 272_000 || p.Tiers[0].In != 20*jimu.OneCredit ||
		p.Tiers[0].Out != 75*jimu.OneCredit || *p.Tiers[0].InCached != jimu.OneCredit || *p.InCacheWrite5m != 12_500_000_000 {
		t.Errorf("%+v", p)
	}
}

// What a request costs by the book, to the nano-credit.
func TestCost(t *testing.T) {
	t.Parallel()
	b := load(t, "CNY", nil)
	monday := time.Date(2026, 11, 23, 0, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		model string
		u     jimu.Usage
		at    time.Time
		want  string
	}{
		{"deepseek-flash", jimu.Usage{InText: 36, InCached: 64, OutText: 20, OutReasoning: 30}, monday, "0.00023728"},
		{"deepseek-flash", jimu.Usage{InText: 36, InCached: 64, OutText: 20, OutReasoning: 30}, monday.Add(time.Hour), "0.00047456"},
		{"deepseek-flash", jimu.Usage{InText: 36, InCached: 64, OutText: 20, OutReasoning: 30}, monday.AddDate(0, 0, -1).Add(time.Hour), "0.00023728"},
		{"gpt-6.1-terra", jimu.Usage{InText: 272_000}, monday, "1.9312"},
		{"gpt-6.1-terra", jimu.Usage{InText: 272_001}, monday, "3.8624142"},
		{"jimu-demo", jimu.Usage{InText: 1, OutText: 1}, monday, "0.000003"},
	} {
		got, err := b.Lookup(c.model).Cost(&c.u, c.at)
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %s, %v, want %s", c.model, got, err, c.want)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	b := load(t, "CNY", nil)
	for name, want := range map[string]string{
		"gpt-5-mini":                 "gpt-5-mini",
		"gpt-5-mini-2025-08-07":      "gpt-5-mini",
		"gpt-5-mini-20250807":        "gpt-5-mini",
		"gpt-5.6":                    "gpt-5.6-sol",
		"doubao-seed-2-1-pro-260915": "doubao-seed-2-1-pro",
		"deepseek-v4-flash":          "deepseek-flash",
		"MiniMax/MiniMax-M3.1-Flash": "MiniMax-M3.1-Flash",
		"gpt-5-mini-2025-13-07":      "",
		"gpt-5-mini-2025-08-32":      "",
		"gpt-5-mini-0807":            "",
		"gpt-5-minister":             "",
		"GPT-5-mini":                 "",
		"gpt":                        "",
		"-2025-08-07":                "",
		"":                           "",
	} {
		got := ""
		if p := b.Lookup(name); p != nil {
			got = p.Model
		}
		if got != want {
			t.Errorf("%q has the price of %q, want %q", name, got, want)
		}
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	base := load(t, "CNY", nil)
	price := func(model string, in jimu.Credit) jimu.Price {
		return jimu.Price{Model: model, Rates: jimu.Rates{In: in}}
	}
	b, err := base.With(price("gpt-5-mini", 1), price("gpt-*", 2), price("gpt-5*-x", 3), price("*", 4), price("mine", 5), price("mine", 6))
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]jimu.Credit{
		"gpt-5-mini": 1, "gpt-5-mini-2025-08-07": 1, "gpt-7": 2, "gpt-5.1-x": 3, "anything": 4, "mine": 6,
		"gpt-5-nano": base.Lookup("gpt-5-nano").In, // a name that is written out goes before a pattern
	} {
		if p := b.Lookup(model); p == nil || p.In != want || p.Version() == "" {
			t.Errorf("%s: %+v, want %s", model, p, want)
		}
	}
	if p := base.Lookup("mine"); p != nil {
		t.Errorf("the book it was made from has %+v", p)
	}
	again, err := b.With(price("mine", 7), price("gpt-*", 8))
	if err != nil || again.Lookup("mine").In != 7 || again.Lookup("gpt-7").In != 8 || b.Lookup("gpt-7").In != 2 {
		t.Errorf("a second layer: %v", err)
	}
	if _, err := base.With(price("", 1)); jimu.ErrorOf(err).Code != jimu.Invalid {
		t.Errorf("a price without a model: %v", err)
	}
	list := b.List()
	if !slices.IsSortedFunc(list, func(x, y jimu.Price) int { return strings.Compare(x.Model, y.Model) }) || len(list) != len(base.List())+4 {
		t.Errorf("%d prices, base %d", len(list), len(base.List()))
	}
}

func FuzzMatches(f *testing.F) {
	f.Add("gpt-*", "gpt-5")
	f.Add("a*b*c", "abbc")
	f.Add("*", "")
	f.Add("a*a", "a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := matches(pattern, name)
		if len(pattern) > 12 || len(name) > 12 {
			return
		}
		if want := slow(pattern, name); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
		if base := undated(name); !strings.HasPrefix(name, base) {
			t.Errorf("%q without its date is %q", name, base)
		}
	})
}

// slow is the definition of a match.
func slow(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	if pattern[0] != '*' {
		return name != "" && name[0] == pattern[0] && slow(pattern[1:], name[1:])
	}
	return slow(pattern[1:], name) || (name != "" && slow(pattern, name[1:]))
}
