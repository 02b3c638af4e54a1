package ledger

import "sync/atomic"

// Stats are counts since the start, and states.
type Stats struct {
	Holds         int64 // given
	Refused       int64 // not given
	Commits       int64
	CommitsFailed int64 // tries
	Charges       int64 // booked
	Topups        int64
	LargestBatch  int64 // charges in one commit
	Queued        int64 // charges that wait for a commit
	Slices        int64 // accounts and budgets in use
	JournalBytes  int64
	JournalFailed int64 // writes
	Fenced        int64 // times that others took us for dead
	Recovered     int64 // runs that were settled after their end
}

type counters struct {
	holds, refused, commits, failed, charges, topups, largest atomic.Int64
	journalFailed, fenced, recovered                          atomic.Int64
}

// count notes a commit. Only the writer calls it.
func (c *counters) count(b *batch, booked int64) {
	c.commits.Add(1)
	c.charges.Add(booked)
	c.largest.Store(max(c.largest.Load(), booked))
	for _, p := range b.parts {
		if p.topup > 0 {
			c.topups.Add(1)
		}
	}
}

// Stats reads the counts.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	n := int64(len(l.slices))
	l.mu.Unlock()
	c := &l.counters
	return Stats{
		Holds: c.holds.Load(), Refused: c.refused.Load(), Commits: c.commits.Load(), CommitsFailed: c.failed.Load(),
		Charges: c.charges.Load(), Topups: c.topups.Load(), LargestBatch: c.largest.Load(), Queued: l.queue.waiting.Load(),
		Slices: n, JournalBytes: l.journal.written(), JournalFailed: c.journalFailed.Load(),
		Fenced: c.fenced.Load(), Recovered: c.recovered.Load(),
	}
}
