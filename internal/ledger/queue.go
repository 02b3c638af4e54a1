package ledger

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// charge is a settled request on its way into the books, or, if it is not
// booked, only the rest of a hold that goes back.
type charge struct {
	record
	booked          bool
	slice, limit    *slice // nil if nothing was held
	run, limitRun   int64
	back, limitBack jimu.Credit // unused, to be returned in the same commit
	saved           bool        // there may be a checkpoint
	by              *jimu.Price
	segment         *segment
	done            chan struct{} // closed when it is committed; nil if nobody waits
}

// grant is credit to be given.
type grant struct {
	account, reason, ref string
	amount               jimu.Credit
	at                   time.Time
	done                 chan struct{}
	entry                jimu.Entry
	err                  error
}

// queue is what the next commits are made of. Locks are taken in the order
// slice, queue.
type queue struct {
	mu      sync.Mutex
	charges []*charge
	slices  []*slice
	grants  []*grant
	flushes []chan struct{}
	wake    chan struct{} // there is work
	hurry   chan struct{} // somebody waits for it
	waiting atomic.Int64  // charges
}

// maxCharges bounds one commit.
const maxCharges = 1024

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// look makes the writer look at a slice. The caller has its lock.
func (q *queue) look(s *slice, urgent bool) {
	if !s.queued {
		s.queued = true
		q.mu.Lock()
		q.slices = append(q.slices, s)
		q.mu.Unlock()
	}
	signal(q.wake)
	if urgent {
		signal(q.hurry)
	}
}

func (q *queue) charge(c *charge) {
	q.mu.Lock()
	q.charges = append(q.charges, c)
	q.waiting.Add(1)
	full := len(q.charges) >= maxCharges
	q.mu.Unlock()
	signal(q.wake)
	if full || c.done != nil {
		signal(q.hurry)
	}
}

func (q *queue) grant(g *grant) {
	q.mu.Lock()
	q.grants = append(q.grants, g)
	q.mu.Unlock()
	signal(q.wake)
	signal(q.hurry)
}

func (q *queue) flush() chan struct{} {
	done := make(chan struct{})
	q.mu.Lock()
	q.flushes = append(q.flushes, done)
	q.mu.Unlock()
	signal(q.wake)
	signal(q.hurry)
	return done
}

// drain takes what one commit is made of. Slices are asked before the charges
// are taken, so that the end of a hold is never seen before its charge.
func (q *queue) drain(now time.Time) *batch {
	q.mu.Lock()
	looked := q.slices
	q.slices = nil
	q.mu.Unlock()
	b := &batch{}
	for _, s := range looked {
		b.demands = append(b.demands, s.ask(now))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	b.grants, q.grants = q.grants, nil
	defer func() { q.waiting.Add(-int64(len(b.charges))) }()
	if len(q.charges) <= maxCharges {
		b.charges, q.charges = q.charges, nil
		b.flushes, q.flushes = q.flushes, nil
		return b
	}
	b.charges = append(b.charges, q.charges[:maxCharges]...)
	q.charges = append(q.charges[:0:0], q.charges[maxCharges:]...)
	for i := range b.demands {
		b.demands[i].close = false // its last charges may not be in this commit
	}
	signal(q.wake)
	signal(q.hurry)
	return b
}
