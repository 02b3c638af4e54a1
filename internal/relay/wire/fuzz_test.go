package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/jimu-ai/jimu/internal/relay/wire"
)

// FuzzAnswer compares with the parser of net/http: what is taken here is taken
// there too, and means the same.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nT: r\r\n\r\n",
		"HTTP/1.0 404 Not\r\n\r\nabc",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := wire.New(wire.Options{Dial: func(context.Context, string, string) (net.Conn, error) { return &script{b: b}, nil }})
		defer c.Close()
		a, err := do(t.Context(), endpoint(t, c, "http://x"), "x")
		if err != nil {
			return
		}
		status := a.Status()
		got, err := all(a)
		if err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("net/http refuses %q: %v", b, err)
			}
			want, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode < 200 {
				continue
			}
			if err != nil || res.StatusCode != status || string(want) != got {
				t.Fatalf("%q: %d %q, net/http reads %d %q, %v", b, status, got, res.StatusCode, want, err)
			}
			return
		}
	})
}

// script is a connection whose other end has said all it will.
type script struct {
	net.Conn
	b []byte
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 7)], s.b)
	s.b = s.b[n:]
	return n, nil
}
func (s *script) Write(p []byte) (int, error)     { return len(p), nil }
func (s *script) Close() error                    { return nil }
func (s *script) SetDeadline(time.Time) error     { return nil }
func (s *script) SetReadDeadline(time.Time) error { return nil }

func BenchmarkRoundTrip(b *testing.B) {
	s := serve(b, func(c net.Conn, r *bufio.Reader, _ int) {
		buf := make([]byte, 64<<10)
		for {
			if _, err := r.Read(buf); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
		}
	})
	e := endpoint(b, client(b, wire.Options{}), s.addr)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		a, err := e.Do(b.Context(), e.Finish(append(e.Begin(buf[:0]), `{"model":"m"}`...)), time.Second)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.Burst(time.Second); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		a.Close()
	}
}
