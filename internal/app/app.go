// Package app wires the product: it is the only package that knows all of
// internal. cli.go reads a command line, control.go carries it to a running
// server, commands.go lists the commands, app.go opens what they work on,
// upstreams.go keeps the routing snapshot in step with what is configured, and
// serve.go listens.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/config"
	"github.com/jimu-ai/jimu/internal/host"
	"github.com/jimu-ai/jimu/internal/identity"
	"github.com/jimu-ai/jimu/internal/ledger"
	"github.com/jimu-ai/jimu/internal/prices"
	"github.com/jimu-ai/jimu/internal/routing"
	"github.com/jimu-ai/jimu/internal/seal"
	"github.com/jimu-ai/jimu/internal/store"
)

// App is the product, opened on one data folder.
type App struct {
	data string
	env  func(string) (string, bool)
	log  *slog.Logger
	now  func() time.Time

	cfg    atomic.Pointer[config.Config]
	store  *store.Store
	sealer *seal.Sealer
	ledger *ledger.Ledger

	people    *store.Identity
	instances *store.Instances
	prices    *store.Prices
	usage     *store.Usage

	identity *identity.Identity
	host     *host.Host
	router   *routing.Router
	book     atomic.Pointer[prices.Book]

	refreshing sync.Mutex
	upstreams  upstreams

	closing []func(context.Context) error // run last first
}

// open opens everything that commands and the server share. The caller closes it.
func open(ctx context.Context, cfg *config.Config, env func(string) (string, bool), log *slog.Logger) (*App, error) {
	a := &App{data: cfg.Data, env: env, log: log, now: time.Now}
	a.cfg.Store(cfg)
	for _, step := range []func(context.Context) error{
		a.openStore, a.openSecrets, a.openLedger, a.openPeople, a.openRouting,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, a.Close(context.WithoutCancel(ctx)))
		}
	}
	return a, nil
}

// Close takes down what open made, last first.
func (a *App) Close(ctx context.Context) error {
	var errs []error
	for _, f := range slices.Backward(a.closing) {
		errs = append(errs, f(ctx))
	}
	a.closing = nil
	return errors.Join(errs...)
}

func (a *App) onClose(f func(context.Context) error) { a.closing = append(a.closing, f) }

func (a *App) openStore(ctx context.Context) error {
	cfg := a.cfg.Load()
	st, err := store.Open(ctx, store.Options{Data: cfg.Data, Database: cfg.Database, Log: a.log, Now: a.now})
	if err != nil {
		return err
	}
	a.store = st
	a.onClose(func(context.Context) error { return st.Close() })
	return nil
}

// openSecrets makes or reads the master key, and proves that it is the one that
// this database is sealed with.
func (a *App) openSecrets(ctx context.Context) error {
	cfg := a.cfg.Load()
	key, err := masterKey(ctx, cfg, a.log)
	if err != nil {
		return err
	}
	if a.sealer, err = seal.New(key); err != nil {
		return err
	}
	return store.NewSettings(a.store).CheckMasterKey(ctx, a.sealer)
}

func masterKey(ctx context.Context, cfg *config.Config, log *slog.Logger) (seal.Key, error) {
	file, ok := cfg.MasterKeyFile()
	if !ok {
		return seal.ParseKey(cfg.MasterKey.Reveal())
	}
	key, made, err := seal.LoadOrCreate(file)
	if made {
		log.InfoContext(ctx, "the master key was made: keep a copy, apart from the data", "file", file)
	}
	return key, err
}

func (a *App) openLedger(ctx context.Context) error {
	l, err := ledger.Start(ctx, ledger.Options{
		Book: ledger.Of(store.NewLedger(a.store)), Node: a.store.Node, Dir: a.data, Now: a.now, Log: a.log.With("part", "ledger"),
	})
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	a.ledger = l
	a.onClose(l.Close)
	return nil
}

func (a *App) openPeople(context.Context) error {
	a.people = store.NewIdentity(a.store)
	a.instances = store.NewInstances(a.store, a.sealer)
	a.prices = store.NewPrices(a.store)
	a.usage = store.NewUsage(a.store)
	a.identity = identity.New(identity.Options{People: a.people, Log: a.log.With("part", "identity"), Now: a.now})
	return nil
}

func (a *App) openRouting(ctx context.Context) error {
	a.host = newHost(a.cfg.Load(), a.env, a.log)
	a.onClose(a.host.Close)
	a.router = routing.New(routing.Options{Now: a.now, Log: a.log.With("part", "routing")})
	return a.refresh(ctx)
}

// withData runs a command on the data: in the server that has it open, or
// here if there is none.
func (c *call) withData(ctx context.Context, do runner) (err error) {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if done, err := callServer(ctx, cfg.Data, c.Process); done {
		return err
	}
	log := slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	a, err := open(ctx, cfg, c.Env, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	c.app = a
	return do(ctx, c)
}

// user finds a user by name, or says how to list them.
func (a *App) user(ctx context.Context, name string) (*jimu.User, error) {
	u, err := a.identity.UserByName(ctx, name)
	if err != nil && jimu.ErrorOf(err).Code == jimu.NotFound {
		return nil, jimu.Errorf(jimu.NotFound, "there is no user %q; see jimu user list", name)
	}
	return u, err
}
