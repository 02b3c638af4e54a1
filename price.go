package jimu

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Rates are prices by kind: nano-credits per million tokens, and nano-credits
// per event for WebSearch and Request. A kind without a rate of its own is
// charged like the kind it would otherwise be part of: every input kind like
// In, every output kind like Out.
type Rates struct {
	In             Credit  `json:"in"`
	InCached       *Credit `json:"in_cached,omitempty"`
	InCacheWrite5m *Credit `json:"in_cache_write_5m,omitempty"`
	InCacheWrite1h *Credit `json:"in_cache_write_1h,omitempty"`
	InAudio        *Credit `json:"in_audio,omitempty"`
	InImage        *Credit `json:"in_image,omitempty"`
	Out            Credit  `json:"out"`
	OutReasoning   *Credit `json:"out_reasoning,omitempty"`
	OutAudio       *Credit `json:"out_audio,omitempty"`
	OutImage       *Credit `json:"out_image,omitempty"`
	WebSearch      Credit  `json:"web_search,omitempty"`
	Request        Credit  `json:"request,omitempty"`
}

// Tier replaces the rates of a whole request whose input is above a size.
type Tier struct {
	Above int64 `json:"above"` // input tokens
	Rates
}

// Window multiplies the price between two times of day (UTC, "15:04", the end
// excluded) on some weekdays (0 is Sunday; none means every day). The request's
// start decides.
type Window struct {
	Days    []int  `json:"days,omitempty"`
	From    string `json:"from"`
	To      string `json:"to"`
	Percent int64  `json:"percent"` // 200 doubles, 50 halves
}

// Price is what a model costs and the facts about the model that routing needs.
type Price struct {
	Model string `json:"model"`
	Rates
	Tiers     []Tier   `json:"tiers,omitempty"`
	Windows   []Window `json:"windows,omitempty"`
	Context   int64    `json:"context,omitempty"`    // tokens that fit; 0 is unknown
	MaxOutput int64    `json:"max_output,omitempty"` // tokens it can write; 0 is unknown
	Abilities []string `json:"abilities,omitempty"`  // vision, tools, reasoning, embeddings, ...
	Source    string   `json:"source,omitempty"`     // where the figure is from
	Date      string   `json:"date,omitempty"`       // when it was read, 2006-01-02

	version string
}

// Seal checks the price and computes its version. A price must be sealed
// before it is used or shared.
func (p *Price) Seal() error {
	if p.Model == "" {
		return Errorf(Invalid, "a price needs a model")
	}
	all := []Rates{p.Rates}
	for i, t := range p.Tiers {
		if t.Above <= 0 || (i > 0 && t.Above <= p.Tiers[i-1].Above) {
			return Errorf(Invalid, "price of %s: tiers must rise from above 0", p.Model)
		}
		all = append(all, t.Rates)
	}
	for _, r := range all {
		for _, c := range [...]*Credit{
			&r.In, r.InCached, r.InCacheWrite5m, r.InCacheWrite1h, r.InAudio, r.InImage,
			&r.Out, r.OutReasoning, r.OutAudio, r.OutImage, &r.WebSearch, &r.Request,
		} {
			if c != nil && (*c < 0 || *c > 1e6*OneCredit) {
				return Errorf(Invalid, "price of %s: %s is not a price between 0 and 1000000", p.Model, c)
			}
		}
	}
	for _, w := range p.Windows {
		if err := w.check(); err != nil {
			return Errorf(Invalid, "price of %s: %v", p.Model, err)
		}
	}
	b, err := json.Marshal(struct {
		Model   string
		Rates   Rates
		Tiers   []Tier
		Windows []Window
	}{p.Model, p.Rates, p.Tiers, p.Windows})
	if err != nil {
		return fmt.Errorf("encoding the price of %s: %w", p.Model, err)
	}
	sum := sha256.Sum256(b)
	p.version = hex.EncodeToString(sum[:10])
	return nil
}

// Version names what the price charges: the same charges, the same version.
// It is stored with every charge, so that each bill can be computed again.
func (p *Price) Version() string { return p.version }

// Cost prices a request that began at the given time, rounded up to the
// nano-credit. The usage must be [Usage.Sane].
func (p *Price) Cost(u *Usage, began time.Time) (Credit, error) {
	r := &p.Rates
	for i := range p.Tiers {
		if u.In() > p.Tiers[i].Above {
			r = &p.Tiers[i].Rates
		}
	}
	var s sum128
	ok := true
	add := func(n int64, own *Credit, rate Credit) {
		if own != nil {
			rate = *own
		}
		ok = s.add(n, int64(rate)) && ok
	}
	add(u.InText, nil, r.In)
	add(u.InCached, r.InCached, r.In)
	add(u.InCacheWrite5m, r.InCacheWrite5m, r.In)
	add(u.InCacheWrite1h, r.InCacheWrite1h, r.In)
	add(u.InAudio, r.InAudio, r.In)
	add(u.InImage, r.InImage, r.In)
	add(u.OutText, nil, r.Out)
	add(u.OutReasoning, r.OutReasoning, r.Out)
	add(u.OutAudio, r.OutAudio, r.Out)
	add(u.OutImage, r.OutImage, r.Out)
	const perMillion = 1_000_000
	add(u.WebSearches*perMillion, nil, r.WebSearch)
	add(perMillion, nil, r.Request)
	if !ok || !s.times(uint64(p.percentAt(began))) { //nolint:gosec // Seal let no negative one in
		return 0, ErrOverflow
	}
	return s.divCeil(100 * perMillion)
}

func (p *Price) percentAt(at time.Time) int64 {
	if len(p.Windows) == 0 {
		return 100
	}
	at = at.UTC()
	clock := at.Format("15:04")
	for _, w := range p.Windows {
		if w.covers(int(at.Weekday()), clock) {
			return w.Percent
		}
	}
	return 100
}

func (w *Window) covers(day int, clock string) bool {
	if len(w.Days) > 0 {
		found := false
		for _, d := range w.Days {
			found = found || d == day
		}
		if !found {
			return false
		}
	}
	if w.From <= w.To {
		return w.From <= clock && clock < w.To
	}
	return clock >= w.From || clock < w.To // over midnight
}

func (w *Window) check() error {
	for _, s := range [...]string{w.From, w.To} {
		if t, err := time.Parse("15:04", s); err != nil || t.Format("15:04") != s {
			return fmt.Errorf("%q is not a time of day such as 09:30", s)
		}
	}
	for _, d := range w.Days {
		if d < 0 || d > 6 {
			return fmt.Errorf("%d is not a weekday from 0 (Sunday) to 6", d)
		}
	}
	if w.Percent < 0 || w.Percent > 10_000 {
		return fmt.Errorf("%d is not a percentage between 0 and 10000", w.Percent)
	}
	return nil
}
