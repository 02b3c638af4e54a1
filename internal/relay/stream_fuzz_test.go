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
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

// FuzzStream checks that every request has one end in the books, whatever its
// upstream sends, wherever reads split it and wherever it is cut.
func FuzzStream(f *testing.F) {
	whole := text("1234") + usage(7, 9) + done
	f.Add([]byte(whole), uint8(7), uint16(0), false)
	f.Add([]byte(whole), uint8(200), uint16(50), false)
	f.Add([]byte(`data: {"error":1}`+"\n\n"+whole), uint8(20), uint16(0), true)
	f.Add([]byte(strings.ReplaceAll(text("a")+text("b"), "\n", "\r\n")+"data: [DONE]"), uint8(1), uint16(0), true)
	f.Add([]byte(text("a")+usage(-5, 1<<40)+": x\n\nid: 3\n\n"), uint8(30), uint16(0), false)
	f.Add([]byte(text("a")+`data: {"panic"}`+"\n\n"), uint8(30), uint16(0), false)
	f.Fuzz(func(t *testing.T, body []byte, size uint8, cut uint16, closeDelimited bool) {
		b := &bed{t: t, ledger: &ledger{balance: 1e6}, caller: &jimu.Caller{User: "u", Account: "user:u"}, records: make(chan *jimu.Record, 10)}
		b.client = wire.New(wire.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go script(theirs, body, int(size)+1, int(cut), closeDelimited)
			return ours, nil
		}})
		defer b.client.Close()
		b.add("up", "http://upstream.example")
		b.relay = relay.New(relay.Options{
			Gate: b, Router: b, Ledger: b.ledger, Recorder: b, Client: b.client, Now: time.Now, Log: slog.New(slog.DiscardHandler), MaxEvent: 1 << 12,
		})
		r, err := b.relay.Do(t.Context(), b.caller, jimu.OpChat, "r", []byte(stream), func([]byte) error { return nil })
		l := b.ledger
		if ends := len(l.taken) + l.released; ends != 1 || r.State == "" || (err == nil) != (r.State == jimu.StateOK) {
			t.Fatalf("%d ends, %v, record %+v", ends, err, r)
		}
		if r.Cost < 0 || l.balance != 1e6-r.Cost || len(b.records) != 1 {
			t.Fatalf("balance %s, record %+v", l.balance, r)
		}
	})
}

// script is an upstream that streams a body in pieces, and breaks off.
func script(c net.Conn, body []byte, size, cut int, closeDelimited bool) {
	defer func() { _ = c.Close() }()
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, req.Body)
	var out strings.Builder
	if closeDelimited {
		out.WriteString("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
		out.Write(body)
	} else {
		out.WriteString(head)
		for rest := body; len(rest) > 0; {
			n := min(size, len(rest))
			fmt.Fprintf(&out, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		out.WriteString("0\r\n\r\n")
	}
	s := out.String()
	if cut > 0 && cut < len(s) {
		s = s[:cut]
	}
	for len(s) > 0 {
		n := min(size, len(s))
		if _, err := io.WriteString(c, s[:n]); err != nil {
			return
		}
		s = s[n:]
	}
}
