package ledger

import (
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
)

// slice is this process's part of one account's credit, or of one budget: a
// durable lease, out of which requests hold in memory. The lease in the books
// is always free + back + what holds have + what is settled but not committed.
type slice struct {
	scope   jimu.LeaseScope
	subject string

	mu      sync.Mutex
	run     int64 // of ours, under which its credit is leased
	free    jimu.Credit
	back    jimu.Credit // to be returned with the next commit
	refs    int         // requests that use it
	waiters []*waiter   // in order of arrival; while there is one, nobody passes
	low     bool        // little is left of the account: take exactly what is needed, return at once
	refill  bool        // a top-up is due before somebody has to wait
	unit    jimu.Credit // the last hold
	target  jimu.Credit // how much to lease beyond what is needed
	topped  time.Time   // when it was last topped up
	used    time.Time
	queued  bool // the writer is to look at it

	open bool // a lease row exists; the writer's own
}

// waiter is a request that waits for a top-up.
type waiter struct {
	want, least jimu.Credit
	done        chan struct{} // closed when got or err is set
	got         jimu.Credit
	run         int64 // of the slice, when it was served
	err         error
}

// A slice is sized so that a busy account needs few top-ups and a small
// balance is not locked up in one replica.
const (
	lowHolds    = 64 // an account that affords fewer holds is low
	firstUnits  = 8  // the first extra, in holds
	freeShare   = 16 // the extra is at most this part of what is free
	soonToppedS = 2  // seconds: a top-up this soon after the last one doubles the extra
)

// take gives want out of the slice's memory if nobody waits for it.
func (s *slice) take(want jimu.Credit) bool {
	if len(s.waiters) > 0 || s.free < want {
		return false
	}
	s.free -= want
	return true
}

// wantsRefill reports, once, that the slice is running out.
func (s *slice) wantsRefill() bool {
	if s.low || s.refill || s.target == 0 || s.free > s.target/4 {
		return false
	}
	s.refill = true
	return true
}

// give returns credit that was not used: to memory, or, in a low account, to
// the books.
func (s *slice) give(amount jimu.Credit) {
	if s.low {
		s.back += amount
	} else {
		s.free += amount
	}
}

// leave removes a waiter that gave up. It reports false if it was served.
func (s *slice) leave(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.waiters {
		if x == w {
			s.waiters = append(s.waiters[:i:i], s.waiters[i+1:]...)
			return true
		}
	}
	return false
}

// share says, in order of arrival, how much each of the waiters gets of what
// is available; nothing if that is less than it needs.
func share(ws []*waiter, avail jimu.Credit) (gives []jimu.Credit, total jimu.Credit) {
	gives = make([]jimu.Credit, len(ws))
	for i, w := range ws {
		if g := min(w.want, avail); g >= w.least {
			gives[i] = g
			avail -= g
			total += g
		}
	}
	return gives, total
}

// demand is what a slice asks of the next commit.
type demand struct {
	s       *slice
	back    jimu.Credit
	free    jimu.Credit // in memory when it asked
	unit    jimu.Credit
	target  jimu.Credit
	waiters []*waiter
	refill  bool
	close   bool // nobody uses it: the lease ends if nothing is left in it
}

// size decides the top-up out of what is free in the books.
func (d *demand) size(free jimu.Credit) (topup jimu.Credit, low bool) {
	if len(d.waiters) == 0 && !d.refill {
		return 0, false
	}
	_, total := share(d.waiters, d.free+free)
	need := max(0, total-d.free)
	unit := max(1, d.unit)
	rest := free - need
	if rest/unit < lowHolds {
		return need, true
	}
	extra := min(max(d.target, min(unit, rest/firstUnits)*firstUnits), rest/freeShare)
	return need + extra/unit*unit, false
}

// ask reads what the slice wants of the next commit.
func (s *slice) ask(now time.Time) demand {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = false
	s.serve(nil, len(s.waiters))
	if s.refill && !s.topped.IsZero() && now.Sub(s.topped) < soonToppedS*time.Second && s.target < 1<<60 {
		s.target *= 2
	}
	d := demand{s: s, back: s.back, free: s.free, unit: s.unit, target: s.target, refill: s.refill}
	s.back = 0
	d.waiters = append(d.waiters, s.waiters...)
	d.close = s.refs == 0 && s.free == 0 && len(s.waiters) == 0
	return d
}

// serve gives to the first n waiters what is in memory. With refuse they are
// told no if that is not enough; without, they go on waiting.
func (s *slice) serve(refuse func(w *waiter) error, n int) {
	for len(s.waiters) > 0 && n > 0 {
		w := s.waiters[0]
		switch {
		case s.free >= w.want || (refuse != nil && s.free >= w.least):
			w.got, w.run = min(w.want, s.free), s.run
			s.free -= w.got
		case refuse != nil:
			w.err = refuse(w)
		default:
			return
		}
		close(w.done)
		s.waiters[0] = nil
		s.waiters = s.waiters[1:]
		n--
	}
}
