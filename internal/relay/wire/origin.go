package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

// origin is a scheme, host and port, and the unused connections to it.
type origin struct {
	addr    string
	dial    Dial
	tls     *tls.Config // nil is plain
	maxIdle int
	idleFor time.Duration

	mu     sync.Mutex
	idle   []*conn // the last one was used last
	timer  *time.Timer
	closed bool
}

// take returns the connection that was used last, or nil.
func (o *origin) take(now time.Time) *conn {
	for {
		o.mu.Lock()
		n := len(o.idle)
		if n == 0 {
			o.mu.Unlock()
			return nil
		}
		c := o.idle[n-1]
		o.idle[n-1] = nil
		o.idle = o.idle[:n-1]
		o.mu.Unlock()
		if now.Sub(c.since) < restful || c.alive() {
			return c
		}
		c.close()
	}
}

// put keeps a connection for the next request.
func (o *origin) put(c *conn) {
	c.since = time.Now()
	c.used = true
	c.deadline = time.Time{}
	o.mu.Lock()
	if o.closed || len(o.idle) >= o.maxIdle {
		o.mu.Unlock()
		c.close()
		return
	}
	o.idle = append(o.idle, c)
	if o.timer == nil {
		o.timer = time.AfterFunc(o.idleFor, o.prune)
	}
	o.mu.Unlock()
}

// prune closes what has been unused for too long, and comes back while there
// is anything left.
func (o *origin) prune() {
	old := time.Now().Add(-o.idleFor)
	o.mu.Lock()
	n := 0
	for n < len(o.idle) && !o.idle[n].since.After(old) {
		n++
	}
	gone := append([]*conn(nil), o.idle[:n]...)
	o.idle = append(o.idle[:0:0], o.idle[n:]...)
	o.timer = nil
	if len(o.idle) > 0 {
		o.timer = time.AfterFunc(max(time.Until(o.idle[0].since.Add(o.idleFor)), time.Second), o.prune)
	}
	o.mu.Unlock()
	for _, c := range gone {
		c.close()
	}
}

func (o *origin) close() {
	o.mu.Lock()
	gone := o.idle
	o.idle, o.closed = nil, true
	if o.timer != nil {
		o.timer.Stop()
	}
	o.mu.Unlock()
	for _, c := range gone {
		c.close()
	}
}

// connect opens a new connection.
func (o *origin) connect(ctx context.Context) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	nc, err := o.dial(dctx, "tcp", o.addr)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if o.tls == nil {
		return newConn(o, nc, nc), nil
	}
	tctx, cancelTLS := context.WithTimeout(ctx, tlsTimeout)
	defer cancelTLS()
	tc := tls.Client(nc, o.tls)
	if err := tc.HandshakeContext(tctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("greeting the upstream over TLS: %w", err)
	}
	return newConn(o, tc, nc), nil
}

// conn is one connection. One request uses it at a time.
type conn struct {
	o        *origin
	nc       net.Conn // speaks to the upstream
	low      net.Conn // what carries it; closing it ends everything at once
	raw      rawReader
	buf      []byte // borrowed, or nil while nothing is unread
	r, w     int    // buf[r:w] is unread
	small    []byte // for connections that cannot say whether they are readable
	used     bool   // a request was answered on it before
	since    time.Time
	deadline time.Time // of reads, as last set
}

func newConn(o *origin, nc, low net.Conn) *conn {
	c := &conn{o: o, nc: nc, low: low}
	if nc == low {
		c.raw.init(c, nc)
	}
	return c
}

func (c *conn) close() {
	_ = c.low.Close()
	c.release()
}

// release gives the read buffer back.
func (c *conn) release() {
	if c.buf != nil && cap(c.buf) == bufSize {
		buffers.put(c.buf[:bufSize])
	}
	c.buf, c.r, c.w = nil, 0, 0
}

// bufSize is what is read at once, at most.
const bufSize = 8 << 10

// smallSize is what a connection that cannot say whether it is readable (TLS,
// or one inside the process) holds while it waits.
const smallSize = 4 << 10

// spare keeps a few buffers for the next one who needs one. A sync.Pool would
// keep as many as were ever in use at once, for two collections of garbage.
type spare struct {
	mu   sync.Mutex
	bufs [][]byte
}

// maxSpare bounds what is kept: far more than run at the same instant.
const maxSpare = 64

var buffers spare //nolint:gochecknoglobals // a pool has to be shared to be one

func (s *spare) put(b []byte) {
	s.mu.Lock()
	if len(s.bufs) < maxSpare {
		s.bufs = append(s.bufs, b)
	}
	s.mu.Unlock()
}

func (s *spare) get() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.bufs)
	if n == 0 {
		return make([]byte, bufSize)
	}
	b := s.bufs[n-1]
	s.bufs = s.bufs[:n-1]
	return b
}

// fill waits for bytes and reads them behind the unread ones. There is always
// room: the caller has consumed or moved what was there.
func (c *conn) fill() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if c.raw.ok() {
		return c.raw.read()
	}
	if c.buf == nil {
		if c.small == nil {
			c.small = make([]byte, smallSize)
		}
		c.buf = c.small
	}
	if c.w == len(c.buf) {
		c.grow()
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// grow makes room behind the unread bytes. Only a head that does not fit comes
// here, and heads are bounded.
func (c *conn) grow() {
	bigger := make([]byte, 4*len(c.buf))
	n := copy(bigger, c.buf[c.r:c.w])
	c.release()
	c.buf, c.r, c.w = bigger, 0, n
}

// until sets the deadline of reads. Moving it by less than slack is not worth
// the call.
func (c *conn) until(t time.Time, slack time.Duration) error {
	if d := t.Sub(c.deadline); d >= 0 && d < slack {
		return nil
	}
	c.deadline = t
	return c.nc.SetReadDeadline(t)
}
