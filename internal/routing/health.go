package routing

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// The circuit breaker: failures of the last attempts open it for a while, each
// time longer; then one request at a time tries whether the upstream is back.
const (
	breakerOf     = 10              // attempts looked at
	breakerAt     = 5               // failures among them that open it
	breakerForget = 5 * time.Minute // of silence, after which they are forgotten
	openAtFirst   = 5 * time.Second
	openAtMost    = 5 * time.Minute
	probeFor      = 10 * time.Second // a trial that is not reported is given up
)

// What else rests, and for how long.
const (
	coolAtFirst = time.Second // where the upstream does not say; doubles each time
	coolAtMost  = time.Minute
	restAtMost  = time.Hour // whatever the upstream says
	absentFor   = 10 * time.Minute
)

// keyState is shared by all models of an upstream's key.
type keyState struct{ off atomic.Bool }

// modelState is shared by all keys that ask an upstream for a model.
type modelState struct{ absent atomic.Int64 } // until

// health is how one target does: one model by one key of one upstream. Times
// are Unix nanoseconds.
type health struct {
	key   *keyState
	model *modelState

	resting atomic.Int64 // until; it asked for fewer requests
	open    atomic.Int64 // until; 0 is closed, a time gone by is half-open
	probe   atomic.Int64 // until; a request tries whether it is back
	latency atomic.Int64 // to the first event, a moving average

	mu      sync.Mutex
	results uint16 // the last attempts, one bit each; 1 failed
	last    int64  // when the last one was
	opens   int    // how often it opened in a row
	cools   int    // how often it had to rest in a row
}

// half reports whether a broken target waits for its trial request.
func (h *health) half(now int64) bool {
	open := h.open.Load()
	return open != 0 && open <= now && h.probe.Load() <= now
}

// until is when the target can be asked again, 0 for now, and whether the
// reason is the upstream's limit. lenient allows a half-open target without
// the one trial that is due; otherwise that trial is taken.
func (h *health) until(now int64, lenient bool) (until int64, limited bool) {
	if h.key.off.Load() {
		return never, false
	}
	if t := h.model.absent.Load(); t > now {
		return t, false
	}
	if t := h.resting.Load(); t > now {
		return t, true
	}
	open := h.open.Load()
	if open == 0 {
		return 0, false
	}
	if open > now {
		return open, false
	}
	probe := h.probe.Load()
	if lenient || (probe <= now && h.probe.CompareAndSwap(probe, now+int64(probeFor))) {
		return 0, false
	}
	return max(h.probe.Load(), now+1), false
}

type event int

const (
	eventNone event = iota
	eventOpened
	eventClosed
	eventDisabled
	eventNoModel
)

// report takes in the outcome of an attempt. It returns what changed, and for
// how long.
func (h *health) report(at time.Time, o *jimu.Outcome) (event, time.Duration) {
	now := at.UnixNano()
	switch o.Fault.Kind {
	case jimu.FaultNone:
		h.saw(o.FirstByte)
		return h.answered(now, true), 0
	case jimu.FaultClient, jimu.FaultContent:
		return h.answered(now, false), 0
	case jimu.FaultCancelled:
		h.probe.Store(0)
	case jimu.FaultKey:
		if !h.key.off.Swap(true) {
			return eventDisabled, 0
		}
	case jimu.FaultModel:
		if h.model.absent.Swap(now+int64(absentFor)) <= now {
			return eventNoModel, absentFor
		}
	case jimu.FaultCool:
		h.cool(now, o.Fault.For)
	default: // FaultOther, FaultRetry, FaultTransport, FaultTimeout, FaultIncomplete
		if o.Fault.For > 0 {
			h.rest(now, o.Fault.For)
		}
		return h.failed(now)
	}
	return eventNone, 0
}

// saw moves the average latency an eighth of the way to the new figure.
func (h *health) saw(first time.Duration) {
	if first <= 0 {
		return
	}
	old := h.latency.Load()
	if old == 0 {
		h.latency.Store(int64(first))
		return
	}
	h.latency.Store(old + (int64(first)-old)/8)
}

// answered notes that the upstream works, and closes the breaker if it was
// half-open. An answer to a request from before it opened does not.
func (h *health) answered(now int64, counts bool) event {
	h.mu.Lock()
	defer h.mu.Unlock()
	if counts {
		h.note(now, 0)
		h.cools = 0
	}
	if open := h.open.Load(); open == 0 || open > now {
		return eventNone
	}
	h.results, h.opens = 0, 0
	h.open.Store(0)
	h.probe.Store(0)
	return eventClosed
}

// failed counts a failure, and opens the breaker where it is one too many.
func (h *health) failed(now int64) (event, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(now, 1)
	open := h.open.Load()
	if open > now || (open == 0 && bits.OnesCount16(h.results) < breakerAt) {
		return eventNone, 0
	}
	wait := min(openAtFirst<<min(h.opens, 10), openAtMost)
	h.opens++
	h.results = 0
	h.open.Store(now + int64(wait))
	h.probe.Store(0)
	return eventOpened, wait
}

// note shifts a result in. The caller holds the lock.
func (h *health) note(now int64, failed uint16) {
	if now-h.last > int64(breakerForget) {
		h.results = 0
	}
	h.last = now
	h.results = (h.results<<1 | failed) & (1<<breakerOf - 1)
}

// cool lets the target rest as long as the upstream said, or longer each time.
func (h *health) cool(now int64, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if wait <= 0 {
		wait = min(coolAtFirst<<min(h.cools, 10), coolAtMost)
	}
	h.cools++
	h.probe.Store(0)
	h.rest(now, wait)
}

func (h *health) rest(now int64, wait time.Duration) {
	until := now + int64(min(wait, restAtMost))
	for {
		old := h.resting.Load()
		if old >= until || h.resting.CompareAndSwap(old, until) {
			return
		}
	}
}

// reset forgets all.
func (h *health) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key.off.Store(false)
	h.model.absent.Store(0)
	h.resting.Store(0)
	h.open.Store(0)
	h.probe.Store(0)
	h.results, h.opens, h.cools = 0, 0, 0
}
