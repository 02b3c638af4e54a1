package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // what net/http takes
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu/internal/relay/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers each connection with a function.
type server struct {
	addr  string
	conns atomic.Int64
}

// serve calls f with each connection and what its first request was.
func serve(tb testing.TB, f func(c net.Conn, r *bufio.Reader, n int)) *server {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	s := &server{addr: "http://" + l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(s.conns.Add(1))
			go func() {
				defer func() { _ = c.Close() }()
				f(c, bufio.NewReader(c), n)
			}()
		}
	}()
	return s
}

// request reads a request.
func request(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

func client(tb testing.TB, o wire.Options) *wire.Client {
	tb.Helper()
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	c := wire.New(o)
	tb.Cleanup(c.Close)
	return c
}

func endpoint(tb testing.TB, c *wire.Client, url string) *wire.Endpoint {
	tb.Helper()
	e, err := c.Endpoint("POST", url+"/v1/x?y=z", http.Header{"Authorization": {"Bearer k"}}, "", nil)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func do(ctx context.Context, e *wire.Endpoint, body string) (*wire.Answer, error) {
	return e.Do(ctx, e.Finish(append(e.Begin(nil), body...)), 5*time.Second)
}

// all reads an answer to its end.
func all(a *wire.Answer) (string, error) {
	defer a.Close()
	var b strings.Builder
	for {
		p, err := a.Burst(5 * time.Second)
		b.Write(p)
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 9, 10, 999, 1000, 100_000} {
		body := strings.Repeat("b", size)
		got := make(chan string, 1)
		s := serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
			req, err := http.ReadRequest(r)
			if err != nil {
				got <- err.Error()
				return
			}
			b, _ := io.ReadAll(req.Body)
			got <- fmt.Sprintf("%s %s %s %s %d %v", req.Method, req.RequestURI, req.Header.Get("Authorization"), req.Header.Get("Accept-Encoding"), len(b), string(b) == body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
		})
		a, err := do(t.Context(), endpoint(t, client(t, wire.Options{}), s.addr), body)
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := all(a); answer != "hi" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
		if want := fmt.Sprintf("POST /v1/x?y=z Bearer k identity %d true", size); <-got != want {
			t.Errorf("size %d: not %s", size, want)
		}
	}
}

func TestEndpointRefuses(t *testing.T) {
	t.Parallel()
	c := client(t, wire.Options{})
	for _, u := range []string{"", "ftp://x", "http://", "http://u:p@x/", "://", "/v1"} {
		if _, err := c.Endpoint("POST", u, nil, "", nil); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
	if _, err := c.Endpoint("POST", "http://x/", http.Header{"A": {"b\r\nC: d"}}, "", nil); err == nil {
		t.Error("a header with a line break is taken")
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct{ name, answer, body, err string }{
		{"length", ok + "Content-Length: 3\r\n\r\nabc", "abc", ""},
		{"lengths that agree", ok + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "abc", ""},
		{"chunked", ok + "Transfer-Encoding: Chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nT: r\r\n\r\n", "abc", ""},
		{"close-delimited", ok + "\r\nabc", "abc", ""},
		{"empty", ok + "Content-Length: 0\r\n\r\n", "", ""},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", "", ""},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok + "Content-Length: 1\r\n\r\na", "a", ""},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nabc", "abc", ""},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", "a", ""},
		{"cut length", ok + "Content-Length: 4\r\n\r\nabc", "abc", "unexpected EOF"},
		{"cut chunk", ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nabc", "abc", "unexpected EOF"},
		{"cut before the last chunk", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc", "unexpected EOF"},
		{"cut head", "HTTP/1.1 200 OK\r\nA: b\r\n", "", "unexpected EOF"},
		{"nothing", "", "", "unexpected EOF"},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n\r\n", "", "not proper HTTP"},
		{"HTTP/2", "HTTP/2 200\r\n\r\n", "", "not proper HTTP"},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\na", "", "not proper HTTP"},
		{"bare LF between fields", ok + "A: b\nContent-Length: 1\r\n\r\na", "", "not proper HTTP"},
		{"folded", ok + "A: b\r\n c\r\n\r\n", "", "not proper HTTP"},
		{"space before colon", ok + "Content-Length : 1\r\n\r\na", "", "not proper HTTP"},
		{"length and chunked", ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"two lengths", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "", "not proper HTTP"},
		{"list of lengths", ok + "Content-Length: 1, 1\r\n\r\nab", "", "not proper HTTP"},
		{"negative length", ok + "Content-Length: -1\r\n\r\n", "", "not proper HTTP"},
		{"signed length", ok + "Content-Length: +1\r\n\r\na", "", "not proper HTTP"},
		{"huge length", ok + "Content-Length: 99999999999999999999\r\n\r\n", "", "not proper HTTP"},
		{"gzip, chunked", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", "", "not proper HTTP"},
		{"chunked twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "", "not proper HTTP"},
		{"chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"compressed", ok + "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", "", "not proper HTTP"},
		{"switch", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "", "not proper HTTP"},
		{"chunk without size", ok + "Transfer-Encoding: chunked\r\n\r\n\r\n", "", "not proper HTTP"},
		{"chunk of 17 digits", ok + "Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"chunk with bare LF", ok + "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"chunk with bare LF in extension", ok + "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"chunk longer than its size", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"chunk with a sign", ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"chunk with 0x", ok + "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", "", "not proper HTTP"},
		{"large head", ok + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 60) + "Content-Length: 1\r\n\r\na", "a", ""},
		{"too large head", ok + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 70) + "\r\n", "", "too large"},
		{"endless line", ok + "A: " + strings.Repeat("b", 1<<20), "", "too large"},
		{"endless interim answers", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10000), "", "too large"},
		{"endless trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", 100000), "", "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, pipe := range []bool{false, true} {
				o := wire.Options{}
				addr := "http://upstream.example"
				if pipe {
					o.Dial = func(context.Context, string, string) (net.Conn, error) {
						ours, theirs := net.Pipe()
						go func() {
							defer func() { _ = theirs.Close() }()
							if err := request(bufio.NewReader(theirs)); err == nil {
								_, _ = io.WriteString(theirs, tt.answer)
							}
						}()
						return ours, nil
					}
				} else {
					addr = serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
						if err := request(r); err == nil {
							_, _ = io.WriteString(c, tt.answer)
						}
					}).addr
				}
				a, err := do(t.Context(), endpoint(t, client(t, o), addr), "x")
				body := ""
				if err == nil {
					body, err = all(a)
				}
				switch {
				case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
					if !strings.Contains(fmt.Sprint(err), "connection reset") || tt.err != "too large" {
						t.Errorf("pipe %v: error %v, want %q", pipe, err, tt.err)
					}
				case tt.err == "" && body != tt.body:
					t.Errorf("pipe %v: body %q, want %q", pipe, body, tt.body)
				}
			}
		})
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
		_ = request(r)
		_, _ = io.WriteString(c, "HTTP/1.1 429 Slow Down\r\nretry-after:  7 \r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nslow")
	})
	a, err := do(t.Context(), endpoint(t, client(t, wire.Options{}), s.addr), "x")
	if err != nil {
		t.Fatal(err)
	}
	if a.Status() != 429 || a.Header().Get("Retry-After") != "7" || a.ContentType() != "text/plain" || a.Length() != 4 {
		t.Errorf("%d %v", a.Status(), a.Header())
	}
	if body, err := all(a); body != "slow" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

// Connections are used again, unless something is odd about them.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
	for answer, conns := range map[string]int64{
		good: 1,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n": 1,
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na":       3,
		"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na":    3,
		good + "HTTP/1.1 200 OK":                                        3, // more than was asked for
		"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na":                 3,
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 1\r\n\r\n":        3,
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n": 3,
	} {
		s := serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
			for {
				if err := request(r); err != nil {
					return
				}
				_, _ = io.WriteString(c, answer)
			}
		})
		e := endpoint(t, client(t, wire.Options{}), s.addr)
		for range 3 {
			a, err := do(t.Context(), e, "x")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := all(a); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.conns.Load(); got != conns {
			t.Errorf("%q: %d connections, want %d", answer, got, conns)
		}
	}
}

// A connection that the upstream closed while it was unused costs nothing: the
// request is sent once more, on a new one.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 1)
	s := serve(t, func(c net.Conn, r *bufio.Reader, n int) {
		_ = request(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
		if n == 1 {
			_ = c.Close()
			closed <- struct{}{}
		}
	})
	e := endpoint(t, client(t, wire.Options{}), s.addr)
	for i := range 2 {
		a, err := do(t.Context(), e, "x")
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_, _ = all(a)
		if i == 0 {
			<-closed
		}
	}
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A request is not sent twice when it may have been answered, or on a new
// connection.
func TestNoBlindRetry(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	s := serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for i := 0; ; i++ {
			if err := request(r); err != nil {
				return
			}
			requests.Add(1)
			if i > 0 {
				_, _ = io.WriteString(c, "H") // a byte of an answer
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
		}
	})
	e := endpoint(t, client(t, wire.Options{}), s.addr)
	a, err := do(t.Context(), e, "x")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = all(a)
	if _, err := do(t.Context(), e, "x"); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, wire.ErrNotSent) {
		t.Errorf("error %v", err)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
	var alone atomic.Int64
	s = serve(t, func(_ net.Conn, r *bufio.Reader, _ int) {
		_ = request(r)
		alone.Add(1)
	})
	if _, err := do(t.Context(), endpoint(t, client(t, wire.Options{}), s.addr), "x"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	if n := alone.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	refuse := errors.New("refused")
	c := client(t, wire.Options{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refuse }})
	if _, err := do(t.Context(), endpoint(t, c, "http://x"), "x"); !errors.Is(err, wire.ErrNotSent) || !errors.Is(err, refuse) {
		t.Errorf("error %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %v", r.Proto, r.TLS.Version >= tls.VersionTLS12)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	c := client(t, wire.Options{TLS: &tls.Config{RootCAs: roots}})
	for range 3 {
		a, err := do(t.Context(), endpoint(t, c, srv.URL), "x")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := all(a); err != nil || !strings.HasPrefix(got, "HTTP/1.1 truex") || len(got) != 100_013 {
			t.Errorf("%.20q, %d bytes, %v", got, len(got), err)
		}
	}
	if _, err := do(t.Context(), endpoint(t, client(t, wire.Options{TLS: &tls.Config{RootCAs: x509.NewCertPool()}}), srv.URL), "x"); err == nil {
		t.Error("a certificate of nobody is taken")
	}
}

// A burst brings all that one read brought, without its framing.
func TestBurst(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c net.Conn, r *bufio.Reader, _ int) {
		_ = request(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+strings.Repeat("2\r\nab\r\n", 100)+"0\r\n\r\n")
	})
	a, err := do(t.Context(), endpoint(t, client(t, wire.Options{}), s.addr), "x")
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Burst(time.Second)
	if len(p) != 200 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	a.Close()
}
