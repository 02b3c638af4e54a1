package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	defaultRetries = 2
	firstBackoff   = 500 * time.Millisecond
	lastBackoff    = 8 * time.Second
	// maxRetryAfter is the longest wait that is obeyed; a longer one is the
	// caller's to decide.
	maxRetryAfter = time.Minute
)

// Client speaks to a Jimu server. It is safe for concurrent use.
type Client struct {
	Chat       Chat
	Embeddings Embeddings
	Models     Models
	Usage      Usage

	base    string
	key     string
	http    *http.Client
	retries int
	backoff time.Duration
	header  http.Header
}

// Option changes a client.
type Option func(*Client)

// WithHTTPClient sends requests through a client of the caller's, with its
// proxy, certificates and timeouts.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithRetries sets how often a request is sent again. The default is 2; 0 is
// never.
func WithRetries(n int) Option { return func(c *Client) { c.retries = n } }

// WithBackoff sets the longest first wait before a request is sent again; it
// doubles each time. The default is 500 ms.
func WithBackoff(d time.Duration) Option { return func(c *Client) { c.backoff = d } }

// WithHeader adds a header to every request.
func WithHeader(name, value string) Option { return func(c *Client) { c.header.Set(name, value) } }

// New makes a client of a server's address, such as https://ai.example.com,
// and an API key.
func New(baseURL, key string, options ...Option) *Client {
	c := &Client{
		base:    strings.TrimSuffix(strings.TrimRight(baseURL, "/"), "/v1"),
		key:     key,
		retries: defaultRetries,
		backoff: firstBackoff,
		header:  make(http.Header),
		// A redirect would carry the key to another place.
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	c.Chat.c, c.Embeddings.c, c.Models.c, c.Usage.c = c, c, c, c
	for _, o := range options {
		o(c)
	}
	return c
}

// call sends a request, again if need be, and decodes the answer.
func (c *Client) call(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // it was only read
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("decoding the answer: %w", err)
	}
	return res.Header, nil
}

// send sends a request, again if need be, until an answer begins that says
// yes. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
	}
	for try := 0; ; try++ {
		res, err := c.once(ctx, method, path, body)
		if err == nil {
			return res, nil
		}
		wait, again := c.pause(err, try)
		if !again || ctx.Err() != nil {
			return nil, err
		}
		if !sleep(ctx, wait) {
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

func (c *Client) once(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &final{fmt.Errorf("making the request: %w", err)}
	}
	maps.Copy(req.Header, c.header)
	req.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("sending the request: %w", err)
	}
	if res.StatusCode < http.StatusMultipleChoices {
		return res, nil
	}
	e := errorOf(res, time.Now())
	_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody) // so that the connection can be used again
	return nil, errors.Join(e, res.Body.Close())
}

// final is an error that another try would not change.
type final struct{ err error }

func (f *final) Error() string { return f.err.Error() }
func (f *final) Unwrap() error { return f.err }

// pause says whether to try again after an error, and after how long.
func (c *Client) pause(err error, try int) (time.Duration, bool) {
	if _, is := errors.AsType[*final](err); is || try >= c.retries {
		return 0, false
	}
	if e, is := errors.AsType[*Error](err); is {
		switch e.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		default:
			return 0, false
		}
		if e.RetryAfter > 0 {
			return e.RetryAfter, e.RetryAfter <= maxRetryAfter
		}
	}
	d := min(c.backoff<<min(try, 10), lastBackoff)
	if d <= 0 {
		return 0, true
	}
	return d/2 + rand.N(d/2+1), true //nolint:gosec // spreading retries needs no secrecy
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// costOf reads what the server charged, from its headers or its trailer.
func costOf(h http.Header) *Amount {
	a, err := ParseAmount(h.Get("X-Jimu-Cost"))
	if err != nil {
		return nil // not said
	}
	return &a
}
