//go:build unix

package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// rawReader reads a socket without holding a buffer while it waits: the buffer
// is borrowed once there is something to read.
type rawReader struct {
	c   *conn
	rc  syscall.RawConn
	try func(fd uintptr) bool
	n   int
	err error
}

func (r *rawReader) init(c *conn, nc net.Conn) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	r.c, r.rc = c, rc
	r.try = r.attempt // bound once: reading allocates nothing
}

func (r *rawReader) ok() bool { return r.rc != nil }

func (r *rawReader) read() error {
	r.n, r.err = 0, nil
	if err := r.rc.Read(r.try); err != nil {
		return err
	}
	if r.err != nil {
		return os.NewSyscallError("read", r.err)
	}
	if r.n == 0 {
		return io.EOF
	}
	return nil
}

// attempt reads what there is. It reports false to wait for more.
func (r *rawReader) attempt(fd uintptr) bool {
	c := r.c
	if c.buf == nil {
		c.buf = buffers.get()
	} else if c.w == len(c.buf) {
		c.grow()
	}
	for {
		n, err := syscall.Read(int(fd), c.buf[c.w:])
		switch {
		case err == nil:
			c.w += n
			r.n = n
			return true
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			if c.r == c.w {
				c.release()
			}
			return false
		default:
			r.err = err
			return true
		}
	}
}

// alive reports whether an unused connection is still open and silent.
func (c *conn) alive() bool {
	if !c.raw.ok() {
		return true
	}
	open := false
	err := c.raw.rc.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		open = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && open
}
