// Package host makes bricks from configuration: fills them, resolves their
// secrets, provisions and validates them, swaps a new set in for the old one,
// and closes what nobody uses any more.
package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jimu-ai/jimu"
)

// Options are what a host works with.
type Options struct {
	Registry *jimu.Registry
	Dir      string // where relative paths of secrets start
	Env      func(string) (string, bool)
	Log      *slog.Logger
	Now      func() time.Time
}

// Host owns the bricks of one process.
type Host struct {
	o       Options
	current atomic.Pointer[Set]

	load   sync.Mutex // held while a set is made
	closed bool       // guarded by load

	users sync.Mutex     // guards live.sets
	sets  sync.WaitGroup // sets that are not taken down yet
}

// New makes a host without bricks.
func New(o Options) *Host {
	h := &Host{o: o}
	h.current.Store(new(Set))
	return h
}

// Instance is one configured brick.
type Instance struct {
	Brick string // the brick's ID
	Name  string
	Value jimu.Brick
}

// Set is the bricks of one configuration. It does not change.
type Set struct {
	list []*live
	refs atomic.Int64 // users, and one for being current
	free func()       // called when the last of them lets go; nil for a set that is never taken down
}

// live is an instance. Sets share the ones that did not change between them.
type live struct {
	Instance
	sum  [32]byte // of all that it was made from
	sets int      // how many hold it; guarded by Host.users
}

// Instances lists the bricks, in the order they were made.
func (s *Set) Instances() []Instance {
	out := make([]Instance, len(s.list))
	for i, l := range s.list {
		out[i] = l.Instance
	}
	return out
}

// All returns the bricks that can serve as a T, in the order they were made.
func All[T any](s *Set) []T {
	var out []T
	for _, l := range s.list {
		if t, ok := l.Value.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// Find returns the instance of a brick ID and name, if it can serve as a T.
func Find[T any](s *Set, brick, name string) (T, bool) {
	for _, l := range s.list {
		if l.Brick == brick && l.Name == name {
			t, ok := l.Value.(T)
			return t, ok
		}
	}
	var none T
	return none, false
}

// Acquire returns the current bricks, which stay open until release is called.
func (h *Host) Acquire() (s *Set, release func()) {
	for {
		s := h.current.Load()
		if s.free == nil {
			return s, func() {}
		}
		if n := s.refs.Load(); n > 0 && s.refs.CompareAndSwap(n, n+1) {
			var done atomic.Bool
			return s, func() {
				if !done.Swap(true) {
					s.release()
				}
			}
		}
	}
}

func (s *Set) release() {
	if s.free != nil && s.refs.Add(-1) == 0 {
		s.free()
	}
}

// Load makes the bricks of a configuration and swaps them in. Instances that
// did not change are kept. On an error what was made is closed again, last
// first, and the old bricks stay.
func (h *Host) Load(ctx context.Context, entries []Entry) error {
	h.load.Lock()
	defer h.load.Unlock()
	if h.closed {
		return jimu.Errorf(jimu.Overloaded, "the brick host is closed")
	}
	list, err := h.build(ctx, entries, h.current.Load().list)
	if err != nil {
		return err
	}
	s := &Set{list: list}
	s.refs.Store(1)
	s.free = func() { h.takeDown(s) }
	h.users.Lock()
	for _, l := range list {
		l.sets++
	}
	h.users.Unlock()
	h.sets.Add(1)
	h.current.Swap(s).release()
	return nil
}

// Check makes the bricks of a configuration and closes them again.
func (h *Host) Check(ctx context.Context, entries []Entry) error {
	list, err := h.build(ctx, entries, nil)
	if err != nil {
		return err
	}
	return closeAll(list)
}

// takeDown closes what only this set still holds. The last user of a set may be
// a request, which does not wait for that.
func (h *Host) takeDown(s *Set) {
	var gone []*live
	h.users.Lock()
	for _, l := range s.list {
		if l.sets--; l.sets == 0 {
			gone = append(gone, l)
		}
	}
	h.users.Unlock()
	go func() {
		defer h.sets.Done()
		if err := closeAll(gone); err != nil {
			h.o.Log.Error("closing bricks", "err", err)
		}
	}()
}

// Close takes the bricks away, and returns when all are closed or ctx ends.
// What is in use then is closed by its last user.
func (h *Host) Close(ctx context.Context) error {
	h.load.Lock()
	h.closed = true
	h.current.Swap(new(Set)).release()
	h.load.Unlock()
	done := make(chan struct{})
	go func() {
		h.sets.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing bricks that are in use: %w", ctx.Err())
	}
}
