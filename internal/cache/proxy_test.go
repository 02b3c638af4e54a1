package cache_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy stands before a server and can hold back what it answers.
type proxy struct {
	addr string
	mu   sync.Mutex
}

func (p *proxy) hold()    { p.mu.Lock() }
func (p *proxy) release() { p.mu.Unlock() }

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	to = strings.TrimPrefix(to, "redis://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c, to) })
		}
	})
	return p
}

func (p *proxy) serve(c net.Conn, to string) {
	defer c.Close() //nolint:errcheck // the other side is gone
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, c)
		_ = server.Close()
	})
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		p.mu.Lock()
		_, werr := c.Write(buf[:n])
		p.mu.Unlock()
		if err != nil || werr != nil {
			break
		}
	}
	_ = c.Close()
	up.Wait()
}
