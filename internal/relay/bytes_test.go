package relay_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// What the upstream sends is what the client gets, byte for byte.
func TestBytesPassUnchanged(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return text(strings.Repeat("x", n)) }
	tests := map[string][]string{
		"a line of 1 MiB":        {text("a"), long(1 << 20), done},
		"a line of 64 KiB + 1":   {long(64<<10 + 1), done},
		"CR LF":                  {strings.ReplaceAll(text("a")+text("b"), "\n", "\r\n"), "data: [DONE]\r\n\r\n"},
		"CR alone":               {strings.ReplaceAll(text("a")+text("b"), "\n", "\r"), "data: [DONE]\r\r"},
		"comments":               {": hello\n\n", text("a"), ": PROCESSING\n\n:\n\n", done},
		"event and id":           {"event: message\nid: 7\nretry: 10\n" + text("a"), done},
		"two data lines":         {"data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"a\"}}]}\n\n", done},
		"no space after colon":   {strings.ReplaceAll(text("a"), "data: ", "data:"), "data:[DONE]\n\n"},
		"no trailing blank line": {text("a"), "data: [DONE]"},
		"trailing newline only":  {text("a"), "data: [DONE]\n"},
		"done twice":             {text("a"), done, done},
		"no done":                {text("a"), usage(1, 1)},
		"something after done":   {text("a"), done, "\n\n", ": bye\n"},
		"blank lines first":      {"\n\n\n", text("a"), done},
		"split UTF-8":            {text("日本語")[:42], text("日本語")[42:], done},
		"usage and choices":      {`data: {"choices":[{"delta":{"content":"a"}}],"usage":{"In":1,"Out":2}}` + "\n\n", done},
		"many at once":           {strings.Repeat(text("abc"), 3000) + done},
	}
	for name, events := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 1e9, sse(events...))
			res := b.post(strings.Replace(stream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1))
			if got, want := read(t, res), strings.Join(events, ""); got != want {
				t.Errorf("got %d bytes %.200q, want %d %.200q", len(got), got, len(want), want)
			}
			if r := b.record(); r.State != "ok" {
				t.Errorf("state %s", r.State)
			}
		})
	}
}

// It does not matter where reads split a stream.
func TestEverySplit(t *testing.T) {
	t.Parallel()
	all := ": c\r\n\r\n" + text("é") + "event: x\r\n" + strings.ReplaceAll(text("b"), "\n", "\r\n") + usage(3, 4) + done
	want := strings.Replace(all, usage(3, 4), "", 1)
	for at := 1; at < len(all); at++ {
		b := newBed(t, 1e9, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, all[:at])
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, all[at:])
		})
		if got := read(t, b.post(stream)); got != want {
			t.Fatalf("split at %d: got %q, want %q", at, got, want)
		}
		if r := b.record(); r.Usage.InText != 3 || r.Usage.OutText != 4 {
			t.Fatalf("split at %d: usage %+v", at, r.Usage)
		}
		b.server.CloseClientConnections()
	}
}

// The chunk of usage that only we asked for is taken out; with X-Jimu-Usage it
// stays and says the cost.
func TestUsageChunk(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("a"), usage(3, 4), done))
	res := b.post(stream)
	if got, want := read(t, res), text("a")+done; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := res.Trailer.Get("X-Jimu-Cost"); got != "0.000000043" {
		t.Errorf("cost in the trailer: %q", got)
	}
	got := read(t, b.post(stream, "X-Jimu-Usage", "1"))
	want := text("a") + `data: {"choices":[],"usage":{"In":3,"Out":4},"jimu":{"cost":"0.000000043"}}` + "\n\n" + done
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An event reaches the client before the next one leaves the upstream.
func TestNoEventIsHeldBack(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	b := newBed(t, 1e9, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			_, _ = io.WriteString(w, text("a"))
			_ = http.NewResponseController(w).Flush()
			<-next
		}
		_, _ = io.WriteString(w, done)
	})
	res := b.post(stream)
	buf := make([]byte, len(text("a")))
	for range 5 {
		if _, err := io.ReadFull(res.Body, buf); err != nil {
			t.Fatal(err)
		}
		next <- struct{}{}
	}
	if got := read(t, res); got != done {
		t.Errorf("got %q", got)
	}
}
