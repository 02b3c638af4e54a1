package wire_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jimu-ai/jimu/internal/relay/wire"
)

// The end of the context closes the connection at once, before and within the
// answer; so does Abort. A late one does not harm the next request.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before the head", "within the body", "abort"} {
		closed, begun := make(chan struct{}), make(chan struct{})
		s := serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
			_ = request(r)
			if when != "before the head" {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na")
			}
			close(begun)
			_, _ = r.ReadByte()
			close(closed)
		})
		ctx, stop := context.WithCancel(t.Context())
		cancel := func() { stop() }
		e := endpoint(t, client(t, wire.Options{}), s.addr)
		if when == "before the head" {
			go func() { <-begun; cancel() }()
			if _, err := do(ctx, e, "x"); err == nil {
				t.Error("no error")
			}
			<-closed
			continue
		}
		a, err := do(ctx, e, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Burst(time.Second); err != nil {
			t.Fatal(err)
		}
		cut := cancel
		if when == "abort" {
			cut = a.Abort
		}
		go cut()
		if _, err := a.Burst(time.Minute); err == nil {
			t.Error("no error")
		}
		a.Close()
		a.Abort()
		<-closed
		cancel()
	}
}

// Deadlines hold, on a clock of the test's own.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := ""
		c := wire.New(wire.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer func() { _ = theirs.Close() }()
				r := bufio.NewReader(theirs)
				_ = request(r)
				_, _ = io.WriteString(theirs, answer)
				_, _ = r.ReadByte() // until it is closed
			}()
			return ours, nil
		}})
		defer c.Close()
		e := endpoint(t, c, "http://x")
		began := time.Now()
		_, err := e.Do(t.Context(), e.Finish(e.Begin(nil)), 7*time.Second)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || time.Since(began) != 7*time.Second {
			t.Errorf("the head: %v after %s", err, time.Since(began))
		}
		answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"
		a, err := e.Do(t.Context(), e.Finish(e.Begin(nil)), 7*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Burst(time.Second); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		_, err = a.Burst(9 * time.Second)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || time.Since(began) != 9*time.Second {
			t.Errorf("the body: %v after %s", err, time.Since(began))
		}
		a.Close()
		a, err = e.Do(t.Context(), e.Finish(e.Begin(nil)), 7*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = a.Burst(time.Second)
		began = time.Now()
		time.AfterFunc(time.Second, func() { a.Limit(time.Now().Add(2 * time.Second)) })
		if _, err = a.Burst(time.Minute); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("the limit: %v after %s", err, time.Since(began))
		}
		a.Close()
	})
}

// Unused connections are closed after a time.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		c := wire.New(wire.Options{IdleTimeout: 30 * time.Second, Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			open.Add(1)
			go func() {
				defer open.Add(-1)
				r := bufio.NewReader(theirs)
				for {
					if err := request(r); err != nil {
						return
					}
					_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
			return ours, nil
		}})
		e := endpoint(t, c, "http://x")
		var as []*wire.Answer
		for range 5 {
			a, err := do(t.Context(), e, "x")
			if err != nil {
				t.Fatal(err)
			}
			as = append(as, a)
		}
		for _, a := range as {
			<-time.After(time.Second) // of the test's own clock
			_, _ = all(a)
		}
		if n := open.Load(); n != 5 {
			t.Errorf("%d connections are open", n)
		}
		<-time.After(31 * time.Second)
		if n := open.Load(); n != 0 {
			t.Errorf("%d connections are still open", n)
		}
		c.Close()
		synctest.Wait()
	})
}
