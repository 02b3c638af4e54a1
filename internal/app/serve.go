package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/config"
	"github.com/jimu-ai/jimu/internal/host"
	"github.com/jimu-ai/jimu/internal/server"
)

func setupServe(fs *flag.FlagSet) func(context.Context, *call) error {
	listen := fs.String("listen", "", "`ADDR` to serve on, such as :8080 for every network (default 127.0.0.1:8080)")
	return func(ctx context.Context, c *call) error {
		var flags []config.Flag
		if *listen != "" {
			flags = append(flags, config.Flag{Key: "listen", Value: *listen})
		}
		load := func() (*config.Config, error) { return c.load(flags...) }
		cfg, err := load()
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(c.Stderr, nil))
		// A blocking fsync holds a P: with one alone, nothing else would run.
		if runtime.GOMAXPROCS(0) < 2 {
			runtime.GOMAXPROCS(2)
		}
		a, err := open(ctx, cfg, c.Env, log)
		if err != nil {
			return err
		}
		err = a.serve(ctx, c, load)
		return errors.Join(err, a.Close(context.WithoutCancel(ctx)))
	}
}

// serve listens until a signal, and then drains.
func (a *App) serve(ctx context.Context, c *call, load func() (*config.Config, error)) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	f, err := a.openFaces(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.listen(ctx); err != nil {
		return err
	}
	if err := a.announce(ctx, c, f); err != nil {
		return err
	}
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				a.reload(ctx, load)
				continue
			}
		case err := <-f.failed:
			return err
		case <-ctx.Done():
		}
		return f.drain(ctx, signals)
	}
}

// announce says where we are, and how to begin.
func (a *App) announce(ctx context.Context, c *call, f *faces) error {
	bound := *a.cfg.Load()
	bound.Listen = f.addr.String() // with the port that was found, where none was chosen
	url := bound.PublicURL()
	fmt.Fprintf(c.Stdout, "jimu %s listens on %s\n", version, url)
	secret, err := a.identity.NewSetup(ctx)
	if err != nil || secret == "" {
		return err
	}
	_, err = fmt.Fprintf(c.Stdout, "open this link within 30 minutes to make the owner:\n  %s/setup#%s\n", url, secret)
	return err
}

// reload reads the configuration again. A bad one changes nothing.
func (a *App) reload(ctx context.Context, load func() (*config.Config, error)) {
	cfg, err := load()
	if err != nil {
		a.log.ErrorContext(ctx, "the configuration was not reloaded; the old one stays", "error", err)
		return
	}
	old := a.cfg.Load()
	a.cfg.Store(cfg)
	if err := a.refresh(ctx); err != nil {
		a.cfg.Store(old)
		a.log.ErrorContext(ctx, "the configuration was not reloaded; the old one stays", "error", err)
		return
	}
	changes := config.Diff(old, cfg)
	a.log.InfoContext(ctx, "the configuration was reloaded", "changed", strings.Join(changes.Live, " "))
	if len(changes.Restart) > 0 {
		a.log.WarnContext(ctx, "some changes need a restart", "keys", strings.Join(changes.Restart, " "))
	}
}

// upstreamHealth is what the page shows of the upstreams.
func (a *App) upstreamHealth() []server.Upstream {
	health := a.router.Health()
	out := make([]server.Upstream, len(health))
	for i, h := range health {
		out[i] = server.Upstream{Name: h.Name, Vendor: h.Vendor, Priority: h.Priority, Weight: h.Weight, Models: h.Models}
		for _, k := range h.Keys {
			out[i].Keys = append(out[i].Keys, server.UpstreamKey(k))
		}
	}
	return out
}

// demoOnly reports whether nothing but the demo upstream serves.
func (a *App) demoOnly() bool {
	set, release := a.host.Acquire()
	defer release()
	for _, p := range host.All[jimu.Provider](set) {
		if p.Upstream().Vendor != demoVendor {
			return false
		}
	}
	return true
}
