package relay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, gone := context.WithCancel(t.Context())
		s := new(scope)
		s.begin(client)
		ended, child := 0, 0
		never := context.AfterFunc(s, func() { t.Error("called after it was stopped") })
		if !never() || never() {
			t.Error("stopped once is stopped")
		}
		stop := s.AfterFunc(func() { ended++ })
		if never() {
			t.Error("one stopped the other")
		}
		derived, cancel := context.WithCancel(s)
		defer cancel()
		context.AfterFunc(derived, func() { child++ })
		if s.Err() != nil || derived.Err() != nil {
			t.Fatal("it has not begun, and is over")
		}
		gone()
		synctest.Wait()
		if ended != 1 || child != 1 || stop() {
			t.Errorf("called %d and %d times at the end", ended, child)
		}
		<-s.Done()
		if !errors.Is(s.Err(), context.Canceled) || !errors.Is(derived.Err(), context.Canceled) {
			t.Error("it has ended, and is not over")
		}
		late := make(chan struct{})
		s.AfterFunc(func() { close(late) })
		<-late
	})
}

func TestScopeCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := new(scope)
		s.begin(t.Context())
		ended := 0
		s.AfterFunc(func() { ended++ })
		s.close()
		s.close()
		<-s.Done()
		if ended != 1 || !errors.Is(s.Err(), context.Canceled) || t.Context().Err() != nil {
			t.Errorf("called %d times, it says %v", ended, s.Err())
		}
	})
}
