// Package wire is an HTTP/1.1 client for upstreams, made for one job: many
// requests at once, most of them waiting. It has no helper goroutines, writes
// a request with one system call, and holds no buffer while it waits. It
// refuses every answer whose framing could be read in two ways.
package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Dial opens a connection to an upstream.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

const (
	connectTimeout = 5 * time.Second
	tlsTimeout     = 5 * time.Second
	defaultIdle    = 90 * time.Second
	defaultMaxIdle = 4096
	// restful is how long a connection may have been idle before it is looked
	// at prior to use: what is busy is not worth a system call.
	restful = time.Second
)

// Options configure a [Client].
type Options struct {
	Dial        Dial          // how to connect; it must check the connected address itself
	TLS         *tls.Config   // extra roots and the like; may be nil
	IdleTimeout time.Duration // how long an unused connection is kept; 0 is 90 s
	MaxIdle     int           // unused connections kept for an origin; 0 is 4096
}

// Client keeps connections to upstreams. It is safe for concurrent use.
type Client struct {
	o  Options
	mu sync.Mutex
	// origins is bounded by the number of upstreams that were ever configured.
	origins map[originKey]*origin
	closed  bool
}

type originKey struct{ scheme, host, dialer string }

// New makes a client.
func New(o Options) *Client {
	if o.IdleTimeout == 0 {
		o.IdleTimeout = defaultIdle
	}
	if o.MaxIdle == 0 {
		o.MaxIdle = defaultMaxIdle
	}
	return &Client{o: o, origins: make(map[originKey]*origin)}
}

// Close closes the unused connections, and each other one after its answer.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	all := make([]*origin, 0, len(c.origins))
	for _, o := range c.origins {
		all = append(all, o)
	}
	c.mu.Unlock()
	for _, o := range all {
		o.close()
	}
}

// Endpoint is an address that requests are sent to, with the head of a request
// written in advance.
type Endpoint struct {
	o    *origin
	head []byte // up to the digits of Content-Length
}

// headersOfOurs are written by the client itself.
var headersOfOurs = []string{ //nolint:gochecknoglobals // a constant table
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Accept-Encoding", "Trailer", "Upgrade", "Te", "Keep-Alive", "Expect",
}

// Endpoint prepares an address. dialer names the dial function if it is not
// the client's own, so that connections are never shared between the two.
func (c *Client) Endpoint(method, address string, header http.Header, dialer string, dial Dial) (*Endpoint, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("reading the upstream's address: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, errors.New("an upstream's address begins with http:// or https:// and a host, without user or password")
	}
	if dial == nil {
		dialer, dial = "", c.o.Dial
	}
	head, err := formatHead(method, u, header)
	if err != nil {
		return nil, err
	}
	return &Endpoint{o: c.origin(u, dialer, dial), head: head}, nil
}

func formatHead(method string, u *url.URL, header http.Header) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: jimu\r\n", method, u.RequestURI(), u.Host)
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if slices.Contains(headersOfOurs, http.CanonicalHeaderKey(name)) || http.CanonicalHeaderKey(name) == "User-Agent" {
			continue
		}
		for _, v := range header[name] {
			if !token([]byte(name)) || strings.ContainsAny(v, "\r\n\x00") {
				return nil, errors.New("a header for the upstream holds a line break")
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	if header.Get("Content-Type") == "" {
		b.WriteString("Content-Type: application/json\r\n")
	}
	b.WriteString("Accept-Encoding: identity\r\nContent-Length: ")
	return []byte(b.String()), nil
}

// lengthDigits is the room left for the digits of Content-Length.
const lengthDigits = 19

// Begin appends the head of a request to dst, which must be empty. The caller
// appends the body and calls [Endpoint.Finish].
func (e *Endpoint) Begin(dst []byte) []byte {
	dst = append(dst, e.head...)
	return append(dst, "0000000000000000000\r\n\r\n"...)
}

// Finish writes the length of the body into a request begun with
// [Endpoint.Begin], and returns the request, which is a part of b.
func (e *Endpoint) Finish(b []byte) []byte {
	first := len(e.head)
	n := len(b) - first - lengthDigits - len("\r\n\r\n")
	i := first + lengthDigits
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	shift := i - first // digits not needed: the head moves up to the first one
	copy(b[shift:], b[:first])
	return b[shift:]
}

func (c *Client) origin(u *url.URL, dialer string, dial Dial) *origin {
	host := u.Host
	if u.Port() == "" {
		port := "80"
		if u.Scheme == "https" {
			port = "443"
		}
		host = net.JoinHostPort(u.Hostname(), port)
	}
	key := originKey{u.Scheme, host, dialer}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.origins[key]; o != nil {
		return o
	}
	o := &origin{addr: host, dial: dial, maxIdle: c.o.MaxIdle, idleFor: c.o.IdleTimeout, closed: c.closed}
	if u.Scheme == "https" {
		o.tls = tlsConfig(c.o.TLS, u.Hostname())
	}
	c.origins[key] = o
	return o
}

func tlsConfig(base *tls.Config, host string) *tls.Config {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	cfg := base.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{"http/1.1"}
	cfg.ServerName = host
	if cfg.ClientSessionCache == nil {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return cfg
}
