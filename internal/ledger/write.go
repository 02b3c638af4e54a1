package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jimu-ai/jimu"
)

// How long a commit that failed waits for its next try.
const (
	retryFirst = 10 * time.Millisecond
	retryMost  = 2 * time.Second
	commitMost = 30 * time.Second // of one try
)

// seen is another replica's beat, and since when it has stood still, by our
// own clock.
type seen struct {
	beat  int64
	since time.Time
}

// write is the only writer. It ends when stop is closed, after a last commit.
func (l *Ledger) write(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	gather := time.NewTimer(0)
	defer gather.Stop()
	var pointed, beaten time.Time
	for {
		select {
		case <-l.stop:
			l.commit(ctx, l.queue.drain(l.now()))
			return
		case <-tick.C:
			l.idle(l.now())
		case <-l.queue.wake:
			l.gather(gather)
		}
		now := l.now()
		b := l.queue.drain(now)
		if now.Sub(pointed) >= l.pointEvery {
			pointed = now
			b.points, b.prices = l.meters.changed(l)
		}
		beat := now.Sub(beaten) >= beatEvery
		if !b.empty() || beat {
			l.commit(ctx, b)
		} else {
			b.done(now)
		}
		if beat {
			beaten = now
			l.reap(ctx, now)
		}
	}
}

// gather waits a moment for more charges to share the commit, unless somebody
// waits for it.
func (l *Ledger) gather(timer *time.Timer) {
	timer.Reset(gatherFor)
	select {
	case <-l.queue.hurry:
	case <-timer.C:
	case <-l.stop:
	}
	timer.Stop()
}

// idle returns what slices have not used for a while, and forgets slices that
// nobody uses.
func (l *Ledger) idle(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, s := range l.slices {
		s.mu.Lock()
		switch {
		case len(s.waiters) > 0 || now.Sub(s.used) < idleAfter:
		case s.free > 0:
			s.back += s.free
			s.free, s.target, s.refill = 0, 0, false
			l.queue.look(s, false)
		case s.refs == 0 && s.open:
			l.queue.look(s, false)
		case s.refs == 0 && !s.queued && s.back == 0:
			delete(l.slices, at)
		}
		s.mu.Unlock()
	}
	l.journal.tidy()
}

// commit puts a batch into the books. It tries until it has succeeded: what is
// in it has been acknowledged, or somebody waits for it.
func (l *Ledger) commit(ctx context.Context, b *batch) {
	b.node = l.node.Load()
	b.from = b.node.beat
	l.newPrices(b)
	l.busy.Store(l.now().UnixNano())
	wait := retryFirst
	for {
		err := l.try(ctx, b)
		switch {
		case err == nil, errors.Is(err, errApplied):
			l.committed(b)
			return
		case errors.Is(err, errFenced):
			if err = l.rejoin(ctx, b); err == nil {
				continue
			}
		case l.book.IsDuplicate(err) && !b.careful:
			b.careful = true
			continue
		case errors.Is(err, errChanged):
			_ = l.broken(&BreachError{Invariant: "L2", What: err.Error()})
		}
		l.counters.failed.Add(1)
		l.log.ErrorContext(ctx, "commit failed, trying again", "error", err, "wait_ms", wait.Milliseconds())
		if !l.pause(ctx, wait) {
			return
		}
		wait = min(2*wait, retryMost)
	}
}

func (l *Ledger) try(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, commitMost)
	defer cancel()
	return l.book.Update(ctx, func(tx Tx) error { return b.apply(ctx, tx) })
}

// pause waits before the next try. It reports false when the ledger ends.
func (l *Ledger) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rejoin begins a new run after others have settled the leases of this one.
// What was held under it is charged out of what the accounts have free.
func (l *Ledger) rejoin(ctx context.Context, b *batch) error {
	l.log.WarnContext(ctx, "another replica took this one for dead and settled its leases", "node", b.node.id)
	ctx, cancel := context.WithTimeout(ctx, commitMost)
	defer cancel()
	if err := l.enter(ctx); err != nil {
		return fmt.Errorf("entering the books again: %w", err)
	}
	l.counters.fenced.Add(1)
	b.node, b.from, b.careful, b.bySlice = l.node.Load(), 0, true, nil
	b.points = nil // of requests that others have charged
	b.voidDemands()
	return nil
}

// newPrices finds the prices in a batch that the books do not have yet.
func (l *Ledger) newPrices(b *batch) {
	if b.prices == nil {
		b.prices = map[string]*jimu.Price{}
	}
	for v := range b.prices {
		if l.kept[v] {
			delete(b.prices, v)
		}
	}
	for _, c := range b.charges {
		if c.by != nil && !l.kept[c.price] {
			b.prices[c.price] = c.by
		}
	}
	for i := range b.points {
		b.points[i].Node = b.node.id
	}
}

// committed tells everybody that a batch is in the books.
func (l *Ledger) committed(b *batch) {
	now := l.now()
	b.node.beat = b.from + 1
	l.lastOK.Store(now.UnixNano())
	l.busy.Store(0)
	for v := range b.prices {
		l.kept[v] = true
	}
	var booked int64
	inSegment := map[*segment]int64{}
	for _, c := range b.charges {
		if c.booked {
			booked++
		}
		if c.segment != nil {
			inSegment[c.segment]++
		}
	}
	for seg, n := range inSegment {
		l.journal.committed(seg, n)
	}
	l.counters.count(b, booked)
	b.done(now)
}

// reap settles what replicas that have died left.
func (l *Ledger) reap(ctx context.Context, now time.Time) {
	var nodes []jimu.Node
	err := l.book.Update(ctx, func(tx Tx) (err error) {
		nodes, err = tx.Nodes(ctx)
		return err
	})
	if err != nil {
		l.log.WarnContext(ctx, "looking for dead replicas failed", "error", err)
		return
	}
	beats := make(map[string]seen, len(nodes))
	own := l.node.Load().id
	for _, n := range nodes {
		if n.ID == own {
			continue
		}
		was, known := l.beats[n.ID]
		if !known || was.beat != n.Beat {
			was = seen{n.Beat, now}
		}
		beats[n.ID] = was
		if now.Sub(was.since) < deadAfter {
			continue
		}
		if err := l.settleDead(ctx, n, nil, nil); err != nil && !errors.Is(err, errFenced) {
			l.log.WarnContext(ctx, "settling a dead replica failed", "node", n.ID, "error", err)
			continue
		}
		l.log.WarnContext(ctx, "settled what a dead replica had left", "node", n.ID)
	}
	l.beats = beats
}
