package outbound

import (
	"crypto/tls"
	"io"
	"net/http"
	"time"

	"github.com/jimu-ai/jimu"
)

// ClientOptions bound what a client does. The defaults suit a call to an API.
type ClientOptions struct {
	Timeout  time.Duration // of a whole request; 0 is 30 s
	MaxBytes int64         // of an answer; 0 is 1 MiB
	TLS      *tls.Config   // extra roots or certificates; nil is the system's
}

const (
	defaultTimeout  = 30 * time.Second
	defaultMaxBytes = 1 << 20
	maxHeaderBytes  = 64 << 10
	idleConns       = 16
)

// Client makes an HTTP client that connects through the dialer. It follows no
// redirect (the caller sees the answer itself), uses no proxy of the
// environment, and reads no more of an answer than it is told to.
func (d *Dialer) Client(o ClientOptions) *http.Client {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		cfg = o.TLS.Clone()
		cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
		cfg.InsecureSkipVerify = false
	}
	return &http.Client{
		Timeout:       o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &capped{max: o.MaxBytes, next: &http.Transport{
			DialContext:            d.DialContext,
			TLSClientConfig:        cfg,
			TLSHandshakeTimeout:    ConnectTimeout,
			ResponseHeaderTimeout:  o.Timeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			MaxIdleConnsPerHost:    idleConns,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		}},
	}
}

// capped bounds the body of every answer.
type capped struct {
	max  int64
	next *http.Transport
}

func (c *capped) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if res.ContentLength > c.max {
		_ = res.Body.Close()
		return nil, tooLarge(c.max)
	}
	res.Body = &cappedBody{ReadCloser: res.Body, left: c.max, max: c.max}
	return res, nil
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (c *capped) CloseIdleConnections() { c.next.CloseIdleConnections() }

func tooLarge(most int64) error {
	return jimu.Errorf(jimu.TooLarge, "the answer is larger than %d bytes", most)
}

type cappedBody struct {
	io.ReadCloser
	left, max int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		var one [1]byte // is there more?
		n, err := b.ReadCloser.Read(one[:])
		if n > 0 {
			return 0, tooLarge(b.max)
		}
		return 0, err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
