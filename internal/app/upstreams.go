package app

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/config"
	"github.com/jimu-ai/jimu/internal/host"
	"github.com/jimu-ai/jimu/internal/prices"
	"github.com/jimu-ai/jimu/internal/routing"
)

// upstreams is what is known of the upstreams besides their configuration.
type upstreams struct {
	mu      sync.Mutex
	learned map[string][]string // the models of those that name none, by upstream
	ollama  bool                // one answers on this machine
}

const (
	kindUpstream = "upstream"
	ollamaAddr   = "127.0.0.1:11434"
	demoVendor   = "demo"
)

// refresh makes the routing snapshot anew from the configuration, the database
// and what the upstreams said of themselves. On an error the old one stays.
func (a *App) refresh(ctx context.Context) error {
	a.refreshing.Lock()
	defer a.refreshing.Unlock()
	entries, err := a.entries(ctx)
	if err != nil {
		return err
	}
	if err := a.host.Load(ctx, entries); err != nil {
		return err
	}
	book, err := a.priceBook(ctx)
	if err != nil {
		return err
	}
	keys, err := a.people.KeyCallers(ctx)
	if err != nil {
		return fmt.Errorf("reading the keys: %w", err)
	}
	cfg := a.cfg.Load()
	for i := range keys {
		keys[i].Caller.KeyLimits = withDefaults(keys[i].Caller.KeyLimits, cfg.Limits.Key)
		keys[i].Caller.UserLimits = withDefaults(keys[i].Caller.UserLimits, cfg.Limits.User)
	}
	set, release := a.host.Acquire()
	defer release()
	a.upstreams.mu.Lock()
	learned := a.upstreams.learned
	a.upstreams.mu.Unlock()
	err = a.router.Set(routing.Inputs{
		Keys: keys, Upstreams: host.All[jimu.Provider](set), Learned: learned,
		Price: book.Lookup, Unpriced: cfg.Unpriced,
	})
	if err != nil {
		return err
	}
	a.book.Store(book)
	return nil
}

func withDefaults(l, d jimu.Limits) jimu.Limits {
	pick := func(own, def int64) int64 {
		if own != 0 {
			return own
		}
		return def
	}
	return jimu.Limits{RPM: pick(l.RPM, d.RPM), TPM: pick(l.TPM, d.TPM), Concurrent: pick(l.Concurrent, d.Concurrent)}
}

// entries lists the instances to load: those of the configuration file, those
// of the database, and where there is no upstream at all, the built-in demo
// and an Ollama on this machine.
func (a *App) entries(ctx context.Context) ([]host.Entry, error) {
	cfg := a.cfg.Load()
	out := configured(cfg)
	stored, err := a.instances.List(ctx, kindUpstream)
	if err != nil {
		return nil, fmt.Errorf("reading the upstreams: %w", err)
	}
	for _, in := range stored {
		if slices.ContainsFunc(cfg.Upstreams, func(u config.Instance) bool { return u.Name == in.Name }) {
			continue // the file wins
		}
		out = append(out, host.Entry{Name: in.Name, Raw: in.Config})
	}
	if len(cfg.Upstreams)+len(stored) > 0 {
		return out, nil
	}
	out = append(out, builtIn("demo", jimu.Upstream{Vendor: demoVendor, Models: []string{"jimu-demo"}}))
	a.upstreams.mu.Lock()
	defer a.upstreams.mu.Unlock()
	if a.upstreams.ollama {
		out = append(out, builtIn("ollama", jimu.Upstream{Vendor: "ollama", BaseURL: "http://" + ollamaAddr + "/v1"}))
	}
	return out, nil
}

func builtIn(name string, u jimu.Upstream) host.Entry {
	u.Name = name
	raw, err := json.Marshal(u)
	if err != nil {
		panic(err) // a struct of texts
	}
	return host.Entry{Name: name, Raw: raw}
}

// priceBook is the built-in book in the site's currency, overridden by the
// database and then by the configuration file.
func (a *App) priceBook(ctx context.Context) (*prices.Book, error) {
	cfg := a.cfg.Load()
	exchange := map[string]string{}
	for currency, rate := range cfg.Exchange {
		exchange[currency] = rate.String()
	}
	book, err := prices.Load(cfg.Currency, exchange)
	if err != nil {
		return nil, fmt.Errorf("reading the price book: %w", err)
	}
	stored, err := a.prices.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the prices: %w", err)
	}
	for _, model := range slices.Sorted(maps.Keys(cfg.Prices)) {
		stored = append(stored, *cfg.Prices[model])
	}
	return book.With(stored...)
}
