package mock

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// pipeSize is how many bytes may be on their way in one direction.
	pipeSize = 64 << 10
	// pipeHeaderTimeout bounds the wait for the head of a request.
	pipeHeaderTimeout = time.Minute
)

// Pipe serves a handler without a socket. dial connects to it, whatever the
// address; close ends all connections and waits for the handlers to return.
func Pipe(h http.Handler) (dial func(ctx context.Context, network, addr string) (net.Conn, error), closeAll func() error) {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	var running sync.WaitGroup // the connections
	srv := &http.Server{
		ReadHeaderTimeout: pipeHeaderTimeout,
		Handler:           h,
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				running.Add(1)
			case http.StateClosed, http.StateHijacked:
				running.Done()
			case http.StateActive, http.StateIdle:
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	closeAll = sync.OnceValue(func() error {
		err := errors.Join(l.Close(), srv.Close())
		if e := <-served; !errors.Is(e, http.ErrServerClosed) && !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
		running.Wait()
		return err
	})
	return l.dial, closeAll
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := newPipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// newPipe returns the two ends of a connection in memory. Unlike those of
// [net.Pipe], a write returns before it is read, as on a socket.
func newPipe() (client, server net.Conn) {
	up, down := newStream(), newStream()
	return &pipeConn{r: down, w: up}, &pipeConn{r: up, w: down}
}

type pipeConn struct{ r, w *stream }

func (c *pipeConn) Read(b []byte) (int, error)  { return c.r.read(b) }
func (c *pipeConn) Write(b []byte) (int, error) { return c.w.write(b) }
func (c *pipeConn) LocalAddr() net.Addr         { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr        { return pipeAddr{} }

func (c *pipeConn) Close() error {
	c.r.closeRead()
	c.w.closeWrite()
	return nil
}

func (c *pipeConn) SetDeadline(t time.Time) error {
	c.r.readBy.set(c.r, t)
	c.w.writeBy.set(c.w, t)
	return nil
}

func (c *pipeConn) SetReadDeadline(t time.Time) error {
	c.r.readBy.set(c.r, t)
	return nil
}

func (c *pipeConn) SetWriteDeadline(t time.Time) error {
	c.w.writeBy.set(c.w, t)
	return nil
}

// stream is one direction of a pipe.
type stream struct {
	mu      sync.Mutex
	changed sync.Cond
	buf     []byte
	from    int  // buf[from:] is not read yet
	noRead  bool // the reader closed
	noWrite bool // the writer closed
	readBy  deadline
	writeBy deadline
}

func newStream() *stream {
	s := new(stream)
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.noRead:
			return 0, net.ErrClosed
		case s.readBy.over:
			return 0, os.ErrDeadlineExceeded
		case s.from < len(s.buf) || len(b) == 0:
			n := copy(b, s.buf[s.from:])
			s.from += n
			if s.from == len(s.buf) {
				s.buf, s.from = s.buf[:0], 0
			}
			s.changed.Broadcast()
			return n, nil
		case s.noWrite:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.noWrite:
			return n, net.ErrClosed
		case s.noRead:
			return n, io.ErrClosedPipe
		case s.writeBy.over:
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		if room := pipeSize - (len(s.buf) - s.from); room > 0 {
			if s.from > 0 {
				s.buf = append(s.buf[:0], s.buf[s.from:]...)
				s.from = 0
			}
			take := min(room, len(b))
			s.buf = append(s.buf, b[:take]...)
			b, n = b[take:], n+take
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

func (s *stream) closeRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noRead, s.buf, s.from = true, nil, 0
	s.readBy.stop()
	s.changed.Broadcast()
}

func (s *stream) closeWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noWrite = true
	s.writeBy.stop()
	s.changed.Broadcast()
}

// deadline is until when one end of a stream may be waited for. The stream's
// lock guards it.
type deadline struct {
	over  bool
	timer *time.Timer
	turn  int // tells a late timer from the current one
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.turn++
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.over = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.over = true
		s.changed.Broadcast()
		return
	}
	turn := d.turn
	d.timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.turn == turn {
			d.over = true
			s.changed.Broadcast()
		}
	})
}
