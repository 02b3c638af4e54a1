// Package cachetest is what every [cache.Store] must pass.
package cachetest

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing" //nolint:depguard // a kit for tests
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/cache"
)

// suite is a store and an owner that no other test knows.
type suite struct {
	*testing.T

	store cache.Store
	owner string
}

// Run runs the suite. It needs some tens of milliseconds of real time, since
// one of the stores has a clock of its own.
func Run(t *testing.T, store cache.Store) {
	t.Helper()
	for name, f := range map[string]func(*suite){
		"rate":        (*suite).rate,
		"refill":      (*suite).refill,
		"tokens":      (*suite).tokens,
		"large":       (*suite).large,
		"debt":        (*suite).debt,
		"slots":       (*suite).slots,
		"all or none": (*suite).allOrNone,
		"parallel":    (*suite).parallel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(&suite{T: t, store: store, owner: jimu.NewID(time.Now())})
		})
	}
}

// take takes claims and checks which is refused, -1 for none. It returns how
// long to wait.
func (s *suite) take(want int, request string, claims ...cache.Claim) time.Duration {
	s.Helper()
	refused, wait, err := s.store.Take(s.Context(), s.owner, request, claims)
	if err != nil {
		s.Fatal(err)
	}
	if refused != want {
		s.Fatalf("request %s: claim %d refused, want %d", request, refused, want)
	}
	return wait
}

func (s *suite) settle(request string, claims ...cache.Claim) {
	s.Helper()
	if err := s.store.Settle(s.Context(), s.owner, request, claims); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) requests(n, limit int64) cache.Claim {
	return cache.Claim{Of: s.owner, Kind: cache.Requests, N: n, Limit: limit}
}

func (s *suite) spend(n, limit int64) cache.Claim {
	return cache.Claim{Of: s.owner, Kind: cache.Tokens, N: n, Limit: limit}
}

func (s *suite) slot(limit int64) cache.Claim {
	return cache.Claim{Of: s.owner, Kind: cache.AtOnce, N: 1, Limit: limit}
}

// A limit lets that many pass at once, and says how long the next must wait.
func (s *suite) rate() {
	for i := range 3 {
		s.take(-1, strconv.Itoa(i), s.requests(1, 3))
	}
	if wait := s.take(0, "4", s.requests(1, 3)); wait <= 15*time.Second || wait > 20*time.Second {
		s.Errorf("wait %v, want a little less than 20s", wait)
	}
	s.settle("1", s.requests(1, 3)) // a request that ended still counts
	s.take(0, "5", s.requests(1, 3))
}

// What was used comes back with time.
func (s *suite) refill() {
	const limit = 6000 // one each 10 ms
	s.take(-1, "1", s.requests(limit, limit))
	wait := s.take(0, "2", s.requests(1, limit))
	if wait <= 0 || wait > 10*time.Millisecond {
		s.Fatalf("wait %v, want at most 10ms", wait)
	}
	<-time.After(wait + time.Millisecond)
	s.take(-1, "3", s.requests(1, limit))
}

// An estimate is corrected by what was really used.
func (s *suite) tokens() {
	s.take(-1, "1", s.spend(1000, 1000))
	s.take(0, "2", s.spend(100, 1000))
	s.settle("1", s.spend(-900, 1000)) // 100 in place of 1000
	s.take(-1, "3", s.spend(800, 1000))
	s.take(0, "4", s.spend(200, 1000))
	s.settle("3", s.spend(-800, 1000))
	s.settle("3", s.spend(-800, 1000)) // giving back too much gives no more than the limit
	s.take(-1, "5", s.spend(1000, 1000))
	s.take(0, "6", s.spend(100, 1000))
}

// A request larger than the limit passes when nothing else was used.
func (s *suite) large() {
	s.take(-1, "1", s.spend(1_000_000_000_000, 1000))
	s.take(0, "2", s.spend(1, 1000))
}

// What was used beyond the estimate has to be waited for.
func (s *suite) debt() {
	s.take(-1, "1", s.spend(10, 1000))
	s.settle("1", s.spend(1990, 1000))
	if wait := s.take(0, "2", s.spend(1, 1000)); wait < 50*time.Second || wait > 61*time.Second {
		s.Errorf("wait %v, want about a minute", wait)
	}
	s.settle("1", s.spend(1<<60, 1)) // whatever was used, the wait ends
	if wait := s.take(0, "3", s.spend(1, 1000)); wait > 10*time.Minute {
		s.Errorf("wait %v, want at most 10m", wait)
	}
}

func (s *suite) slots() {
	s.take(-1, "1", s.slot(2))
	s.take(-1, "2", s.slot(2))
	s.take(0, "3", s.slot(2))
	s.settle("1", s.slot(2))
	s.take(-1, "4", s.slot(2))
	s.take(0, "5", s.slot(2))
}

// Where one claim is refused, the others are not taken.
func (s *suite) allOrNone() {
	s.take(-1, "1", s.slot(1))
	for range 5 {
		s.take(1, "2", s.requests(1, 2), s.slot(1))
	}
	s.settle("1", s.slot(1))
	s.take(-1, "3", s.requests(1, 2), s.slot(1))
}

// However many ask at once, a limit is never exceeded.
func (s *suite) parallel() {
	const limit, asking = 10, 50
	var passed atomic.Int64
	var all sync.WaitGroup
	for i := range asking {
		all.Go(func() {
			refused, _, err := s.store.Take(s.Context(), s.owner, strconv.Itoa(i), []cache.Claim{s.slot(limit), s.requests(1, 2*limit)})
			if err != nil {
				s.Error(err)
			} else if refused < 0 {
				passed.Add(1)
			}
		})
	}
	all.Wait()
	if n := passed.Load(); n != limit {
		s.Errorf("%d passed, want %d", n, limit)
	}
}
