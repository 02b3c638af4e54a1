package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

// provider is a small dialect of chat: enough to be billed.
type provider struct {
	jimu.Brick
	up *jimu.Upstream
}

func (p *provider) Vendors() []jimu.Vendor   { return nil }
func (p *provider) Upstream() *jimu.Upstream { return p.up }

func (p *provider) Endpoint(jimu.Operation, jimu.Secret) (jimu.Endpoint, bool) {
	return jimu.Endpoint{}, false
}

func (p *provider) Rewrite(dst []byte, c *jimu.Call, model string) ([]byte, error) {
	f := c.Field("model")
	dst = append(dst, c.Body[:f.Start]...)
	dst = append(dst, '"')
	dst = append(dst, model...)
	dst = append(dst, '"')
	dst = append(dst, c.Body[f.End:]...)
	if c.SetMaxTokens {
		dst = fmt.Appendf(dst[:len(dst)-1], `,"max_tokens":%d}`, c.MaxTokens)
	}
	return dst, nil
}

func (p *provider) Read(data []byte, m *jimu.Meter) jimu.Signal {
	var s jimu.Signal
	if string(data) == "[DONE]" {
		return jimu.SignalDone
	}
	if bytes.Contains(data, []byte(`"error"`)) {
		return jimu.SignalError
	}
	if _, rest, ok := bytes.Cut(data, []byte(`"content":"`)); ok {
		n := bytes.IndexByte(rest, '"')
		m.Delivered += int64(len(rest[:n])+3) / 4
		s |= jimu.SignalContent
	}
	if bytes.Contains(data, []byte(`"panic"`)) {
		panic("a provider's mistake")
	}
	if i := bytes.Index(data, []byte(`"usage":{`)); i >= 0 {
		var u struct{ In, Out int64 }
		if json.NewDecoder(bytes.NewReader(data[i+len(`"usage":`):])).Decode(&u) == nil {
			m.Usage, m.Stated = jimu.Usage{InText: u.In, OutText: u.Out}, true
			s |= jimu.SignalUsage
		}
	}
	return s
}

func (p *provider) Classify(status int, h http.Header, body []byte) jimu.Fault {
	f := jimu.Fault{Kind: jimu.FaultOther, Status: status, Text: string(body)}
	switch status {
	case http.StatusTooManyRequests:
		f.Kind = jimu.FaultCool
		if h.Get("Retry-After") != "" {
			f.For = 7 * time.Second
		}
	case http.StatusBadRequest:
		f.Kind, f.Code = jimu.FaultClient, "context_length_exceeded"
	case http.StatusInternalServerError:
		f.Kind = jimu.FaultRetry
	}
	return f
}

// price: input costs 1 nano-credit a token, output 10.
func price(tb testing.TB) *jimu.Price {
	tb.Helper()
	p := &jimu.Price{Model: "m", Rates: jimu.Rates{In: 1e6, Out: 10e6}}
	if err := p.Seal(); err != nil {
		tb.Fatal(err)
	}
	return p
}

// ledger holds credit for one account.
type ledger struct {
	mu       sync.Mutex
	balance  jimu.Credit // not held
	orders   []relay.Order
	charges  []jimu.Charge
	taken    []jimu.Credit
	released int
	extended int
	metered  jimu.Credit
	closed   chan struct{} // gets a value for each hold that ends, if not nil
}

type hold struct {
	l      *ledger
	amount jimu.Credit
	over   bool
}

func (l *ledger) Hold(_ context.Context, o *relay.Order) (relay.Hold, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders = append(l.orders, *o)
	if l.balance < o.Least {
		return nil, jimu.Errorf(jimu.NoCredit, "the balance does not cover it")
	}
	h := &hold{l: l, amount: min(o.Want, l.balance)}
	l.balance -= h.amount
	return h, nil
}

func (h *hold) Amount() jimu.Credit {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return h.amount
}

func (h *hold) Extend(_ context.Context, by jimu.Credit) error {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	if by > h.l.balance {
		return jimu.Errorf(jimu.NoCredit, "nothing left")
	}
	h.l.balance -= by
	h.amount += by
	h.l.extended++
	return nil
}

func (h *hold) Meter(c jimu.Credit, _ *jimu.Usage) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.l.metered = c
}

func (h *hold) end(take jimu.Credit) {
	if h.over {
		panic("a hold ended twice")
	}
	h.over = true
	h.l.balance += h.amount - take
	if h.l.closed != nil {
		h.l.closed <- struct{}{}
	}
}

func (h *hold) Settle(c *jimu.Charge) (jimu.Credit, error) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	take := min(c.Cost, h.amount)
	h.end(take)
	h.l.charges, h.l.taken = append(h.l.charges, *c), append(h.l.taken, take)
	return take, nil
}

func (h *hold) Release() {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.end(0)
	h.l.released++
}

// bed is a relay with everything around it faked but the network.
type bed struct {
	t       testing.TB
	relay   *relay.Relay
	ledger  *ledger
	client  *wire.Client
	server  *httptest.Server
	caller  *jimu.Caller
	mu      sync.Mutex
	targets []*jimu.Target
	reports []jimu.FaultKind
	records chan *jimu.Record
	limit   error
}

func (b *bed) Admit(key string) (*jimu.Caller, error) {
	if key != "k" {
		return nil, jimu.Errorf(jimu.Unauthorized, "unknown key")
	}
	return b.caller, nil
}

func (b *bed) Route(dst []*jimu.Target, _ *jimu.Caller, _ jimu.Operation, model string) ([]*jimu.Target, error) {
	if model != "m" {
		return nil, jimu.Errorf(jimu.NotFound, "there is no model %s", model)
	}
	return append(dst, b.targets...), nil
}

func (b *bed) Report(_ *jimu.Target, o jimu.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, o.Fault.Kind)
}

func (b *bed) reported() []jimu.FaultKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.reports)
}

func (b *bed) Models(*jimu.Caller) []jimu.Model {
	return []jimu.Model{{ID: "a/b", Vendor: "x"}, {ID: "m", Vendor: "y"}}
}

func (b *bed) Record(r *jimu.Record) { b.records <- r }

type limiter struct{ b *bed }

func (l limiter) Admit(context.Context, *jimu.Caller, int64) (func(int64), error) {
	if l.b.limit != nil {
		return nil, l.b.limit
	}
	return func(int64) {}, nil
}

// newBed makes a relay whose upstreams are the given handlers, best first.
func newBed(tb testing.TB, balance jimu.Credit, upstreams ...http.HandlerFunc) *bed {
	tb.Helper()
	b := &bed{
		t: tb, ledger: &ledger{balance: balance},
		caller:  &jimu.Caller{User: "u", Account: "user:u"},
		records: make(chan *jimu.Record, 1000),
		client:  wire.New(wire.Options{Dial: new(net.Dialer).DialContext}),
	}
	tb.Cleanup(b.client.Close)
	for i, h := range upstreams {
		srv := httptest.NewServer(h)
		tb.Cleanup(srv.Close)
		b.add(fmt.Sprintf("up%d", i), srv.URL)
	}
	b.build(relay.Options{})
	return b
}

func (b *bed) add(name, url string) *jimu.Target {
	up := &jimu.Upstream{Name: name, Key: jimu.NewSecret("upstream-secret")}
	tg := &jimu.Target{
		Upstream: up, Provider: &provider{up: up}, Model: "m", Name: "real-m", Price: price(b.t),
		Endpoints: map[jimu.Operation]jimu.Endpoint{
			jimu.OpChat:       {URL: url + "/v1/chat/completions", Header: http.Header{"Authorization": {"Bearer upstream-secret"}}},
			jimu.OpEmbeddings: {URL: url + "/v1/embeddings"},
		},
	}
	b.targets = append(b.targets, tg)
	return tg
}

// build makes the relay, and a server in front of it.
func (b *bed) build(o relay.Options) {
	if b.server != nil {
		b.server.Close()
	}
	o.Gate, o.Router, o.Ledger, o.Recorder, o.Client, o.Limiter = b, b, b.ledger, b, b.client, limiter{b}
	o.Now, o.Log = time.Now, slog.New(slog.DiscardHandler)
	b.relay = relay.New(o)
	mux := http.NewServeMux()
	mux.Handle("POST /v1/", b.relay)
	mux.HandleFunc("GET /v1/models", b.relay.Models)
	mux.HandleFunc("GET /v1/models/", b.relay.Models)
	b.server = httptest.NewUnstartedServer(mux)
	b.server.Listener = relay.Listen(b.server.Listener)
	b.server.Start()
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		b.relay.Drain(ctx)
		b.server.Close()
	})
}

// record returns the record of the next request that ends.
func (b *bed) record() *jimu.Record {
	b.t.Helper()
	select {
	case r := <-b.records:
		return r
	case <-time.After(10 * time.Second):
		b.t.Fatal("no record")
		return nil
	}
}

// post sends a chat request.
func (b *bed) post(body string, header ...string) *reply {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.server.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer k")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.server.Client().Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = res.Body.Close() })
	return &reply{res}
}

// reply is an answer that is closed at the end of the test.
type reply struct{ *http.Response }

func read(tb testing.TB, res *reply) string {
	tb.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// sse answers with a stream, event by event.
func sse(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Openai-Organization", "org")
		for _, e := range events {
			_, _ = io.WriteString(w, e)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func text(s string) string { return `data: {"choices":[{"delta":{"content":"` + s + `"}}]}` + "\n\n" }

const (
	done   = "data: [DONE]\n\n"
	stream = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]}`
	plain  = `{"model":"m","messages":[{"role":"user","content":"hello there"}]}`
)

func usage(in, out int) string {
	return fmt.Sprintf(`data: {"choices":[],"usage":{"In":%d,"Out":%d}}`+"\n\n", in, out)
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// raw is an upstream that answers each request with the same bytes, and then
// closes the connection.
func raw(tb testing.TB, b *bed, pieces ...string) *jimu.Target {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				for _, p := range pieces {
					if _, err := io.WriteString(c, p); err != nil {
						return
					}
				}
			}()
		}
	}()
	return b.add("raw", "http://"+l.Addr().String())
}

var errStop = errors.New("stop")
