package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Answer is an upstream's answer, read as it arrives. All but Abort and Limit
// are for one goroutine. Close must be called.
type Answer struct {
	framing
	head []byte // of an answer that is not 200
	body chunks
	left int64 // of a body with a length
	done bool  // the body has been read to its end

	mu      sync.Mutex
	conn    *conn
	stop    func() bool // ends the watch on the request's context
	aborted bool
	limit   atomic.Int64 // the end of all reading, in Unix nanoseconds; 0 is none
}

// Status returns the status.
func (a *Answer) Status() int { return a.status }

// ContentType returns the media type as the upstream wrote it.
func (a *Answer) ContentType() string { return a.ctype }

// Length returns the stated length of the body, or -1.
func (a *Answer) Length() int64 { return a.length }

// Whole reports whether the end of the body is marked, so that a cut can be
// told from the end.
func (a *Answer) Whole() bool { return a.chunked || a.length >= 0 }

// Header returns the fields of an answer whose status is not 200.
func (a *Answer) Header() http.Header { return fields(a.head) }

// ErrNotSent is in the chain of an error where the request was not sent whole,
// so that the upstream cannot have worked on it.
var ErrNotSent = errors.New("the request was not sent")

// unsent marks an error as [ErrNotSent].
type unsent struct{ err error }

func (e unsent) Error() string   { return e.err.Error() }
func (e unsent) Unwrap() []error { return []error{ErrNotSent, e.err} }

// Do sends a request made by [Endpoint.Finish], and reads the head of the
// answer, which has to arrive within wait. The connection is closed at once
// when ctx ends, until [Answer.Detach] or [Answer.Close] is called. A request
// that met a connection which the upstream had closed meanwhile is sent once
// more.
func (e *Endpoint) Do(ctx context.Context, request []byte, wait time.Duration) (*Answer, error) {
	now := time.Now()
	if c := e.o.take(now); c != nil {
		a, silent, err := e.exchange(ctx, c, request, now.Add(wait))
		if err == nil || !silent || ctx.Err() != nil {
			return a, err
		}
	}
	c, err := e.o.connect(ctx)
	if err != nil {
		return nil, unsent{err}
	}
	a, _, err := e.exchange(ctx, c, request, time.Now().Add(wait))
	return a, err
}

// exchange sends a request on a connection and reads the head of the answer,
// which has to be there by a time.
// silent reports that the upstream had closed the connection, or it broke,
// before anything came back.
func (e *Endpoint) exchange(ctx context.Context, c *conn, request []byte, until time.Time) (a *Answer, silent bool, err error) {
	a = &Answer{conn: c}
	a.stop = afterFunc(ctx, a.Abort)
	defer func() {
		if err != nil {
			a.fail()
			a = nil
		}
	}()
	c.deadline = until
	if err = c.nc.SetDeadline(c.deadline); err != nil {
		return a, true, unsent{err}
	}
	if _, err = c.nc.Write(request); err != nil {
		return a, !isTimeout(err), unsent{err}
	}
	silent, err = a.readHead()
	return a, silent, err
}

// afterFunc is [context.AfterFunc], without the context that it makes where
// ctx can do without.
func afterFunc(ctx context.Context, f func()) (stop func() bool) {
	if c, ok := ctx.(interface{ AfterFunc(f func()) func() bool }); ok {
		return c.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// readHead reads up to the body, over interim answers.
func (a *Answer) readHead() (silent bool, err error) {
	c := a.conn
	seen, total := 0, 0
	for {
		n := headEnd(c.buf[c.r:c.w], seen)
		if n == 0 {
			if seen = c.w - c.r; total+seen > maxHead {
				return false, bad("its head is too large")
			}
			if err := c.fill(); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return seen+total == 0 && !isTimeout(err), err
			}
			continue
		}
		if total += n; total > maxHead {
			return false, bad("its head is too large")
		}
		head := c.buf[c.r : c.r+n]
		if a.framing, err = parseHead(head); err != nil {
			return false, err
		}
		if a.status >= http.StatusOK {
			if a.status != http.StatusOK {
				a.head = append([]byte(nil), head...)
			}
			c.r += n
			a.left = a.length
			return false, nil
		}
		c.r += n
		seen = 0
	}
}

// Burst waits for more of the body and returns all that one read brought,
// without its framing. The error is [io.EOF] with the last bytes, and
// [io.ErrUnexpectedEOF] if the body was cut. The bytes are valid until the
// next call. idle is the longest wait.
func (a *Answer) Burst(idle time.Duration) ([]byte, error) {
	c := a.conn
	if a.done {
		return nil, io.EOF
	}
	if a.left == 0 && !a.chunked {
		a.done = true
		return nil, io.EOF
	}
	if c.r == c.w {
		if err := a.wait(idle); err != nil {
			return nil, err
		}
	}
	return a.take()
}

// wait reads once, before the idle time and the limit are over.
func (a *Answer) wait(idle time.Duration) error {
	c := a.conn
	for {
		limit := a.limit.Load()
		t, slack := time.Now().Add(idle), idle/32
		if limit != 0 && t.UnixNano() > limit {
			t, slack = time.Unix(0, limit), 0
		}
		if err := c.until(t, slack); err != nil {
			return err
		}
		if a.limit.Load() == limit {
			break
		}
	}
	err := c.fill()
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case a.chunked || a.length >= 0:
		return io.ErrUnexpectedEOF
	default:
		a.done = true
		return io.EOF
	}
}

// take returns the body's part of what is unread.
func (a *Answer) take() ([]byte, error) {
	c := a.conn
	b := c.buf[c.r:c.w]
	switch {
	case a.chunked:
		p, used, end, err := a.body.decode(b)
		c.r += used
		if err != nil {
			return nil, err
		}
		if end {
			a.done = true
			return p, io.EOF
		}
		return p, nil
	case a.length >= 0:
		b = b[:min(int64(len(b)), a.left)]
		c.r += len(b)
		if a.left -= int64(len(b)); a.left == 0 {
			a.done = true
			return b, io.EOF
		}
		return b, nil
	default:
		c.r = c.w
		return b, nil
	}
}

// Detach ends the watch on the context that the request was made with: from
// now on only Abort and Limit cut it short. What was read and taken need not
// be kept any more.
func (a *Answer) Detach() {
	a.stop()
	a.stop = stopped // it holds the context
	if a.conn != nil && a.conn.r == a.conn.w {
		a.conn.release()
	}
}

func stopped() bool { return true }

// Within bounds the time of all reading from now on. It is called before the
// first Burst.
func (a *Answer) Within(d time.Duration) { a.limit.Store(time.Now().Add(d).UnixNano()) }

// Limit ends all reading at a time. It may be called by any goroutine.
func (a *Answer) Limit(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit.Store(t.UnixNano())
	if a.conn != nil {
		_ = a.conn.nc.SetReadDeadline(t)
	}
}

// Abort closes the connection at once. It may be called at any time, by any
// goroutine.
func (a *Answer) Abort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.aborted = true
	if a.conn != nil {
		_ = a.conn.low.Close()
	}
}

// Close gives the connection back if the body was read to its end, and closes
// it otherwise. What Burst returned is no longer valid.
func (a *Answer) Close() {
	c, aborted := a.end()
	switch {
	case c == nil:
	case a.done && a.keep && c.r == c.w && !aborted:
		c.release()
		c.o.put(c)
	default:
		c.close()
	}
}

// fail closes the connection.
func (a *Answer) fail() {
	if c, _ := a.end(); c != nil {
		c.close()
	}
}

// end takes the connection away, so that no late Abort meets the next request.
func (a *Answer) end() (c *conn, aborted bool) {
	a.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	c, a.conn = a.conn, nil
	return c, a.aborted
}
