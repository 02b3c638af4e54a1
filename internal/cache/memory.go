package cache

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

const (
	shards   = 64
	minSweep = 64 // a shard smaller than this is never swept
)

// Memory counts in process.
type Memory struct {
	now   func() time.Time
	seed  maphash.Seed
	shard [shards]shard
}

type counter struct {
	of   string
	kind Kind
}

// shard counts for a part of the owners.
type shard struct {
	mu    sync.Mutex
	count map[counter]int64 // TAT, or the number of requests that run
	sweep int               // the size at which idle counters are dropped
}

// NewMemory makes a store in process.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, seed: maphash.MakeSeed()}
}

func (m *Memory) of(owner string) *shard {
	return &m.shard[maphash.String(m.seed, owner)%shards]
}

// Take implements [Store].
func (m *Memory) Take(_ context.Context, owner, _ string, claims []Claim) (refused int, wait time.Duration, err error) {
	now := m.now().UnixMicro()
	s := m.of(owner)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range claims {
		c := &claims[i]
		have := s.count[counter{c.Of, c.Kind}]
		if c.Kind == AtOnce {
			if have >= c.Limit {
				return i, 0, nil
			}
		} else if over := max(have, now) + c.entry() - now - minute; over > 0 {
			return i, micros(over), nil
		}
	}
	if s.count == nil {
		s.count = make(map[counter]int64)
	}
	if len(s.count)+len(claims) > max(s.sweep, minSweep) {
		s.drop(now)
	}
	for i := range claims {
		c := &claims[i]
		k := counter{c.Of, c.Kind}
		if c.Kind == AtOnce {
			s.count[k]++
		} else {
			s.count[k] = max(s.count[k], now) + c.entry()
		}
	}
	return -1, 0, nil
}

// drop forgets what has no effect any more.
func (s *shard) drop(now int64) {
	for k, v := range s.count {
		if k.kind != AtOnce && v <= now {
			delete(s.count, k)
		}
	}
	s.sweep = 2 * len(s.count)
}

// Settle implements [Store].
func (m *Memory) Settle(_ context.Context, owner, _ string, claims []Claim) error {
	now := m.now().UnixMicro()
	s := m.of(owner)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range claims {
		c := &claims[i]
		k := counter{c.Of, c.Kind}
		switch c.Kind {
		case Tokens:
			if tat := max(s.count[k], now) + cost(c.N, c.Limit); tat > now {
				s.count[k] = min(tat, now+maxDebt)
			} else {
				delete(s.count, k)
			}
		case AtOnce:
			if s.count[k]--; s.count[k] <= 0 {
				delete(s.count, k)
			}
		case Requests:
		}
	}
	return nil
}

// Len is how many counters are kept.
func (m *Memory) Len() int {
	n := 0
	for i := range m.shard {
		s := &m.shard[i]
		s.mu.Lock()
		n += len(s.count)
		s.mu.Unlock()
	}
	return n
}

// Close implements [Store].
func (*Memory) Close() {}
