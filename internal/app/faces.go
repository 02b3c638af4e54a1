package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/cache"
	"github.com/jimu-ai/jimu/internal/chat"
	"github.com/jimu-ai/jimu/internal/mock"
	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/relay/wire"
	"github.com/jimu-ai/jimu/internal/server"
	"github.com/jimu-ai/jimu/internal/store"
	"github.com/jimu-ai/jimu/web"
)

// faces is everything that listens, and what it needs while it does.
type faces struct {
	app    *App
	server *server.Server
	relay  *relay.Relay
	chat   *chat.Service
	usage  *store.Writer[*jimu.Record]

	addr    net.Addr
	public  *http.Server
	admin   *http.Server
	control *control
	failed  chan error
	done    sync.WaitGroup
	stop    context.CancelFunc // ends the background work
	closing []func()
}

func (f *faces) listen(ctx context.Context) error {
	cfg := f.app.cfg.Load()
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	f.addr = ln.Addr()
	f.public = server.HTTPServer(f.server, f.app.log)
	f.serve(f.public, relay.Listen(ln))
	if cfg.AdminListen != "" {
		admin, err := lc.Listen(ctx, "tcp", cfg.AdminListen)
		switch {
		case err == nil:
			f.admin = server.HTTPServer(f.server.Admin(), f.app.log)
			f.serve(f.admin, admin)
		case cfg.Origin("admin_listen") == "default":
			f.app.log.WarnContext(ctx, "metrics are off: the default admin address is taken", "addr", cfg.AdminListen)
		default:
			return fmt.Errorf("admin_listen: %w", err)
		}
	}
	f.control, err = f.app.listenControl(ctx)
	return err
}

func (f *faces) serve(srv *http.Server, ln net.Listener) {
	f.done.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			select {
			case f.failed <- err:
			default:
			}
		}
	})
}

// drain stops taking requests, waits for those that run, and ends them when
// the time is up or a second signal comes.
func (f *faces) drain(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.app.cfg.Load().Drain)
	defer cancel()
	f.app.log.InfoContext(ctx, "draining")
	f.done.Go(func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	})
	f.server.Drain()
	var wait sync.WaitGroup
	var chatErr error
	wait.Go(func() { chatErr = f.chat.Drain(ctx) })
	wait.Go(func() { f.relay.Drain(ctx) })
	wait.Go(func() {
		if f.public.Shutdown(ctx) != nil {
			_ = f.public.Close()
		}
	})
	wait.Wait()
	return chatErr
}

// close takes down what drain left, and what openFaces made.
func (f *faces) close() {
	if f.control != nil {
		_ = f.control.Close()
	}
	for _, srv := range []*http.Server{f.public, f.admin} {
		if srv != nil {
			_ = srv.Close()
		}
	}
	f.stop()
	f.done.Wait()
	for _, do := range slices.Backward(f.closing) {
		do()
	}
}

// every runs do now and then until the faces close.
func (f *faces) every(ctx context.Context, period time.Duration, do func(context.Context)) {
	f.done.Go(func() {
		t := time.NewTicker(period)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				do(ctx)
			}
		}
	})
}

// follow refreshes the routes when another replica, or a command, changed what
// they are made of.
func (f *faces) follow(ctx context.Context) {
	var seen int64
	const pollEvery = 500 * time.Millisecond
	f.every(ctx, pollEvery, func(ctx context.Context) {
		n, err := f.app.store.Main.Revision(ctx, "routing")
		if err != nil || n == seen {
			return
		}
		if err := f.app.refresh(ctx); err != nil {
			f.app.log.ErrorContext(ctx, "the routes were not refreshed", "error", err)
			return
		}
		seen = n
	})
}

const pruneEvery = time.Hour

// openFaces makes what listens, and starts what runs beside it.
func (a *App) openFaces(ctx context.Context) (f *faces, err error) {
	background, stop := context.WithCancel(ctx)
	f = &faces{app: a, failed: make(chan error, 1), stop: stop}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if err := f.openRelay(ctx); err != nil {
		return f, err
	}
	if err := f.openServer(ctx); err != nil {
		return f, err
	}
	a.findOllama(ctx)
	if err := a.refresh(ctx); err != nil {
		return f, err
	}
	f.follow(background)
	f.keepMemory(background)
	f.done.Go(func() { a.learn(background, "") })
	f.every(background, learnEvery, func(ctx context.Context) { a.learn(ctx, "") })
	f.every(background, pruneEvery, func(ctx context.Context) {
		if _, err := a.identity.PruneSessions(ctx); err != nil {
			a.log.WarnContext(ctx, "ended sessions were not removed", "error", err)
		}
	})
	return f, nil
}

func (f *faces) openRelay(ctx context.Context) error {
	a, cfg := f.app, f.app.cfg.Load()
	limiter, err := cache.New(ctx, cache.Options{Redis: cfg.Redis, Log: a.log.With("part", "limits"), Now: a.now})
	if err != nil {
		return err
	}
	f.onClose(limiter.Close)
	f.usage = store.NewWriter(ctx, a.store.History, a.usage.InsertTx, store.WriterOptions{Name: "usage", Log: a.log})
	f.onClose(func() {
		if err := f.usage.Close(context.WithoutCancel(ctx)); err != nil {
			a.log.ErrorContext(ctx, "usage rows were lost", "error", err)
		}
	})
	client := wire.New(wire.Options{Dial: a.operatorDialer().DialContext})
	f.onClose(client.Close)
	demo, closeDemo := mock.Pipe(mock.Demo(mock.DemoOptions{Now: a.now}))
	f.onClose(func() { _ = closeDemo() })
	f.relay = relay.New(relay.Options{
		Gate: a.router, Router: a.router, Ledger: relayLedger{a.ledger},
		Limiter: limiter, Recorder: recorder{f.usage}, Client: client,
		DialOf: func(u *jimu.Upstream) wire.Dial {
			if u.Vendor == demoVendor {
				return demo
			}
			return nil
		},
		Now: a.now, Log: a.log.With("part", "relay"), MaxBody: cfg.Limits.Body,
	})
	return nil
}

// recorder hands usage rows to their writer.
type recorder struct{ *store.Writer[*jimu.Record] }

func (r recorder) Record(rec *jimu.Record) { r.Put(rec) }

func (f *faces) openServer(ctx context.Context) error {
	a, cfg := f.app, f.app.cfg.Load()
	talk := chat.New(chat.Options{
		Store: store.NewChat(a.store), Model: chatModel{f.relay}, Window: a.window,
		Log: a.log.With("part", "chat"), Now: a.now, Exclusive: a.store.Main.Dialect() == store.SQLite,
	})
	if err := talk.Recover(ctx); err != nil {
		return fmt.Errorf("closing the turns of the last run: %w", err)
	}
	f.chat = talk
	pages, err := fs.Sub(web.Dist, "dist")
	if err != nil {
		return err
	}
	f.server, err = server.New(server.Options{
		Log: a.log.With("part", "server"), Now: a.now, Version: version, Currency: cfg.Currency,
		URL: cfg.URL, TrustedProxies: cfg.TrustedProxies,
		Identity: serverIdentity{a.identity, a}, Ledger: serverLedger{a.ledger}, Router: a.router, Chat: serverChat{talk},
		Usage: func(ctx context.Context, user, cursor string, limit int) ([]jimu.Record, string, error) {
			if err := f.usage.Flush(ctx); err != nil {
				return nil, "", err
			}
			return a.usage.List(ctx, store.UsageFilter{User: user}, cursor, limit)
		},
		Upstreams: a.upstreamHealth, Demo: a.demoOnly,
		AddUpstream: a.setupUpstream,
		Model:       http.HandlerFunc(f.model), ModelRoutes: modelRoutes, ModelError: f.modelError,
		Pages: pages, Ready: f.ready, Metrics: []func(io.Writer){f.metrics},
	})
	return err
}

// modelRoutes are the paths of the model API.
var modelRoutes = []string{ //nolint:gochecknoglobals // a constant list
	"POST /v1/chat/completions", "POST /v1/embeddings", "GET /v1/models", "GET /v1/models/{id...}",
}

func (f *faces) model(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		f.relay.Models(w, r)
		return
	}
	f.relay.ServeHTTP(w, r)
}

func (f *faces) modelError(w http.ResponseWriter, r *http.Request, e *jimu.Error) {
	f.relay.WriteError(w, r, e)
}

// ready says why requests cannot be served just now.
func (f *faces) ready(ctx context.Context) error {
	if err := f.app.store.Ping(ctx); err != nil {
		return err
	}
	return f.app.ledger.Healthy()
}

// window tells the chat how much a model can read and write.
func (a *App) window(model string) (context, maxOutput int64) {
	p := a.book.Load().Lookup(model)
	if p == nil {
		return 0, 0
	}
	return p.Context, p.MaxOutput
}

// setupUpstream adds the upstream that the newcomer entered, if it answers.
func (a *App) setupUpstream(ctx context.Context, u server.SetupUpstream) error {
	raw := map[string]any{"name": "main", "vendor": "openai-compatible", "base_url": u.BaseURL}
	if !u.Key.IsZero() {
		raw["key"] = u.Key.Reveal()
	}
	if len(u.Models) > 0 {
		raw["models"] = u.Models
	}
	if err := a.addUpstream(ctx, "main", raw); err != nil {
		return err
	}
	if err := a.tryUpstream(ctx, "main"); err != nil {
		return errors.Join(err, a.instances.Delete(ctx, kindUpstream, "main"), a.refresh(ctx))
	}
	if !u.Free {
		return nil
	}
	if err := a.prices.Set(ctx, jimu.Price{Model: "*", Source: "setup", Date: a.now().UTC().Format(time.DateOnly)}, "setup"); err != nil {
		return fmt.Errorf("storing that models without a price are free: %w", err)
	}
	return a.refresh(ctx)
}

func (a *App) tryUpstream(ctx context.Context, name string) error {
	p, release, ok := a.provider(name)
	if !ok {
		return fmt.Errorf("upstream %s is not there after it was added", name)
	}
	defer release()
	_, err := a.askModels(ctx, p)
	return err
}

func (f *faces) onClose(do func()) { f.closing = append(f.closing, do) }
