// Package routing answers, without a database and without a lock, who calls
// and which upstreams can serve them. All it needs is in one immutable
// snapshot behind one atomic pointer; only the health of the upstreams changes
// between snapshots, and outlives them.
package routing

import (
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// Options are what a router needs from outside.
type Options struct {
	Now  func() time.Time // the clock
	Rand func() uint64    // random bits; nil is math/rand/v2
	Log  *slog.Logger     // breakers that open and close, keys that are put aside
}

// Inputs are what a snapshot is built from.
type Inputs struct {
	Keys      []jimu.KeyCaller
	Upstreams []jimu.Provider // provisioned; their names differ
	// Learned are the models that an upstream lists itself, by the upstream's
	// name. They count where the configuration names no models.
	Learned map[string][]string
	// Price finds the price of a model; nil is unknown.
	Price func(model string) *jimu.Price
	// Unpriced says what becomes of a model without a price: "refuse" (the
	// default) or "free".
	Unpriced string
}

// Router is the routing table. Its methods may be called at the same time.
type Router struct {
	o    Options
	snap atomic.Pointer[snapshot]

	noKey *jimu.Error
}

// New makes a router without keys and upstreams.
func New(o Options) *Router {
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	r := &Router{
		o: o,
		noKey: jimu.Errorf(jimu.Unauthorized,
			"there is no valid API key with this request; send one that works as Authorization: Bearer jm_..."),
	}
	r.snap.Store(new(snapshot))
	return r
}

// Admit finds who calls with an API key. The error is one and the same for a
// key that is malformed, unknown, revoked or expired.
func (r *Router) Admit(key string) (*jimu.Caller, error) {
	hash, ok := jimu.HashKey(key)
	if !ok {
		return nil, r.noKey
	}
	c := r.snap.Load().callers[hash]
	if c == nil || (!c.Expires.IsZero() && !r.o.Now().Before(c.Expires)) {
		return nil, r.noKey
	}
	return c, nil
}

// MaxTargets is the most targets that Route appends; no request is tried more
// often.
const MaxTargets = 8

// Route appends the targets that can serve a caller's request, best first, to
// dst. It takes the highest priority first, and shares requests by weight
// within a priority. Where cached input is cheaper, a caller's requests stay
// with the same upstream for a while. An upstream's keys take turns. What
// rests, is broken or disabled is left out. Behind the first choice of a
// priority the quickest come first.
//
// Errors: Forbidden, NotFound, NoPrice; RateLimited or Unavailable where all
// that could serve it rest.
func (r *Router) Route(dst []*jimu.Target, c *jimu.Caller, op jimu.Operation, model string) ([]*jimu.Target, error) {
	s := r.snap.Load()
	rt, err := s.find(c, model)
	if err != nil {
		return dst, err
	}
	p := pick{now: r.o.Now().UnixNano(), op: op, from: len(dst), dst: dst}
	p.seed = r.o.Rand()
	p.turn = p.seed
	if rt.sticky && c.Account != "" {
		p.seed = stickTo(c.Account, model, p.now)
	}
	for i := range rt.groups {
		p.group(&rt.groups[i])
		if len(p.dst)-p.from >= MaxTargets {
			break
		}
	}
	if len(p.dst) == p.from {
		return dst, p.nobody(model)
	}
	return p.dst, nil
}

// find looks up a model for a caller.
func (s *snapshot) find(c *jimu.Caller, model string) (*route, error) {
	if !c.May(model) {
		return nil, jimu.Errorf(jimu.Forbidden, "this key may not use the model %s", shorten(model))
	}
	rt := s.routes[model]
	switch {
	case rt == nil:
		return nil, s.unknown(c, model)
	case len(rt.groups) == 0:
		return nil, jimu.Errorf(jimu.NoPrice, "the model %s has no price, so it is not sold; the operator can set one with: jimu price set", model)
	}
	return rt, nil
}

// Report tells how an attempt at a target went.
func (r *Router) Report(t *jimu.Target, o jimu.Outcome) {
	h := r.snap.Load().health[identity(t)]
	if h == nil {
		return // the upstream is no longer configured
	}
	now := r.o.Now()
	switch event, wait := h.report(now, &o); event {
	case eventNone:
	case eventDisabled:
		r.o.Log.Warn("upstream key put aside", "upstream", t.Upstream.Name, "key", t.Key, "status", o.Fault.Status, "code", o.Fault.Code)
	case eventOpened:
		r.o.Log.Warn("upstream put aside", "upstream", t.Upstream.Name, "key", t.Key, "model", t.Name, "for", wait, "status", o.Fault.Status, "code", o.Fault.Code)
	case eventClosed:
		r.o.Log.Info("upstream back", "upstream", t.Upstream.Name, "key", t.Key, "model", t.Name)
	case eventNoModel:
		r.o.Log.Warn("upstream does not have the model", "upstream", t.Upstream.Name, "model", t.Name, "for", wait)
	}
}
