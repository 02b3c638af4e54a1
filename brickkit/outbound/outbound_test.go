package outbound_test

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/brickkit/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	t.Parallel()
	const (
		both     = "both may"
		operator = "the operator may"
		nobody   = "nobody may"
	)
	for addr, want := range map[string]string{
		"8.8.8.8": both, "1.1.1.1": both, "114.114.114.114": both, "172.15.255.255": both, "172.32.0.0": both,
		"100.63.255.255": both, "100.128.0.0": both, "198.17.255.255": both, "198.20.0.0": both, "192.0.1.0": both,
		"223.255.255.255": both, "2606:4700::1111": both, "2400:3200::1": both, "::ffff:8.8.8.8": both,

		"127.0.0.1": operator, "127.255.255.254": operator, "::1": operator, "::ffff:127.0.0.1": operator,
		"10.0.0.1": operator, "172.16.0.1": operator, "172.31.255.255": operator, "192.168.1.1": operator,
		"::ffff:192.168.1.1": operator, "fd12:3456::1": operator, "fc00::1": operator, "100.64.0.1": operator,
		"100.127.255.255": operator, "192.0.2.1": operator, "198.51.100.1": operator, "203.0.113.9": operator,
		"192.0.0.8": operator, "2001:db8::1": operator, "64:ff9b::8.8.8.8": operator, "64:ff9b::10.0.0.1": operator,
		"64:ff9b::127.0.0.1": operator, "100::1": operator, "3fff::1": operator, "4000::1": operator,

		"0.0.0.0": nobody, "0.1.2.3": nobody, "::": nobody, "169.254.169.254": nobody, "169.254.0.23": nobody,
		"::ffff:169.254.169.254": nobody, "fe80::1": nobody, "fe80::1%eth0": nobody, "febf::1": nobody,
		"100.100.100.200": nobody, "::ffff:100.100.100.200": nobody, "192.0.0.192": nobody, "168.63.129.16": nobody,
		"fd00:ec2::254": nobody, "fd20:ce::254": nobody, "224.0.0.1": nobody, "239.255.255.255": nobody, "ff02::1": nobody,
		"240.0.0.1": nobody, "255.255.255.255": nobody, "fec0::1": nobody, "2002:7f00:1::": nobody,
		"2002:a9fe:a9fe::": nobody, "2001::1": nobody, "2001:0:7f00:1::": nobody, "64:ff9b::169.254.169.254": nobody,
		"64:ff9b::a9fe:a9fe": nobody, "64:ff9b:1::1": nobody, "::127.0.0.1": nobody, "::7f00:1": nobody,
		"::169.254.169.254": nobody, "198.18.0.1": nobody, "198.19.255.255": nobody, "::ffff:198.18.0.1": nobody,
		"::ffff:0:127.0.0.1": nobody, "64:ff9b::198.18.0.1": nobody,
	} {
		a := netip.MustParseAddr(addr)
		got := nobody
		switch byOperator, byOthers := outbound.Operator(outbound.Policy{}).Check(a), outbound.Untrusted(outbound.Policy{}).Check(a); {
		case byOperator == nil && byOthers == nil:
			got = both
		case byOperator == nil:
			got = operator
		case byOthers == nil:
			got = "only others may"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	p := outbound.Policy{FakeIP: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("169.254.0.0/16")}}
	d := outbound.Untrusted(p)
	for addr, ok := range map[string]bool{
		"10.1.2.3": true, "10.2.0.1": false, "198.18.0.1": true, "169.254.169.254": false, "::ffff:10.1.2.3": true,
	} {
		if err := d.Check(netip.MustParseAddr(addr)); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// resolver answers every question for an A record with the next address, and
// all others with nothing. There is no network behind it.
func resolver(answers ...string) *net.Resolver {
	var n atomic.Int64
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe() // not a packet connection: lengths come before messages
		go func() {
			defer func() { _ = ours.Close() }()
			var size [2]byte
			for {
				if _, err := io.ReadFull(ours, size[:]); err != nil {
					return
				}
				q := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(ours, q); err != nil {
					return
				}
				a := reply(q, answers, &n)
				if _, err := ours.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
					return
				}
			}
		}()
		return theirs, nil
	}}
}

func reply(q []byte, answers []string, n *atomic.Int64) []byte {
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5
	kind := binary.BigEndian.Uint16(q[end-4:])
	a := append([]byte(nil), q[:end]...)
	a[2], a[3] = 0x81, 0x80
	copy(a[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if len(answers) == 0 {
		a[3] |= 3 // there is no such name
		return a
	}
	if kind == 1 {
		a[7] = 1
		ip := netip.MustParseAddr(answers[int(n.Add(1)-1)%len(answers)]).As4()
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, ip[:]...)
	}
	return a
}

// listener counts the connections that arrive at this machine.
func listener(t *testing.T) (port string, count *atomic.Int64) {
	t.Helper()
	count = new(atomic.Int64)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-over })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, count
}

// No spelling of this machine's address gets through to it.
func TestSpellings(t *testing.T) {
	t.Parallel()
	port, count := listener(t)
	spellings := []string{
		"127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "127.255.255.254", "0", "0.0.0.0", "0.0", "00.0.0.0", "localhost", "LOCALHOST",
		"localhost.", "localhost.localdomain", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001", "0177.0.0.1", "0177.1",
		"127.0.0.01", "127.000.000.001", "127.0.0.1.", "①②⑦.⓪.⓪.①", "127。0。0。1", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
		"[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[2002:7f00:1::]", "[2001:0:7f00:1::]", "[::1%lo]", "[fe80::1%lo]", "[::ffff:0:127.0.0.1]", "[fec0::1]", "[fc00::1]",
		"user@127.0.0.1", "127.0.0.1@example.com", "example.com", "127.0.0.1.nip.io", "localtest.me", "rebind.example", "0x7f000001.example",
		"%31%32%37.0.0.1", "127.0.0.1%00.example.com", "127.0.0.1#.example.com", "127.0.0.1?.example.com", "127.0.0.1\\.example.com",
		" 127.0.0.1", "127.0.0.1 ", "127.0.0.1\t", "127.0.0.1\x00", "lоcalhost", "loc\u00adalhost", "ⓛocalhost", "127.0.0.1:80:",
	}
	if len(spellings) < 60 {
		t.Fatalf("only %d spellings", len(spellings))
	}
	d := outbound.Untrusted(outbound.Policy{Resolver: resolver("127.0.0.1", "0.0.0.0", "127.0.0.1")})
	for _, s := range spellings {
		if c, err := d.DialContext(t.Context(), "tcp", s+":"+port); err == nil {
			_ = c.Close()
			t.Errorf("%q connects", s)
		}
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
}

// A name whose address changes after it was looked at is of no use.
func TestRebinding(t *testing.T) {
	t.Parallel()
	port, count := listener(t)
	d := outbound.Untrusted(outbound.Policy{Resolver: resolver("169.254.169.254", "127.0.0.1")})
	client := d.Client(outbound.ClientOptions{})
	defer client.CloseIdleConnections()
	for range 6 {
		res, err := client.Get("http://rebind.example:" + port + "/")
		if err == nil {
			_ = res.Body.Close()
			t.Fatal("it connects")
		}
		if e, ok := errors.AsType[*jimu.Error](err); !ok || e.Code != jimu.Forbidden {
			t.Errorf("error %v", err)
		}
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
	op := outbound.Operator(outbound.Policy{Resolver: resolver("127.0.0.1")})
	c, err := op.DialContext(t.Context(), "tcp", "ollama.example:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := op.DialContext(t.Context(), "unix", "/tmp/x"); err == nil {
		t.Error("it connects to a file")
	}
	if _, err := outbound.Operator(outbound.Policy{Resolver: resolver()}).DialContext(t.Context(), "tcp", "nowhere.example:80"); err == nil {
		t.Error("it connects to a name that does not exist")
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/small", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "12345678") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "123456789") })
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		for range 9 {
			_, _ = io.WriteString(w, "1")
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, strings.Repeat("0", 1<<20))
		_ = z.Close()
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	client := outbound.Operator(outbound.Policy{}).Client(outbound.ClientOptions{MaxBytes: 8})
	defer client.CloseIdleConnections()
	for path, ok := range map[string]bool{"/small": true, "/large": false, "/stream": false, "/bomb": false} {
		res, err := client.Get(srv.URL + path)
		if err == nil {
			_, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	larger := outbound.Operator(outbound.Policy{}).Client(outbound.ClientOptions{})
	defer larger.CloseIdleConnections()
	res, err := larger.Get(srv.URL + "/redirect")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusFound {
		t.Errorf("status %d: the redirect was followed", res.StatusCode)
	}
	res, err = outbound.Untrusted(outbound.Policy{}).Client(outbound.ClientOptions{}).Get(srv.URL)
	if err == nil {
		_ = res.Body.Close()
		t.Error("this machine was reached")
	}
}
