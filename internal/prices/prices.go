// Package prices is the price book: what models cost, as their vendors publish
// it, and what the operator says instead.
package prices

import (
	_ "embed" // the book
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/jimu-ai/jimu"
)

//go:embed book.json
var bookJSON []byte

// row is a row of book.json: a price in its vendor's currency, per million
// tokens. Without a currency it is in the site's own.
type row struct {
	jimu.Price
	Vendor   string   `json:"vendor"`
	Currency string   `json:"currency,omitempty"`
	Aliases  []string `json:"aliases,omitempty"` // other names of the same model at the same price; "*" is any text
}

// Book holds prices in one currency. It does not change.
type Book struct {
	currency string
	skipped  []string // currencies without an exchange rate
	own      shelf    // the operator's
	built    shelf    // the built-in ones
}

// shelf holds prices by name.
type shelf struct {
	exact map[string]*jimu.Price
	globs []glob // the longest pattern first
}

type glob struct {
	pattern string
	price   *jimu.Price
}

// defaultRates are what a unit of another currency is worth where the operator
// does not say. They are close, not current.
func defaultRates(currency string) map[string]string {
	switch currency {
	case "CNY":
		return map[string]string{"USD": "7.10"}
	case "USD":
		return map[string]string{"CNY": "0.140845071"}
	}
	return nil
}

// Load reads the built-in book and converts it into the site's currency. fx
// says what one unit of another currency is worth in it, such as {"USD":
// "7.10"}; CNY and USD have defaults for each other. Prices in a currency
// without a rate are left out, see [Book.Skipped].
func Load(currency string, fx map[string]string) (*Book, error) {
	rows, err := readBook(bookJSON)
	if err != nil {
		return nil, err
	}
	all := defaultRates(currency)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, fx)
	rates := map[string]*big.Rat{currency: big.NewRat(1, 1), "": big.NewRat(1, 1)}
	for from, s := range all {
		c, err := jimu.ParseCredit(s)
		if err != nil || c <= 0 {
			return nil, jimu.Errorf(jimu.Invalid, "the exchange rate of %s is %q; write a decimal number above 0, such as 7.10", from, s)
		}
		if from != currency {
			rates[from] = big.NewRat(int64(c), int64(jimu.OneCredit))
		}
	}
	b := &Book{currency: currency, own: newShelf(), built: newShelf()}
	for i := range rows {
		r := &rows[i]
		rate, ok := rates[r.Currency]
		if !ok {
			if !slices.Contains(b.skipped, r.Currency) {
				b.skipped = append(b.skipped, r.Currency)
			}
			continue
		}
		if err := convert(&r.Price, rate); err != nil {
			return nil, err
		}
		if err := b.built.put(&r.Price, r.Aliases...); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func readBook(data []byte) ([]row, error) {
	var file struct {
		Rows []row `json:"rows"`
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("decoding the price book: %w", err)
	}
	return file.Rows, nil
}

// convert changes the currency of a price, each rate rounded up to the
// nano-credit.
func convert(p *jimu.Price, rate *big.Rat) error {
	all := []*jimu.Rates{&p.Rates}
	for i := range p.Tiers {
		all = append(all, &p.Tiers[i].Rates)
	}
	for _, r := range all {
		for _, c := range [...]*jimu.Credit{
			&r.In, r.InCached, r.InCacheWrite5m, r.InCacheWrite1h, r.InAudio, r.InImage,
			&r.Out, r.OutReasoning, r.OutAudio, r.OutImage, &r.WebSearch, &r.Request,
		} {
			if c == nil {
				continue
			}
			up := new(big.Int).Mul(big.NewInt(int64(*c)), rate.Num())
			up.Add(up, new(big.Int).Sub(rate.Denom(), big.NewInt(1)))
			up.Quo(up, rate.Denom())
			if !up.IsInt64() {
				return fmt.Errorf("converting the price of %s: %w", p.Model, jimu.ErrOverflow)
			}
			*c = jimu.Credit(up.Int64())
		}
	}
	return nil
}

func newShelf() shelf { return shelf{exact: make(map[string]*jimu.Price)} }

// put seals a price and files it under its name and aliases.
func (s *shelf) put(p *jimu.Price, aliases ...string) error {
	if err := p.Seal(); err != nil {
		return err
	}
	for _, name := range append([]string{p.Model}, aliases...) {
		if !strings.Contains(name, "*") {
			s.exact[name] = p
			continue
		}
		s.globs = slices.DeleteFunc(s.globs, func(g glob) bool { return g.pattern == name })
		s.globs = append(s.globs, glob{name, p})
	}
	slices.SortStableFunc(s.globs, func(a, b glob) int { return len(b.pattern) - len(a.pattern) })
	return nil
}

func (s *shelf) match(model string) *jimu.Price {
	for _, g := range s.globs {
		if matches(g.pattern, model) {
			return g.price
		}
	}
	return nil
}

// With returns a book in which the given prices, in the site's currency, come
// before the built-in ones and before those of an earlier With. The model may
// hold "*" for any text; a name that is written out goes before.
func (b *Book) With(overrides ...jimu.Price) (*Book, error) {
	next := *b
	next.own = shelf{maps.Clone(b.own.exact), slices.Clone(b.own.globs)}
	for _, p := range overrides {
		if err := next.own.put(&p); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// Lookup finds the price of a model; nil is unknown. A name that is written
// out goes first, the operator's before the built-in one. A dated name, such
// as gpt-5-2025-08-07, has the price of the name without the date. Patterns
// come last.
func (b *Book) Lookup(model string) *jimu.Price {
	for _, name := range [...]string{model, undated(model)} {
		if name == "" {
			continue
		}
		if p := b.own.exact[name]; p != nil {
			return p
		}
		if p := b.built.exact[name]; p != nil {
			return p
		}
	}
	if p := b.own.match(model); p != nil {
		return p
	}
	return b.built.match(model)
}

// List returns all prices by model, without aliases.
func (b *Book) List() []jimu.Price {
	all := make(map[string]*jimu.Price)
	for _, s := range []*shelf{&b.built, &b.own} {
		for _, p := range s.exact {
			all[p.Model] = p
		}
		for _, g := range s.globs {
			all[g.price.Model] = g.price
		}
	}
	out := make([]jimu.Price, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[name])
	}
	return out
}

// Currency is the currency of all prices.
func (b *Book) Currency() string { return b.currency }

// Skipped lists the currencies that had no exchange rate.
func (b *Book) Skipped() []string { return slices.Clone(b.skipped) }

// undated takes the date off the end of a name: -2025-08-07, -20250807, or
// -250807. It returns "" where there is none. Shorter ones (-0905) are not
// dates for sure.
func undated(model string) string {
	for _, form := range [...]string{"-dddd-dd-dd", "-dddddddd", "-dddddd"} {
		at := len(model) - len(form)
		if at <= 0 || !shaped(model[at:], form) {
			continue
		}
		digits := strings.ReplaceAll(model[at:], "-", "")
		month, day := digits[len(digits)-4:len(digits)-2], digits[len(digits)-2:]
		if "01" <= month && month <= "12" && "01" <= day && day <= "31" {
			return model[:at]
		}
	}
	return ""
}

func shaped(s, form string) bool {
	for i := range len(form) {
		digit := '0' <= s[i] && s[i] <= '9'
		if digit != (form[i] == 'd') || (!digit && s[i] != form[i]) {
			return false
		}
	}
	return true
}

// matches reports whether a name fits a pattern, in which "*" is any text.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	name, ok := strings.CutPrefix(name, parts[0])
	if !ok || last == 0 {
		return ok && name == ""
	}
	for _, p := range parts[1:last] {
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return strings.HasSuffix(name, parts[last])
}
