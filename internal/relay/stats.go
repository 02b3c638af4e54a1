package relay

import (
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// counters count what the relay does.
type counters struct {
	ok, failed, refused, cancelled, ended atomic.Int64
	retries, quarantined, unsettled       atomic.Int64
	panics                                atomic.Int64
	in, out                               atomic.Int64
	first                                 [len(bounds)]atomic.Int64
}

// bounds are the upper bounds of the buckets of the time to the first event.
var bounds = [...]time.Duration{ //nolint:gochecknoglobals // a constant table
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Hour,
}

func (c *counters) done(rec *jimu.Record) {
	switch rec.State {
	case jimu.StateOK:
		c.ok.Add(1)
	case jimu.StateFailed:
		c.failed.Add(1)
	case jimu.StateRefused:
		c.refused.Add(1)
	case jimu.StateCancelled:
		c.cancelled.Add(1)
	case jimu.StateEnded:
		c.ended.Add(1)
	}
	c.in.Add(rec.Usage.In())
	c.out.Add(rec.Usage.Out())
	if rec.First > 0 {
		for i, b := range bounds {
			if rec.First <= b {
				c.first[i].Add(1)
				break
			}
		}
	}
}

// Bucket counts the requests whose first event came within a time, and not
// within that of the bucket before.
type Bucket struct {
	Within time.Duration
	Count  int64
}

// Stats is what a relay has done since its start.
type Stats struct {
	OK, Failed, Refused, Cancelled, Ended int64 // requests, by state
	Running                               int64 // requests at this moment
	Retries                               int64
	Quarantined                           int64 // answers with a usage that cannot be true
	Unsettled                             int64 // charges that could not be booked; must be 0
	Panics                                int64 // must be 0
	TokensIn, TokensOut                   int64
	First                                 []Bucket
}

// Stats returns the counters.
func (r *Relay) Stats() Stats {
	c := &r.count
	r.mu.Lock()
	running := int64(len(r.running))
	r.mu.Unlock()
	s := Stats{
		OK: c.ok.Load(), Failed: c.failed.Load(), Refused: c.refused.Load(), Cancelled: c.cancelled.Load(), Ended: c.ended.Load(),
		Running: running, Retries: c.retries.Load(), Quarantined: c.quarantined.Load(), Unsettled: c.unsettled.Load(),
		Panics: c.panics.Load(), TokensIn: c.in.Load(), TokensOut: c.out.Load(),
	}
	for i, b := range bounds {
		s.First = append(s.First, Bucket{Within: b, Count: c.first[i].Load()})
	}
	return s
}
