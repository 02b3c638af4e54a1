package relay_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
)

// The input of the requests in these tests is estimated at 4 tokens: four
// nano-credits. Output costs ten a token.
const input = 4

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

func piece(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

// Who pays for what when a request is cut short: the table of settle.go.
func TestSettlement(t *testing.T) {
	t.Parallel()
	tests := []settlement{
		{name: "refused by the upstream", upstream: answer(400, `{"error":"too long"}`), status: 400, state: jimu.StateFailed},
		{name: "5xx", upstream: answer(503, ``), status: 502, state: jimu.StateFailed},
		{name: "cut before the head", raw: []string{"HTTP/1.1 200 O"}, status: 502, state: jimu.StateFailed},
		{name: "200 then error", upstream: sse(`data: {"error":{"message":"overloaded"}}` + "\n\n"), status: 502, state: jimu.StateFailed},
		{name: "200 then nothing", upstream: sse(), status: 502, state: jimu.StateFailed},
		{name: "200 then done", upstream: sse(done), status: 502, state: jimu.StateFailed},
		{name: "200 then cut", raw: []string{head + piece(": hi\n\n") + "40\r\nda"}, status: 502, state: jimu.StateFailed},
		{name: "cut after content", raw: []string{head + piece(text("12345678")) + piece(text("1234")) + "40\r\ndata"}, status: 200, state: jimu.StateFailed, cost: input + 30, out: 3, flags: "estimated error"},
		{name: "error after content", upstream: sse(text("12345678"), `data: {"error":{"message":"overloaded, a long text that is not billed"}}`+"\n\n"), status: 200, state: jimu.StateFailed, cost: input + 20, out: 2, flags: "estimated error"},
		{name: "ends without a mark, and cannot be told from a cut", raw: []string{"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + text("1234")}, status: 200, state: jimu.StateFailed, cost: input + 10, out: 1, flags: "estimated error"},
		{name: "complete with usage", upstream: sse(text("12345678"), usage(7, 9), done), status: 200, state: jimu.StateOK, cost: 97, out: 9},
		{name: "complete with usage, twice", upstream: sse(text("12345678"), usage(7, 1), usage(7, 9), done), status: 200, state: jimu.StateOK, cost: 97, out: 9},
		{name: "complete without usage", upstream: sse(text("12345678"), done), status: 200, state: jimu.StateOK, cost: input + 20, out: 2, flags: "estimated"},
		{name: "absurd usage", upstream: sse(text("12345678"), usage(1e9, 9), done), status: 200, state: jimu.StateOK, cost: input + 20, out: 2, flags: "estimated quarantined"},
		{name: "negative usage", upstream: sse(text("12345678"), usage(-1, 9), done), status: 200, state: jimu.StateOK, cost: input + 20, out: 2, flags: "estimated quarantined"},
		{name: "absurd output", upstream: sse(text("12345678"), usage(1, 1e8), done), status: 200, state: jimu.StateOK, cost: input + 20, out: 2, flags: "estimated quarantined"},
		{name: "not streamed", upstream: answer(200, `{"choices":[{"message":{"content":"1234"}}],"usage":{"In":7,"Out":9}}`), body: plain, status: 200, state: jimu.StateOK, cost: 97, out: 9},
		{name: "not streamed, without usage", upstream: answer(200, `{"choices":[{"message":{"content":"1234"}}]}`), body: plain, status: 200, state: jimu.StateOK, cost: input + 10, out: 1, flags: "estimated"},
		{name: "not streamed, an error under 200", upstream: answer(200, `{"error":{"message":"1234"}}`), body: plain, status: 502, state: jimu.StateFailed},
		{name: "a provider that panics at once", upstream: sse(`data: {"panic":1}` + "\n\n"), status: 500, state: jimu.StateFailed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { t.Parallel(); tt.check(t) })
	}
}

type settlement struct {
	name     string
	upstream http.HandlerFunc
	raw      []string // in place of upstream
	body     string
	status   int
	state    string
	cost     jimu.Credit // 0: the hold is given back
	out      int64
	flags    string
}

func (tt *settlement) check(t *testing.T) {
	t.Helper()
	b := newBed(t, 1e9)
	if tt.raw != nil {
		raw(t, b, tt.raw...)
	} else {
		b = newBed(t, 1e9, tt.upstream)
	}
	res := b.post(cmp.Or(tt.body, stream))
	got := read(t, res)
	if res.StatusCode != tt.status {
		t.Errorf("status %d, want %d: %s", res.StatusCode, tt.status, got)
	}
	if strings.Contains(tt.flags, "error") != strings.HasSuffix(got, `"code":"upstream_unavailable"}}`+"\n\n") {
		t.Errorf("the client sees %q", got)
	}
	r := b.record()
	if r.State != tt.state || r.Cost != tt.cost || r.Usage.Out() != tt.out ||
		r.Usage.Estimated != strings.Contains(tt.flags, "estimated") || r.Quarantined != strings.Contains(tt.flags, "quarantined") {
		t.Errorf("record %+v", r)
	}
	b.relay.Drain(t.Context())
	if n := b.relay.Stats().Running; n != 0 {
		t.Errorf("%d requests still run", n)
	}
	want, released := []jimu.Credit{tt.cost}, 0
	if tt.cost == 0 {
		want, released = nil, 1
	}
	if !slices.Equal(want, b.ledger.taken) || b.ledger.released != released {
		t.Errorf("taken %v, released %d", b.ledger.taken, b.ledger.released)
	}
	if left := b.ledger.balance; left != 1e9-tt.cost {
		t.Errorf("balance %s", left)
	}
}

// paced adds an upstream that sends an event, and each further one after a
// signal.
func (b *bed) paced(events ...string) chan<- struct{} {
	next := make(chan struct{}, len(events)+1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for i, e := range events {
			if i > 0 {
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
			_, _ = io.WriteString(w, e)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	b.t.Cleanup(srv.Close)
	b.add("paced", srv.URL)
	return next
}

// readPaced reads an answer to its end, and asks for the next event after
// each.
func readPaced(t *testing.T, res *reply, next chan<- struct{}) string {
	t.Helper()
	var got strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buf)
		got.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return got.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		next <- struct{}{} // there is room, so it does not wait
	}
}

// watched is an upstream that says when its client hung up. It sends its
// events and then waits.
func watched(closed chan<- struct{}, events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range events {
			_, _ = io.WriteString(w, e)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		closed <- struct{}{}
	}
}

// The client goes away at event k: the upstream's connection ends at once, and
// what was delivered is paid for.
func TestClientGone(t *testing.T) {
	t.Parallel()
	for k := range 4 {
		t.Run(fmt.Sprintf("after %d events", k), func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{}, 1)
			events := []string{": open\n\n"}
			for range k {
				events = append(events, text("1234"))
			}
			sent := make(chan struct{})
			h := watched(closed, events...)
			b := newBed(t, 1e9, func(w http.ResponseWriter, r *http.Request) { close(sent); h(w, r) })
			ctx, cancel := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, b.server.URL+"/v1/chat/completions", strings.NewReader(stream))
			req.Header.Set("Authorization", "Bearer k")
			if k == 0 {
				go func() { <-sent; cancel() }()
				res, err := b.server.Client().Do(req)
				if !errors.Is(err, context.Canceled) {
					_ = res.Body.Close()
					t.Fatal(err)
				}
			} else {
				res, err := b.server.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				if _, err := io.ReadFull(res.Body, make([]byte, len(strings.Join(events, "")))); err != nil {
					t.Fatal(err)
				}
				cancel()
			}
			<-closed
			r := b.record()
			if want := jimu.Credit(input + 10*k); r.State != jimu.StateCancelled || r.Cost != want || !r.Usage.Estimated {
				t.Errorf("cost %d, want %d; record %+v", r.Cost, want, r)
			}
		})
	}
}

// With the policy "drain" the upstream is read on for its exact usage.
func TestClientGoneDrain(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	b := newBed(t, 1e9, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text("1234"))
		_ = http.NewResponseController(w).Flush()
		<-gone
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range 100 { // by then the relay knows
			<-tick.C
			_, _ = io.WriteString(w, ": more\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, text("5678")+usage(7, 9)+done)
	})
	b.targets[0].Upstream.Disconnect = "drain"
	res := b.post(stream)
	if _, err := io.ReadFull(res.Body, make([]byte, len(text("1234")))); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	close(gone)
	if r := b.record(); r.State != jimu.StateCancelled || r.Cost != 97 || r.Usage.Estimated {
		t.Errorf("record %+v", r)
	}
}

// A stream that outgrows its hold extends it; without credit it ends with an
// error event, and what was delivered is paid for.
func TestExtend(t *testing.T) {
	t.Parallel()
	events := make([]string, 0, 40)
	for range 40 {
		events = append(events, text(strings.Repeat("x", 40))) // ten tokens each
	}
	for name, tt := range map[string]struct {
		balance jimu.Credit
		state   string
	}{"credit": {1e9, jimu.StateOK}, "no credit": {1200, jimu.StateEnded}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, tt.balance)
			next := b.paced(append(slices.Clone(events), done)...)
			b.build(relay.Options{TypicalOutput: 100})
			got := readPaced(t, b.post(stream), next)
			r := b.record()
			if r.State != tt.state || r.Cost > tt.balance || b.ledger.balance != tt.balance-r.Cost {
				t.Errorf("record %+v, left %s", r, b.ledger.balance)
			}
			whole := strings.Join(events, "") + done
			if tt.state == jimu.StateOK {
				if b.ledger.extended == 0 || got != whole || r.Cost != input+4000 {
					t.Errorf("extended %d times, cost %d, %d bytes", b.ledger.extended, r.Cost, len(got))
				}
				return
			}
			tail := `","type":"insufficient_quota","param":null,"code":"insufficient_credit"}}` + "\n\n"
			if !strings.HasSuffix(got, tail) || strings.Contains(got, "[DONE]") {
				t.Errorf("the client sees %q", got)
			}
			if r.Code != jimu.NoCredit || r.Cost == 0 {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// Where the balance affords less, the gateway sets max_tokens.
func TestGatewaySetsMaxTokens(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 1)
	b := newBed(t, 500, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		sse(text("1234"), usage(5, 1), done)(w, r)
	})
	read(t, b.post(stream))
	o := b.ledger.orders[0]
	room := (500 - int64(len(stream))) / 10
	if got, want := <-bodies, fmt.Sprintf(`,"max_tokens":%d}`, room); !strings.HasSuffix(got, want) || !strings.Contains(got, `"model":"real-m"`) {
		t.Errorf("sent %s, want %s", got, want)
	}
	if o.Want != jimu.Credit(len(stream))+40960 || o.Least != jimu.Credit(len(stream))+160 || o.Account != "user:u" {
		t.Errorf("order %+v", o)
	}
}

// The bill is settled before the last byte of the answer leaves.
func TestSettledBeforeTheLastByte(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("1234"), usage(7, 9), done))
	for range 50 {
		n := len(b.ledger.taken)
		res := b.post(stream)
		buf := make([]byte, len(text("1234")+done))
		if _, err := io.ReadFull(res.Body, buf); err != nil {
			t.Fatal(err)
		}
		b.ledger.mu.Lock()
		settled := len(b.ledger.taken)
		b.ledger.mu.Unlock()
		if settled != n+1 {
			t.Fatal("the client has the whole answer before its bill is settled")
		}
		_ = res.Body.Close()
		b.record()
	}
}

// What listens within the process may stop the answer.
func TestInsideStop(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 1)
	b := newBed(t, 1e9, watched(closed, text("1234")))
	var got []string
	r, err := b.relay.Do(t.Context(), b.caller, jimu.OpChat, "req", []byte(stream), func(d []byte) error {
		got = append(got, string(d))
		return errStop
	})
	<-closed
	if err == nil || r.State != jimu.StateCancelled || r.Cost != input+10 || len(got) != 1 || r.Request != "req" {
		t.Errorf("%v, %v, record %+v", err, got, r)
	}
	<-b.records
}

func TestInside(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("1234"), usage(7, 9), done))
	var got strings.Builder
	r, err := b.relay.Do(t.Context(), b.caller, jimu.OpChat, "req", []byte(stream), func(d []byte) error {
		fmt.Fprintf(&got, "%s|", d)
		return nil
	})
	if err != nil || r.State != jimu.StateOK || r.Cost != 97 || got.String() != `{"choices":[{"delta":{"content":"1234"}}]}|` {
		t.Errorf("%v, %s, record %+v", err, got.String(), r)
	}
	b = newBed(t, 1e9, answer(200, `{"choices":[{"message":{"content":"1234"}}]}`))
	got.Reset()
	if _, err := b.relay.Do(t.Context(), b.caller, jimu.OpChat, "req", []byte(plain), func(d []byte) error {
		got.Write(d)
		return nil
	}); err != nil || !strings.Contains(got.String(), "1234") {
		t.Errorf("%v, %s", err, got.String())
	}
}

// Draining ends what still runs with an error event, and settles it.
func TestDrain(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 2)
	b := newBed(t, 1e9, watched(closed, text("1234")))
	res := b.post(stream)
	if _, err := io.ReadFull(res.Body, make([]byte, len(text("1234")))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { b.relay.Drain(ctx); close(over) }()
	for { // until new requests are refused
		r := b.post(plain)
		if r.StatusCode == http.StatusServiceUnavailable {
			if r.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
		runtime.Gosched()
	}
	select {
	case <-over:
		t.Fatal("it did not wait for the stream")
	default:
	}
	cancel()
	if got := read(t, res); !strings.Contains(got, `"code":"overloaded"`) {
		t.Errorf("the client sees %q", got)
	}
	<-over
	<-closed
	if r := b.record(); r.State != jimu.StateFailed || r.Cost != input+10 {
		t.Errorf("record %+v", r)
	}
}
