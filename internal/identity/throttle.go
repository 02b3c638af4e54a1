package identity

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
)

// How failed logins slow down the next. The first five failures are free, then
// each doubles the wait. An account never waits longer than a minute, so that
// nobody can lock an owner out for long; a network waits up to a quarter of
// an hour. Networks that an account signed in from before do not wait for the
// account, only for themselves.
const (
	freeFailures   = 5
	firstWait      = time.Second
	maxAccountWait = time.Minute
	maxNetworkWait = 15 * time.Minute
	forgetAfter    = time.Hour // failures count no longer after this long without one
	triesAtOnce    = 16        // of one account, or from one network
	maxTracked     = 20_000    // accounts and networks; then the idle are dropped first
	maxFamiliar    = 4         // networks remembered of an account
)

// throttle counts failed logins by account and by network (/24, or /64 of
// IPv6). It is in memory and each process has its own: several replicas give
// a guesser that many times more tries.
type throttle struct {
	now func() time.Time

	mu       sync.Mutex
	accounts map[string]*tries
	networks map[netip.Prefix]*tries
}

// tries is what happened lately of an account or from a network.
type tries struct {
	failures int
	running  int
	last     time.Time // of the last failure
	until    time.Time // no try before this
	familiar []netip.Prefix
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, accounts: map[string]*tries{}, networks: map[netip.Prefix]*tries{}}
}

// network is the part of an address that one guesser usually holds.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: they share one
	}
	return p
}

// outcome is how a try ended.
type outcome uint8

const (
	failed    outcome = iota
	succeeded         // who tried is who he says
	undecided         // it was not found out: this must change nothing
)

// outcomeOf tells a wrong name or password from everything else that can
// happen on the way.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return succeeded
	case codeOf(err) == jimu.Unauthorized:
		return failed
	}
	return undecided
}

// begin asks for a try. Unless it errs, done must be called with the outcome.
func (t *throttle) begin(account string, from netip.Addr) (done func(o outcome), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, net := t.now(), network(from)
	t.prune(now)
	a, n := get(t.accounts, account, now), get(t.networks, net, now)
	wait := n.until.Sub(now)
	if !a.knows(net) {
		wait = max(wait, a.until.Sub(now))
	}
	if a.running >= triesAtOnce || n.running >= triesAtOnce {
		wait = max(wait, firstWait)
	}
	if wait > 0 {
		return nil, &jimu.Error{
			Code: jimu.RateLimited, RetryAfter: wait,
			Text: "too many attempts to sign in failed; wait a little and try again",
		}
	}
	a.running++
	n.running++
	return func(o outcome) {
		t.mu.Lock()
		defer t.mu.Unlock()
		a.running--
		n.running--
		switch o {
		case failed:
			a.fail(t.now(), maxAccountWait)
			n.fail(t.now(), maxNetworkWait)
		case succeeded:
			a.failures, a.until = 0, time.Time{}
			a.learn(net)
			// A guesser may own an account as well: his network is forgiven one.
			n.failures = max(0, n.failures-1)
		case undecided:
		}
	}, nil
}

func get[K comparable](m map[K]*tries, k K, now time.Time) *tries {
	v := m[k]
	if v == nil {
		v = &tries{}
		m[k] = v
	}
	if v.failures > 0 && now.Sub(v.last) > forgetAfter {
		v.failures, v.until = 0, time.Time{}
	}
	return v
}

// fail counts a failure and sets the wait for the next try.
func (v *tries) fail(now time.Time, most time.Duration) {
	v.failures++
	v.last = now
	if over := v.failures - freeFailures; over >= 0 {
		wait := most
		if over < 16 {
			wait = min(most, firstWait<<over)
		}
		v.until = now.Add(wait)
	}
}

func (v *tries) knows(net netip.Prefix) bool { return slices.Contains(v.familiar, net) }

func (v *tries) learn(net netip.Prefix) {
	if v.knows(net) {
		return
	}
	if len(v.familiar) == maxFamiliar {
		v.familiar = v.familiar[1:]
	}
	v.familiar = append(v.familiar, net)
}

// prune keeps the maps bounded: over the limit, what has nothing running and
// no failure that counts goes; then whatever has nothing running.
func (t *throttle) prune(now time.Time) {
	if len(t.accounts)+len(t.networks) < maxTracked {
		return
	}
	for _, idle := range []func(*tries) bool{
		func(v *tries) bool { return now.Sub(v.last) > forgetAfter },
		func(*tries) bool { return true },
	} {
		drop(t.accounts, idle)
		drop(t.networks, idle)
		if len(t.accounts)+len(t.networks) < maxTracked {
			return
		}
	}
}

func drop[K comparable](m map[K]*tries, idle func(*tries) bool) {
	for k, v := range m {
		if v.running == 0 && idle(v) {
			delete(m, k)
		}
	}
}
