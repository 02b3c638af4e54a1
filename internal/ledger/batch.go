package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jimu-ai/jimu"
)

// errApplied says that an earlier try of this batch, whose outcome was not
// known, is in the books. errFenced says that other replicas have taken this
// one for dead and settled its leases.
var (
	errApplied = errors.New("the batch is in the books already")
	errFenced  = errors.New("our leases have been settled by others")
)

// batch is what one commit is made of.
type batch struct {
	charges []*charge
	demands []demand
	grants  []*grant
	flushes []chan struct{}
	points  []jimu.Checkpoint
	prices  map[string]*jimu.Price // to be kept, by version

	node    *node
	from    int64 // the beat before it
	careful bool  // look for requests that are charged already
	parts   []*part
	bySlice map[*slice]*part
}

// part is what a batch does to one slice.
type part struct {
	s     *slice
	d     demand
	taken jimu.Credit // by settled charges
	back  jimu.Credit // returned
	topup jimu.Credit
	left  jimu.Credit // what was free before the top-up
	sized bool
	low   bool
	end   bool // the lease has ended
}

func (b *batch) empty() bool {
	return len(b.charges) == 0 && len(b.demands) == 0 && len(b.grants) == 0 && len(b.points) == 0
}

// voidDemands forgets what slices asked for: their credit is gone.
func (b *batch) voidDemands() {
	for i := range b.demands {
		d := &b.demands[i]
		d.back, d.free, d.close = 0, 0, false
	}
}

// part returns what the batch does to a slice.
func (b *batch) part(s *slice) *part {
	p := b.bySlice[s]
	if p == nil {
		p = &part{s: s}
		b.bySlice[s] = p
		b.parts = append(b.parts, p)
	}
	return p
}

// apply does the whole batch in a transaction. It may run more than once.
func (b *batch) apply(ctx context.Context, tx Tx) error {
	ok, err := tx.Beat(ctx, b.node.id, b.from, b.from+1)
	if err != nil {
		return fmt.Errorf("saving the beat: %w", err)
	}
	if !ok {
		return b.lost(ctx, tx)
	}
	b.parts, b.bySlice = nil, make(map[*slice]*part, len(b.demands)+1)
	for i := range b.demands {
		p := b.part(b.demands[i].s)
		p.d = b.demands[i]
		p.back += p.d.back
	}
	k, err := b.open(ctx, tx)
	if err != nil {
		return err
	}
	if err := b.give(ctx, k); err != nil {
		return err
	}
	if err := b.pay(k); err != nil {
		return err
	}
	for _, p := range b.parts {
		if err := b.lease(ctx, k, p); err != nil {
			return err
		}
	}
	return b.save(ctx, k)
}

// lost finds out why our beat is not what it was.
func (b *batch) lost(ctx context.Context, tx Tx) error {
	nodes, err := tx.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("reading the replicas: %w", err)
	}
	for _, n := range nodes {
		if n.ID == b.node.id && n.Beat == b.from+1 && b.bySlice != nil {
			return errApplied
		}
	}
	return errFenced
}

// open locks what the batch touches.
func (b *batch) open(ctx context.Context, tx Tx) (*books, error) {
	accounts, budgets := names{}, names{}
	var requests []string
	for _, c := range b.charges {
		b.touch(accounts, budgets, c)
		if b.careful && c.booked {
			requests = append(requests, c.request)
		}
	}
	for _, g := range b.grants {
		accounts.add(g.account)
		accounts.add(jimu.AccountPromotion)
	}
	wanted := names{} // asking for credit does not open an account
	for _, p := range b.parts {
		switch {
		case p.s.scope == jimu.LeaseBudget:
			budgets.add(p.s.subject)
		case p.s.open:
			accounts.add(p.s.subject)
		default:
			wanted.add(p.s.subject)
		}
	}
	k, err := openBooks(ctx, tx, accounts, wanted, budgets)
	if err != nil {
		return nil, err
	}
	k.expect(len(b.charges) + len(b.grants))
	if b.careful {
		err = k.readKnown(ctx, requests)
	}
	return k, err
}

// touch names what a charge needs, and takes its slices into the batch.
func (b *batch) touch(accounts, budgets names, c *charge) {
	if c.slice != nil {
		b.part(c.slice)
	}
	if c.limit != nil {
		b.part(c.limit)
	}
	if !c.booked {
		return
	}
	if c.taken > 0 {
		accounts.add(c.account)
		budgets.add(c.budget)
	}
	if c.over > 0 || (c.taken > 0 && !b.backed(c)) {
		accounts.add(jimu.AccountWriteOff)
	}
}

// backed reports whether what the charge took is part of leases that we still
// have.
func (b *batch) backed(c *charge) bool {
	return (c.slice == nil || c.run == b.node.run) && (c.limit == nil || c.limitRun == b.node.run)
}

// give does the grants, each once.
func (b *batch) give(ctx context.Context, k *books) error {
	if len(b.grants) == 0 {
		return nil
	}
	refs := make([]string, 0, len(b.grants))
	for _, g := range b.grants {
		refs = append(refs, g.ref)
	}
	es, err := k.tx.EntriesOf(ctx, jimu.EntryGrant, refs)
	if err != nil {
		return fmt.Errorf("looking for grants: %w", err)
	}
	done := make(map[string]jimu.Entry, len(es))
	for i := range es {
		done[es[i].Ref] = es[i]
	}
	for _, g := range b.grants {
		e, again := done[g.ref]
		switch {
		case !again:
			if g.entry, g.err = k.give(g.account, g.amount, g.reason, g.ref, g.at); g.err == nil {
				done[g.ref] = g.entry
			}
		case e.Credit == g.account && e.Amount == g.amount:
			g.entry, g.err = e, nil
		default:
			g.err = jimu.Errorf(jimu.Conflict, "a grant with the reference %s exists, of another amount or to another account", g.ref)
		}
	}
	return nil
}

// pay books the charges. What a hold took is released, then paid, so that what
// is paid is there; a charge whose lease is gone is paid out of what is free.
func (b *batch) pay(k *books) error {
	for _, c := range b.charges {
		if err := b.release(k, c.slice, c.run, c.taken, c.back); err != nil {
			return err
		}
		if err := b.release(k, c.limit, c.limitRun, c.taken, c.limitBack); err != nil {
			return err
		}
		if !c.booked {
			continue
		}
		if err := k.pay(&c.record); err != nil {
			return err
		}
	}
	return nil
}

// release ends a hold's part of a slice.
func (b *batch) release(k *books, s *slice, run int64, taken, back jimu.Credit) error {
	if s == nil || run != b.node.run {
		return nil
	}
	p := b.part(s)
	p.taken += taken
	p.back += back
	if taken == 0 {
		return nil
	}
	return k.hold(s.scope, s.subject, -taken)
}

// lease brings a slice's lease to what it is after the batch.
func (b *batch) lease(ctx context.Context, k *books, p *part) error {
	s := p.s
	if p.back > 0 {
		if err := k.hold(s.scope, s.subject, -p.back); err != nil {
			return err
		}
	}
	p.left = k.free(s.scope, s.subject)
	if p.sized = len(p.d.waiters) > 0 || p.d.refill; p.sized {
		p.topup, p.low = p.d.size(p.left)
	}
	if p.topup > 0 {
		if err := k.hold(s.scope, s.subject, p.topup); err != nil {
			return err
		}
	}
	return b.saveLease(ctx, k, p)
}

// saveLease writes what a slice's lease has become.
func (b *batch) saveLease(ctx context.Context, k *books, p *part) error {
	s, by := p.s, p.topup-p.taken-p.back
	row := jimu.Lease{Node: b.node.id, Scope: s.scope, Subject: s.subject}
	ok, err := true, error(nil)
	switch {
	case !s.open && by > 0:
		row.Amount = by
		err = k.tx.AddLease(ctx, row)
	case by != 0:
		ok, err = k.tx.ChangeLease(ctx, row, by)
	}
	if err == nil && ok && s.open && p.d.close && p.topup == 0 {
		p.end = true
		ok, err = k.tx.RemoveLease(ctx, row)
	}
	if err != nil {
		return fmt.Errorf("saving a lease: %w", err)
	}
	if !ok {
		return fmt.Errorf("%w: the lease on %s %s does not hold what was given of it", errChanged, s.scope, s.subject)
	}
	return nil
}

// save writes the books and the checkpoints.
func (b *batch) save(ctx context.Context, k *books) error {
	for v, p := range b.prices {
		data, err := priceData(p)
		if err != nil {
			return err
		}
		k.prices[v] = data
	}
	if err := k.save(ctx); err != nil {
		return err
	}
	if len(b.points) > 0 {
		if err := k.tx.SaveCheckpoints(ctx, b.points); err != nil {
			return fmt.Errorf("saving checkpoints: %w", err)
		}
	}
	var drop []string
	for _, c := range b.charges {
		if c.saved {
			drop = append(drop, c.request)
		}
	}
	if len(drop) > 0 {
		if err := k.tx.RemoveCheckpoints(ctx, drop); err != nil {
			return fmt.Errorf("removing checkpoints: %w", err)
		}
	}
	return nil
}

// done tells everybody who waits for the batch, and hands out its top-ups.
func (b *batch) done(now time.Time) {
	for _, p := range b.parts {
		p.finish(b.node.run, now)
	}
	for _, g := range b.grants {
		close(g.done)
	}
	for _, c := range b.charges {
		if c.done != nil {
			close(c.done)
		}
	}
	for _, f := range b.flushes {
		close(f)
	}
}

// finish gives a slice its top-up and serves those who waited for it.
func (p *part) finish(run int64, now time.Time) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.topup > 0 {
		s.open = true
	}
	if p.end {
		s.open = false
	}
	if s.run == run {
		s.free += p.topup
	}
	if !p.sized {
		return
	}
	s.low, s.refill = p.low, false
	if p.topup > 0 {
		s.topped = now
		s.target = max(s.target, p.topup)
	}
	n := 0 // of those who waited, some may have left; the rest come first, in order
	for _, w := range p.d.waiters {
		if n < len(s.waiters) && s.waiters[n] == w {
			n++
		}
	}
	s.serve(func(w *waiter) error { return refusal(s, w, p.left) }, n)
}

// refusal says no for want of credit, and what to do.
func refusal(s *slice, w *waiter, left jimu.Credit) error {
	if s.scope == jimu.LeaseBudget {
		return jimu.Errorf(jimu.NoCredit, "the spending limit of this key has %s credits left, and the request needs %s: raise the key's limit, use another key, or ask for less output (max_tokens)", left, w.least)
	}
	return jimu.Errorf(jimu.NoCredit, "the balance has %s credits left, and the request needs %s: add credit, or ask for less output (max_tokens)", left, w.least)
}
