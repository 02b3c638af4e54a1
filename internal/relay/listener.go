package relay

import (
	"net"
	"sync"
)

// Listener accepts connections, and takes those back that a stream was sent
// on after they had been taken from the server, so that their clients can use
// them again.
type Listener struct {
	net.Listener
	start    sync.Once
	accepted chan accepted
	back     chan net.Conn
	stop     sync.Once
	done     chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// Listen wraps a listener.
func Listen(l net.Listener) *Listener {
	return &Listener{
		Listener: l,
		accepted: make(chan accepted),
		back:     make(chan net.Conn),
		done:     make(chan struct{}),
	}
}

// Accept returns the next connection, new or come back.
func (l *Listener) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.loop() })
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case c := <-l.back:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *Listener) loop() {
	for {
		c, err := l.Listener.Accept()
		if tcp, ok := c.(*net.TCPConn); ok {
			c = &keptConn{TCPConn: tcp, l: l}
		}
		select {
		case l.accepted <- accepted{c, err}:
		case <-l.done:
			if err == nil {
				_ = c.Close()
			}
			return
		}
	}
}

// Close stops accepting.
func (l *Listener) Close() error {
	l.stop.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// keptConn is a connection that knows its listener.
type keptConn struct {
	*net.TCPConn
	l *Listener
}

// giveBack hands the connection to the server again.
func (c *keptConn) giveBack() {
	select {
	case c.l.back <- c:
	case <-c.l.done:
		_ = c.Close()
	}
}
