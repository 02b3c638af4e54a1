package relay_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

// pipes is a listener within the process.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// inClock runs f with a relay whose clients and whose upstream are within the
// process, on a clock of the test's own. upstream is called with each
// connection, once a request has been read.
func inClock(t *testing.T, upstream func(c net.Conn, r *bufio.Reader), f func(b *bed, client net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{t: t, ledger: &ledger{balance: 1e12}, caller: &jimu.Caller{User: "u", Account: "user:u"}, records: make(chan *jimu.Record, 10)}
		b.client = wire.New(wire.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer func() { _ = theirs.Close() }()
				r := bufio.NewReader(theirs)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				upstream(theirs, r)
			}()
			return ours, nil
		}})
		b.add("up", "http://upstream.example")
		b.relay = relay.New(relay.Options{
			Gate: b, Router: b, Ledger: b.ledger, Recorder: b, Client: b.client, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		})
		srv := &http.Server{Handler: b.relay, ReadHeaderTimeout: time.Minute}
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		go func() { _ = srv.Serve(l) }()
		c := l.dial()
		f(b, c)
		_ = c.Close()
		b.relay.Drain(t.Context())
		_ = srv.Close()
		b.client.Close()
		time.Sleep(time.Minute) //nolint:forbidigo // of the test's own clock: all that waits ends
		synctest.Wait()
	})
}

func request(c net.Conn, body string) {
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// The stages of an upstream's answer have their deadlines.
func TestUpstreamHangs(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sent  []string
		after time.Duration
		body  string
		cost  jimu.Credit
	}{
		"before the head": {nil, 60 * time.Second, stream, 0},
		"after the head":  {[]string{head, piece(": hi\n\n")}, 90 * time.Second, stream, 0},
		"after content":   {[]string{head, piece(text("1234"))}, 90 * time.Second, stream, input + 10},
		"within a chunk":  {[]string{head, piece(text("1234")), "40\r\ndata: "}, 90 * time.Second, stream, input + 10},
		"in the answer":   {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"}, 90 * time.Second, plain, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inClock(t, func(c net.Conn, r *bufio.Reader) {
				for _, s := range tt.sent {
					_, _ = io.WriteString(c, s)
				}
				_, _ = r.ReadByte() // until it is closed
			}, func(b *bed, client net.Conn) {
				began := time.Now()
				request(client, tt.body)
				res, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || !strings.Contains(string(got), `"code":"upstream_unavailable"`) {
					t.Errorf("%d %q, %v", res.StatusCode, got, err)
				}
				if took := time.Since(began); took < tt.after-5*time.Second || took > tt.after+time.Second {
					t.Errorf("it took %s", took)
				}
				if r := <-b.records; r.Cost != tt.cost || r.Attempts[len(r.Attempts)-1].Fault != jimu.FaultTimeout {
					t.Errorf("record %+v", r)
				}
			})
		})
	}
}

// A client that does not read is cut off, and its upstream with it.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	closed := make(chan time.Time, 1)
	inClock(t, func(c net.Conn, _ *bufio.Reader) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, piece(text(strings.Repeat("x", 1000))))
		}
		closed <- time.Now()
	}, func(b *bed, client net.Conn) {
		began := time.Now()
		request(client, stream)
		r := <-b.records
		if r.State != jimu.StateCancelled || r.Cost == 0 {
			t.Errorf("record %+v", r)
		}
		if took := (<-closed).Sub(began); took < 9*time.Second || took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A request whose body trickles in is refused.
func TestSlowRequest(t *testing.T) {
	t.Parallel()
	inClock(t, nil, func(b *bed, client net.Conn) {
		began := time.Now()
		over := make(chan struct{})
		go func() {
			defer close(over)
			fmt.Fprintf(client, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: 1000\r\n\r\n")
			for range 1000 {
				if _, err := client.Write([]byte{' '}); err != nil {
					return
				}
				time.Sleep(time.Second) //nolint:forbidigo // of the test's own clock
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if took := time.Since(began); res.StatusCode != http.StatusBadRequest || took > 12*time.Second {
			t.Errorf("%d after %s", res.StatusCode, took)
		}
		if r := <-b.records; r.State != jimu.StateRefused {
			t.Errorf("record %+v", r)
		}
		_ = client.Close()
		<-over
	})
}

// With the policy "drain" an upstream that does not end is read on for ten
// seconds.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	inClock(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, head+piece(text("1234")))
		_, _ = r.ReadByte() // until it is closed
	}, func(b *bed, client net.Conn) {
		b.targets[0].Upstream.Disconnect = "drain"
		request(client, stream)
		if _, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil { //nolint:bodyclose // the connection is
			t.Fatal(err)
		}
		synctest.Wait()
		began := time.Now()
		_ = client.Close()
		r := <-b.records
		if took := time.Since(began); took != 10*time.Second || r.State != jimu.StateCancelled || r.Cost != input+10 {
			t.Errorf("after %s: record %+v", took, r)
		}
	})
}

// With the policy "drain" an upstream is not read on beyond the hold.
func TestDrainStopsAtTheHold(t *testing.T) {
	t.Parallel()
	inClock(t, func(c net.Conn, _ *bufio.Reader) {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = io.WriteString(c, piece(text(strings.Repeat("x", 1000))))
		}
	}, func(b *bed, client net.Conn) {
		b.targets[0].Upstream.Disconnect = "drain"
		request(client, stream)
		r := bufio.NewReader(client)
		if _, err := r.Peek(1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_ = client.Close()
		rec := <-b.records
		want := b.ledger.orders[0].Want
		if took := time.Since(began); took != 0 || rec.State != jimu.StateCancelled || rec.Cost > want || rec.Cost < want-5000 || b.ledger.extended != 0 {
			t.Errorf("after %s, hold %d, cost %d, %d times extended: %+v", took, want, rec.Cost, b.ledger.extended, rec)
		}
	})
}

// With the policy "drain" an answer that its client does not wait for is read
// for its exact usage.
func TestDrainWhole(t *testing.T) {
	t.Parallel()
	const body = `{"choices":[{"message":{"content":"1234"}}],"usage":{"In":7,"Out":9}}`
	for policy, want := range map[string]jimu.Credit{"drain": 97, "cancel": input} {
		inClock(t, func(c net.Conn, _ *bufio.Reader) {
			<-time.After(5 * time.Second)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}, func(b *bed, client net.Conn) {
			b.targets[0].Upstream.Disconnect = policy
			request(client, plain)
			synctest.Wait()
			_ = client.Close()
			if r := <-b.records; r.State != jimu.StateCancelled || r.Cost != want {
				t.Errorf("%s: record %+v", policy, r)
			}
		})
	}
}
