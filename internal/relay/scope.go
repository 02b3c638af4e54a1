package relay

import (
	"context"
	"sync"
)

// scope is the context of a request. It ends with the client's, or before when
// the request is cut short. It does what context.WithCancel would, and costs
// next to nothing while nobody waits for it but the upstream's connection.
type scope struct {
	context.Context //nolint:containedctx // the client's

	stop func() bool // ends the watch on the client's

	mu    sync.Mutex
	over  bool
	then  func()             // what to do at the end, if anything
	turn  int                // counts what there was to do
	whole context.Context    //nolint:containedctx // for all who want more than that; nil until then
	end   context.CancelFunc // of whole
}

// begin follows the client's context.
func (s *scope) begin(client context.Context) {
	s.Context = client
	s.stop = context.AfterFunc(client, s.cancel)
}

// close ends the scope for good, and lets go of the client's context.
func (s *scope) close() {
	if s.stop != nil {
		s.stop()
	}
	s.cancel()
}

// cancel ends the scope. It may be called more than once, by any goroutine.
func (s *scope) cancel() {
	s.mu.Lock()
	then, end := s.then, s.end
	s.over, s.then, s.end = true, nil, nil
	s.mu.Unlock()
	if end != nil {
		end()
	}
	if then != nil {
		then()
	}
}

// Done implements [context.Context].
func (s *scope) Done() <-chan struct{} { return s.full().Done() }

// Err implements [context.Context].
func (s *scope) Err() error {
	if err := s.Context.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return context.Canceled
	}
	return nil
}

// full makes the context that others can wait for.
func (s *scope) full() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole == nil {
		s.whole, s.end = context.WithCancel(s.Context)
		if s.over {
			s.end()
		}
	}
	return s.whole
}

// AfterFunc calls f when the scope ends, unless stop is called before. It is
// what [context.AfterFunc] does, which looks for this method.
func (s *scope) AfterFunc(f func()) (stop func() bool) {
	s.mu.Lock()
	if s.over || s.then != nil {
		s.mu.Unlock()
		return context.AfterFunc(s.full(), f)
	}
	defer s.mu.Unlock()
	s.then = f
	s.turn++
	turn := s.turn
	return func() bool { return s.forget(turn) }
}

// forget takes back what was to be done at the end.
func (s *scope) forget(turn int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.then == nil || s.turn != turn {
		return false
	}
	s.then = nil
	return true
}
