package app

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/brickkit/outbound"
	"github.com/jimu-ai/jimu/internal/host"
)

func setupUpstreamAdd(fs *flag.FlagSet) func(context.Context, *call) error {
	vendor := fs.String("vendor", "openai-compatible", "`V`endor; see jimu bricks openai")
	base := fs.String("base-url", "", "base `URL`, in place of the vendor's own")
	key := fs.String("key", "", "API key: the key itself, env:NAME or file:PATH")
	models := fs.String("models", "", "models it serves, separated by commas (none: ask it)")
	priority := fs.Int("priority", 0, "higher is asked first")
	weight := fs.Int("weight", 1, "share among upstreams of the same priority")
	return func(ctx context.Context, c *call) error {
		raw := map[string]any{"name": c.args[0], "vendor": *vendor}
		for field, v := range map[string]string{"base_url": *base, "key": *key} {
			if v != "" {
				raw[field] = v
			}
		}
		if m := list(*models); len(m) > 0 {
			raw["models"] = m
		}
		if *priority != 0 {
			raw["priority"] = *priority
		}
		if *weight != 1 {
			raw["weight"] = *weight
		}
		if err := c.app.addUpstream(ctx, c.args[0], raw); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.Stdout, "upstream %s added; jimu upstream test %s asks it\n", c.args[0], c.args[0])
		return err
	}
}

// addUpstream checks, stores and uses an upstream that is configured at run time.
func (a *App) addUpstream(ctx context.Context, name string, config map[string]any) error {
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := a.host.Check(ctx, []host.Entry{{Name: name, Raw: raw}}); err != nil {
		return err
	}
	for _, u := range a.cfg.Load().Upstreams {
		if u.Name == name {
			return jimu.Errorf(jimu.Conflict, "upstream %s is in the configuration file; change it there", name)
		}
	}
	if err := a.instances.Put(ctx, kindUpstream, name, raw); err != nil {
		return fmt.Errorf("storing the upstream: %w", err)
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	a.learn(ctx, name)
	return nil
}

func upstreamRemove(ctx context.Context, c *call) error {
	for _, u := range c.app.cfg.Load().Upstreams {
		if u.Name == c.args[0] {
			return jimu.Errorf(jimu.Conflict, "upstream %s is in the configuration file; remove it there", c.args[0])
		}
	}
	if err := c.app.instances.Delete(ctx, kindUpstream, c.args[0]); err != nil {
		if jimu.ErrorOf(err).Code == jimu.NotFound {
			return jimu.Errorf(jimu.NotFound, "there is no upstream %q; see jimu upstream list", c.args[0])
		}
		return err
	}
	if err := c.app.refresh(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Stdout, "upstream %s removed\n", c.args[0])
	return err
}

func upstreamList(_ context.Context, c *call) error {
	health := c.app.router.Health()
	var rows [][]string
	for _, h := range health {
		state := []string{}
		for _, k := range h.Keys {
			state = append(state, strings.TrimSpace(k.State+" "+k.Why))
		}
		rows = append(rows, []string{
			h.Name, h.Vendor, strconv.Itoa(h.Priority), strconv.Itoa(h.Weight),
			strings.Join(h.Models, ","), strings.Join(slices.Compact(state), "; "),
		})
	}
	return c.print(health, []string{"NAME", "VENDOR", "PRIORITY", "WEIGHT", "MODELS", "STATE"}, rows)
}

func upstreamTest(ctx context.Context, c *call) error {
	p, release, ok := c.app.provider(c.args[0])
	if !ok {
		return jimu.Errorf(jimu.NotFound, "there is no upstream %q; see jimu upstream list", c.args[0])
	}
	defer release()
	began := c.app.now()
	models, err := c.app.askModels(ctx, p)
	if err != nil {
		return err
	}
	took := c.app.now().Sub(began)
	c.app.router.Reset(c.args[0]) // a key that was put aside may be used again
	return c.print(struct {
		Models []string `json:"models"`
		TookMS int64    `json:"took_ms"`
	}{models, took.Milliseconds()}, []string{"UPSTREAM", "ANSWERED IN", "MODELS"},
		[][]string{{c.args[0], took.Round(1e6).String(), strings.Join(models, ",")}})
}

func setupRoute(fs *flag.FlagSet) func(context.Context, *call) error {
	as := fs.String("as", "", "as this `USER` (default: as the operator)")
	return func(ctx context.Context, c *call) error {
		who := &jimu.Caller{Name: "operator", Role: jimu.RoleOwner}
		if *as != "" {
			u, err := c.app.user(ctx, *as)
			if err != nil {
				return err
			}
			who = &jimu.Caller{User: u.ID, Name: u.Name, Role: u.Role, Account: jimu.UserAccount(u.ID)}
		}
		lines := c.app.router.Explain(who, c.args[0])
		if c.opts.output == "json" {
			return c.json(lines)
		}
		_, err := fmt.Fprintln(c.Stdout, strings.Join(lines, "\n"))
		return err
	}
}

func setupPriceSet(fs *flag.FlagSet) func(context.Context, *call) error {
	in := fs.String("input", "", "`PRICE` per million input tokens (required)")
	out := fs.String("output", "", "`PRICE` per million output tokens (required)")
	cached := fs.String("cached", "", "`PRICE` per million cached input tokens")
	return func(ctx context.Context, c *call) error {
		p := jimu.Price{Model: c.args[0], Source: "operator", Date: c.app.now().UTC().Format("2006-01-02")}
		if old := c.app.book.Load().Lookup(p.Model); old != nil {
			p.Context, p.MaxOutput, p.Abilities = old.Context, old.MaxOutput, old.Abilities
		}
		for _, f := range []struct {
			name, value string
			to          *jimu.Credit
		}{{"input", *in, &p.In}, {"output", *out, &p.Out}} {
			if f.value == "" {
				return jimu.Errorf(jimu.Invalid, "--%s is missing", f.name)
			}
			v, err := amount(f.name, f.value)
			if err != nil {
				return err
			}
			*f.to = v
		}
		if *cached != "" {
			v, err := amount("cached", *cached)
			if err != nil {
				return err
			}
			p.InCached = &v
		}
		return c.setPrices(ctx, []jimu.Price{p})
	}
}

func (c *call) setPrices(ctx context.Context, ps []jimu.Price) error {
	for i := range ps {
		if err := ps[i].Seal(); err != nil {
			return err
		}
	}
	for _, p := range ps {
		if err := c.app.prices.Set(ctx, p, "operator"); err != nil {
			return fmt.Errorf("storing the price of %s: %w", p.Model, err)
		}
	}
	if err := c.app.refresh(ctx); err != nil {
		return err
	}
	return c.printPrices(ps)
}

func (c *call) printPrices(ps []jimu.Price) error {
	currency := c.app.book.Load().Currency()
	rows := [][]string{}
	for _, p := range ps {
		cached := p.In
		if p.InCached != nil {
			cached = *p.InCached
		}
		rows = append(rows, []string{p.Model, p.In.String(), cached.String(), p.Out.String(), p.Source, p.Date})
	}
	unit := " (" + currency + " PER MILLION)"
	return c.print(ps, []string{"MODEL", "INPUT" + unit, "CACHED", "OUTPUT", "SOURCE", "DATE"}, rows)
}

func priceShow(_ context.Context, c *call) error {
	book := c.app.book.Load()
	if len(c.args) == 0 {
		return c.printPrices(book.List())
	}
	p := book.Lookup(c.args[0])
	if p == nil {
		return jimu.Errorf(jimu.NotFound, "%s has no price; set one with jimu price set %s --input P --output P", c.args[0], c.args[0])
	}
	return c.printPrices([]jimu.Price{*p})
}

// readPrices reads a list of prices from a file or, given an address, the web.
func (c *call) readPrices(ctx context.Context, from string) ([]byte, error) {
	if !strings.HasPrefix(from, "https://") && !strings.HasPrefix(from, "http://") {
		return os.ReadFile(c.path(from))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	client := c.app.operatorDialer().Client(outbound.ClientOptions{Timeout: askTimeout, MaxBytes: maxModelList})
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetching the prices: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end
	if resp.StatusCode != http.StatusOK {
		return nil, jimu.Errorf(jimu.Unavailable, "%s answered %s", from, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func priceUpdate(ctx context.Context, c *call) error {
	b, err := c.readPrices(ctx, c.args[0])
	if err != nil {
		return err
	}
	var ps []jimu.Price
	if err := json.Unmarshal(b, &ps); err != nil {
		return fmt.Errorf("reading %s: %w", c.args[0], err)
	}
	if len(ps) == 0 {
		return jimu.Errorf(jimu.Invalid, "%s has no prices", c.args[0])
	}
	return c.setPrices(ctx, ps)
}
