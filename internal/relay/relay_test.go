package relay_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
)

type shape struct {
	Error struct {
		Message, Type, Code string
		Param               *string
	}
}

func failure(t *testing.T, res *reply) shape {
	t.Helper()
	var s shape
	if b := read(t, res); json.Unmarshal([]byte(b), &s) != nil {
		t.Errorf("not an error: %q", b)
	}
	return s
}

// An upstream that fails before anything for the client came is replaced by
// the next one, and the client sees one clean answer.
func TestFailover(t *testing.T) {
	t.Parallel()
	good := sse(text("1234"), usage(7, 9), done)
	for name, tt := range map[string]struct {
		first http.HandlerFunc
		fault jimu.FaultKind
	}{
		"error after 200":   {sse(": hi\n\n", `data: {"error":{"message":"overloaded"}}`+"\n\n"), jimu.FaultOther},
		"error with 200":    {answer(200, `{"error":{"message":"x"}}`), jimu.FaultOther},
		"empty stream":      {sse(), jimu.FaultIncomplete},
		"empty answer":      {answer(200, ""), jimu.FaultIncomplete},
		"done at once":      {sse(done), jimu.FaultIncomplete},
		"500":               {answer(500, `{}`), jimu.FaultRetry},
		"429":               {answer(429, `{}`, "Retry-After", "7"), jimu.FaultCool},
		"redirect":          {answer(302, ``, "Location", "http://169.254.169.254/"), jimu.FaultOther},
		"compressed":        {answer(200, "\x1f\x8b", "Content-Encoding", "gzip"), jimu.FaultOther},
		"closed connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, jimu.FaultIncomplete},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 1e9, tt.first, good)
			res := b.post(stream)
			if got := read(t, res); got != text("1234")+done || res.Header.Get("X-Jimu-Upstream") != "up1" {
				t.Errorf("%s: %q", res.Header.Get("X-Jimu-Upstream"), got)
			}
			r := b.record()
			if len(r.Attempts) != 2 || r.Attempts[0].Fault != tt.fault || r.Attempts[1].Fault != jimu.FaultNone || r.Cost != 97 {
				t.Errorf("record %+v", r)
			}
			if diff := cmp.Diff([]jimu.FaultKind{tt.fault, jimu.FaultNone}, b.reported()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A request that no upstream will answer is not tried again; three tries are
// the most; and a passing fault may be tried again at the same upstream.
func TestTries(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	count := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { asked.Add(1); h(w, r) }
	}
	b := newBed(t, 1e9, count(answer(400, "the context is too long, sk-abcdefgh12345")), count(sse(done)))
	res := b.post(stream)
	if e := failure(t, res).Error; res.StatusCode != http.StatusBadRequest || e.Code != "context_length_exceeded" || e.Type != "invalid_request_error" || strings.Contains(e.Message, "sk-") {
		t.Errorf("%d %+v", res.StatusCode, e)
	}
	if n := asked.Swap(0); n != 1 {
		t.Errorf("asked %d times", n)
	}
	bad := count(answer(503, ""))
	b = newBed(t, 1e9, bad, bad, bad, bad, bad)
	res = b.post(stream)
	if e := failure(t, res).Error; res.StatusCode != http.StatusBadGateway || e.Code != "upstream_unavailable" {
		t.Errorf("%d %+v", res.StatusCode, e)
	}
	if n := asked.Swap(0); n != 3 {
		t.Errorf("asked %d times", n)
	}
	b = newBed(t, 1e9, count(func(w http.ResponseWriter, r *http.Request) {
		if asked.Load() == 1 {
			answer(500, "")(w, r)
			return
		}
		sse(text("a"), done)(w, r)
	}))
	if got := read(t, b.post(stream)); got != text("a")+done {
		t.Errorf("got %q", got)
	}
	if n := asked.Swap(0); n != 2 {
		t.Errorf("asked %d times", n)
	}
	b = newBed(t, 1e9, answer(429, "", "Retry-After", "7"))
	if res := b.post(stream); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "7" {
		t.Errorf("%d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
}

// Every refusal has the shape that clients of the dialect know.
func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("a"), done))
	b.build(relay.Options{MaxBody: 1000})
	poor := newBed(t, 10, sse(text("a"), done))
	limited := newBed(t, 1e9, sse(text("a"), done))
	limited.limit = &jimu.Error{Code: jimu.RateLimited, Text: "too many requests", RetryAfter: 1500 * time.Millisecond}
	expired := newBed(t, 1e9, sse(text("a"), done))
	expired.caller.Expires = time.Now().Add(-time.Second)
	narrow := newBed(t, 1e9, sse(text("a"), done))
	narrow.caller.Models = []string{"other"}
	for name, tt := range map[string]struct {
		b      *bed
		body   string
		header []string
		status int
		kind   string
		code   string
	}{
		"no key":      {b, stream, []string{"Authorization", ""}, 401, "invalid_request_error", "unauthorized"},
		"unknown key": {b, stream, []string{"Authorization", "Bearer x"}, 401, "invalid_request_error", "unauthorized"},
		"two keys":    {b, stream, []string{"X-Api-Key", "other"}, 401, "invalid_request_error", "unauthorized"},
		"not JSON":    {b, "{", nil, 400, "invalid_request_error", "invalid_request"},
		"two models":  {b, `{"model":"m","MODEL":"n"}`, nil, 400, "invalid_request_error", "invalid_request"},
		"too large":   {b, `{"model":"` + strings.Repeat("m", 1000) + `"}`, nil, 413, "invalid_request_error", "request_too_large"},
		"no model":    {b, `{"model":"none"}`, nil, 404, "invalid_request_error", "not_found"},
		"no credit":   {poor, stream, nil, 402, "insufficient_quota", "insufficient_credit"},
		"limit":       {limited, stream, nil, 429, "rate_limit_error", "rate_limited"},
		"expired":     {expired, stream, nil, 401, "invalid_request_error", "unauthorized"},
		"other model": {narrow, stream, nil, 403, "permission_error", "forbidden"},
	} {
		res := tt.b.post(tt.body, tt.header...)
		e := failure(t, res).Error
		if res.StatusCode != tt.status || e.Type != tt.kind || e.Code != tt.code || e.Message == "" {
			t.Errorf("%s: %d %+v", name, res.StatusCode, e)
		}
		if len(res.Header.Get("X-Request-Id")) != jimu.IDLen || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", name, res.Header)
		}
		if name == "limit" && res.Header.Get("Retry-After") != "2" {
			t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
		}
		if n := len(tt.b.ledger.orders); n > 0 && name != "no credit" {
			t.Errorf("%s: %d holds", name, n)
		}
		if strings.Contains(e.Message, "key") && tt.status != 401 && tt.status != 403 {
			t.Errorf("%s: %s", name, e.Message)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("a"), done))
	for _, h := range [][]string{
		{"X-Api-Key", "k"},
		{"X-Goog-Api-Key", "k"},
		{"Authorization", "bearer k"},
		{"Authorization", "Bearer  k "},
		{"Authorization", "Bearer k", "X-Api-Key", "k"},
	} {
		req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(stream))
		for i := 0; i < len(h); i += 2 {
			req.Header.Set(h[i], h[i+1])
		}
		w := httptest.NewRecorder()
		b.relay.ServeHTTP(w, req)
		if w.Code != 200 {
			t.Errorf("%v: %d %s", h, w.Code, w.Body)
		}
	}
	req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions?key=k", strings.NewReader(stream))
	w := httptest.NewRecorder()
	if b.relay.ServeHTTP(w, req); w.Code != 401 {
		t.Errorf("a key in the address: %d", w.Code)
	}
}

// Headers pass by name only, in both directions.
func TestHeaders(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 2)
	b := newBed(t, 1e9, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "stream") {
			sse(text("a"), done)(w, r)
			return
		}
		answer(200, `{"choices":[{"message":{"content":"a"}}]}`, "Set-Cookie", "a=b", "Server", "s", "Openai-Organization", "o", "Location", "l", "X-Request-Id", "theirs")(w, r)
	})
	for _, body := range []string{stream, plain} {
		res := b.post(body, "Cookie", "a=b", "X-Forwarded-For", "1.2.3.4", "Connection", "X-Hop", "X-Hop", "1", "X-Other", "2", "Te", "trailers",
			"Proxy-Authorization", "x", "Openai-Organization", "mine", "X-Api-Key", "k", "User-Agent", "me")
		read(t, res)
		got := []string{}
		for name := range <-seen {
			got = append(got, name)
		}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"Accept-Encoding", "Authorization", "Content-Length", "Content-Type", "User-Agent"}, got); diff != "" {
			t.Errorf("the upstream sees: %s", diff)
		}
		got = []string{}
		for name := range res.Header {
			got = append(got, name)
		}
		slices.Sort(got)
		want := []string{"Content-Length", "Content-Type", "Date", "X-Content-Type-Options", "X-Jimu-Cost", "X-Jimu-Upstream", "X-Request-Id"}
		if body == stream {
			want = []string{"Cache-Control", "Content-Type", "Date", "X-Accel-Buffering", "X-Content-Type-Options", "X-Jimu-Upstream", "X-Request-Id"}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the client sees: %s", diff)
		}
		if id := res.Header.Get("X-Request-Id"); id != b.record().Request {
			t.Errorf("request ID %s", id)
		}
	}
}

func TestWholeAnswer(t *testing.T) {
	t.Parallel()
	body := ` {"choices":[{"message":{"content":"1234"}}],"usage":{"In":7,"Out":9}, "x":"` + strings.Repeat("é", 100_000) + `" }` + "\n"
	b := newBed(t, 1e9, answer(200, body))
	res := b.post(plain)
	if got := read(t, res); got != body || res.ContentLength != int64(len(body)) || res.Header.Get("X-Jimu-Cost") != "0.000000097" {
		t.Errorf("%d bytes, want %d; headers %v", len(got), len(body), res.Header)
	}
	res = b.post(plain, "X-Jimu-Usage", "1")
	if got, want := read(t, res), strings.TrimSuffix(body, "}\n")+`,"jimu":{"cost":"0.000000097"}}`+"\n"; got != want {
		t.Errorf("got …%q", got[len(got)-60:])
	}
	b.build(relay.Options{MaxAnswer: 1000})
	if res := b.post(plain); res.StatusCode != http.StatusBadGateway {
		t.Errorf("an answer that is too large: %d", res.StatusCode)
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, func(w http.ResponseWriter, r *http.Request) {
		answer(200, `{"path":"`+r.URL.Path+`","usage":{"In":7,"Out":0}}`)(w, r)
	})
	req, _ := http.NewRequest(http.MethodPost, b.server.URL+"/v1/embeddings", strings.NewReader(`{"model":"m","input":"abc","stream":true}`))
	req.Header.Set("Authorization", "Bearer k")
	res, err := b.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got := read(t, &reply{res}); !strings.Contains(got, "/v1/embeddings") {
		t.Errorf("got %s", got)
	}
	if r := b.record(); r.Op != jimu.OpEmbeddings || r.Cost != 7 {
		t.Errorf("record %+v", r)
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	b := newBed(t, 0)
	for path, want := range map[string]string{
		"/v1/models":     `{"object":"list","data":[{"id":"a/b","object":"model","created":0,"owned_by":"x"},{"id":"m","object":"model","created":0,"owned_by":"y"}]}`,
		"/v1/models/a/b": `{"id":"a/b","object":"model","created":0,"owned_by":"x"}`,
		"/v1/models/z":   `{"error":{"message":"there is no model z for this key","type":"invalid_request_error","param":"model","code":"not_found"}}`,
	} {
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Header.Set("Authorization", "Bearer k")
		w := httptest.NewRecorder()
		b.relay.Models(w, req)
		if w.Body.String() != want {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	w := httptest.NewRecorder()
	if b.relay.Models(w, httptest.NewRequest(http.MethodGet, "/v1/models", nil)); w.Code != 401 {
		t.Errorf("without a key: %d", w.Code)
	}
}

// A client's connection serves it again after a stream, though it was taken
// from the server for it.
func TestKeepAliveAfterStream(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("a"), done))
	c, err := net.Dial("tcp", b.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	post := func(body, more string) {
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n%s%s", len(body), body, more)
	}
	for i := range 5 {
		post(stream, "")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if got, err := io.ReadAll(res.Body); string(got) != text("a")+done || err != nil || res.Close {
			t.Errorf("request %d: %q, %v", i, got, err)
		}
		if res.Trailer.Get("X-Jimu-Cost") == "" {
			t.Error("no trailer")
		}
		_ = res.Body.Close()
	}
	// The next request was sent before the answer came: the connection is
	// closed after the answer, and says so.
	post(stream, "POST / HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(res.Body); string(got) != text("a")+done || err != nil || !res.Close {
		t.Errorf("%q, %v, close %v", got, err, res.Close)
	}
	_ = res.Body.Close()
}

// A stream works on what is not a plain connection, too.
func TestStreamThroughWriter(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("a"), usage(7, 9), done))
	srv := httptest.NewUnstartedServer(b.relay)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	req, _ := http.NewRequest(http.MethodPost, srv.URL+"/v1/chat/completions", strings.NewReader(stream))
	req.Header.Set("Authorization", "Bearer k")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got := read(t, &reply{res}); got != text("a")+done || res.ProtoMajor != 2 || res.Trailer.Get("X-Jimu-Cost") != "0.000000097" {
		t.Errorf("%s %q %v", res.Proto, got, res.Trailer)
	}
	if r := b.record(); r.Cost != 97 {
		t.Errorf("record %+v", r)
	}
}

func TestClientGoneThroughWriter(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 1)
	b := newBed(t, 1e9, watched(closed, text("1234")))
	srv := httptest.NewUnstartedServer(b.relay)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/v1/chat/completions", strings.NewReader(stream))
	req.Header.Set("Authorization", "Bearer k")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.ReadFull(res.Body, make([]byte, len(text("1234")))); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-closed
	if r := b.record(); r.State != jimu.StateCancelled || r.Cost != input+10 {
		t.Errorf("record %+v", r)
	}
}

// What an upstream may do to us ends in an answer and a record, never in more
// memory than is allowed (F11).
func TestHostileUpstreams(t *testing.T) {
	t.Parallel()
	endless := func(head, piece string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, head)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, piece); err != nil {
					return
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		h      http.HandlerFunc
		status int
	}{
		"an endless line":               {endless("data: ", strings.Repeat("x", 10_000)), 502},
		"an endless line after content": {endless(text("a")+"data: ", strings.Repeat("x", 10_000)), 200},
		"endless comments":              {endless("", ": x\n\n"), 502},
		"garbage":                       {sse("\x00\x01\xff\n\n\n\n"), 502},
		"an error that never ends": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			endless("", "x")(w, r)
		}, 502},
		"an answer that is not a stream": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "99999999999") }, 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, 1e9, tt.h)
			b.build(relay.Options{MaxEvent: 1 << 16})
			res := b.post(stream)
			got := read(t, res)
			if res.StatusCode != tt.status || !strings.Contains(got, `"code":"upstream_unavailable"`) {
				t.Errorf("%d %.200q", res.StatusCode, got)
			}
			if r := b.record(); r.State != jimu.StateFailed {
				t.Errorf("record %+v", r)
			}
		})
	}
}

// A request that arrives too slowly, or not whole, is refused.
func TestCutRequest(t *testing.T) {
	t.Parallel()
	b := newBed(t, 1e9, sse(text("a"), done))
	c, err := net.Dial("tcp", b.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: 100\r\n\r\n{")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil { //nolint:errcheck // of the type: it is TCP
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if e := failure(t, &reply{res}).Error; res.StatusCode != http.StatusBadRequest || e.Code != "invalid_request" {
		t.Errorf("%d %+v", res.StatusCode, e)
	}
}

func BenchmarkRequest(b *testing.B) {
	for name, body := range map[string]string{"plain": plain, "stream": stream} {
		b.Run(name, func(b *testing.B) {
			h := answer(200, `{"choices":[{"message":{"content":"1234"}}],"usage":{"In":7,"Out":9}}`)
			if body == stream {
				h = sse(text("1234") + usage(7, 9) + done)
			}
			bed := newBed(b, 1e18, h)
			go func() {
				for range bed.records {
				}
			}()
			b.Cleanup(func() { close(bed.records) })
			req := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", nil)
			req.Header.Set("Authorization", "Bearer k")
			rd := strings.NewReader("")
			w := &discard{h: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				rd.Reset(body)
				req.Body, req.ContentLength = io.NopCloser(rd), int64(len(body))
				clear(w.h)
				bed.relay.ServeHTTP(w, req)
			}
		})
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}
