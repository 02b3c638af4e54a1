package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu/client"
	"github.com/jimu-ai/jimu/internal/mock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and returns a client of it that waits for nothing.
func serve(t *testing.T, h http.Handler, options ...client.Option) *client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	options = append([]client.Option{client.WithHTTPClient(srv.Client()), client.WithBackoff(0)}, options...)
	return client.New(srv.URL+"/v1/", "k", options...)
}

func question(model string) *client.ChatRequest {
	return &client.ChatRequest{Model: model, Messages: []client.Message{client.User("Hello, you!")}}
}

// priced answers like h and says what it cost, after the body if streamed.
func priced(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req-1")
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		if strings.Contains(string(b), `"stream":true`) {
			defer w.Header().Set(http.TrailerPrefix+"X-Jimu-Cost", "0.000000001")
		} else {
			w.Header().Set("X-Jimu-Cost", "0.000000001")
		}
		h.ServeHTTP(w, r)
	})
}

func TestChat(t *testing.T) {
	t.Parallel()
	c := serve(t, priced(mock.New(mock.Options{Keys: []string{"k"}})))
	got, err := c.Chat.Create(t.Context(), question("mock-model"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Text() != mock.Answer(600) || got.Usage.TotalTokens != 153 || got.Choices[0].FinishReason != "stop" {
		t.Errorf("%+v", got)
	}
	if got.Cost == nil || got.Cost.String() != "0.000000001" || got.RequestID != "req-1" {
		t.Errorf("cost %v of request %q", got.Cost, got.RequestID)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	for model, what := range map[string]struct {
		text string
		in   int64
	}{
		"mock-model":       {mock.Answer(600), 3},
		"mock-no-done":     {mock.Answer(600), 3},
		"mock-usage-every": {mock.Answer(600), 3},
		"mock-odd":         {"", 10},
	} {
		c := serve(t, priced(mock.New(mock.Options{})))
		var text strings.Builder
		var last *client.Chunk
		for chunk, err := range c.Chat.Stream(t.Context(), question(model)) {
			if err != nil {
				t.Fatalf("%s: %v", model, err)
			}
			text.WriteString(chunk.Text())
			last = chunk
		}
		if what.text != "" && text.String() != what.text {
			t.Errorf("%s: %q", model, text.String())
		}
		if model == "mock-odd" && text.Len() < 1<<20 {
			t.Errorf("%s: only %d bytes", model, text.Len())
		}
		if last == nil || last.Usage == nil || last.Usage.PromptTokens != what.in || last.Cost == nil || *last.Cost != 1 || last.RequestID != "req-1" {
			t.Errorf("%s: last chunk %+v", model, last)
		}
	}
}

// Leaving the loop ends the request.
func TestStreamBreak(t *testing.T) {
	t.Parallel()
	m := mock.New(mock.Options{Chunks: 600, Interval: 20 * time.Millisecond})
	ended := make(chan struct{})
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.ServeHTTP(w, r)
		close(ended)
	}))
	for chunk, err := range c.Chat.Stream(t.Context(), question("m")) {
		if err != nil || chunk.Text() == "" {
			t.Fatal(chunk, err)
		}
		break
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the request goes on")
	}
	if m.Stats().Answered != 0 {
		t.Error("the answer went on to its end")
	}
}

func TestStreamFails(t *testing.T) {
	t.Parallel()
	c := serve(t, mock.New(mock.Options{}))
	for model, check := range map[string]func(err error) bool{
		"mock-error-mid": func(err error) bool {
			e, ok := errors.AsType[*client.Error](err)
			return ok && e.Code == "server_error"
		},
		"mock-error-after-200": func(err error) bool { e, ok := errors.AsType[*client.Error](err); return ok && e.Status == 200 },
		"mock-cut":             func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) },
		"mock-short":           func(err error) bool { return errors.Is(err, client.ErrCut) },
		"mock-garbage":         func(err error) bool { _, ok := errors.AsType[*json.SyntaxError](err); return ok },
		"mock-400":             func(err error) bool { e, ok := errors.AsType[*client.Error](err); return ok && e.Param == "messages" },
	} {
		var last error
		count := 0
		for _, err := range c.Chat.Stream(t.Context(), question(model)) {
			if err != nil {
				last = err
				count++
			}
		}
		if count != 1 || !check(last) {
			t.Errorf("%s: %d errors, %v", model, count, last)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		want   client.Error
	}{
		{402, `{"error":{"message":"no credit","type":"insufficient_credit","code":"insufficient_credit","param":null}}`, client.Error{Code: client.CodeNoCredit, Message: "no credit"}},
		{400, `{"error":{"message":"bad","type":"invalid_request","param":"n","code":42}}`, client.Error{Code: "42", Message: "bad", Param: "n"}},
		{401, `{"error":{"message":"who?","type":"authentication_error","code":null}}`, client.Error{Code: "authentication_error", Message: "who?"}},
		{404, `{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"no such user"}`, client.Error{Code: client.CodeNotFound, Message: "no such user"}},
		{403, `{"title":"Forbidden","code":"forbidden"}`, client.Error{Code: "forbidden", Message: "Forbidden"}},
		{418, `<html>`, client.Error{}},
	} {
		calls := 0
		cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.Header().Set("X-Request-Id", "r")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		_, err := cl.Models.List(t.Context())
		got, ok := errors.AsType[*client.Error](err)
		if !ok {
			t.Fatalf("%d: %v", c.status, err)
		}
		c.want.Status, c.want.RequestID = c.status, "r"
		if d := cmp.Diff(&c.want, got); d != "" {
			t.Error(d)
		}
		if !strings.Contains(got.Error(), "request r") || calls != 1 {
			t.Errorf("%q after %d calls", got, calls)
		}
	}
}

// failing refuses some requests before it answers.
type failing struct {
	times   int
	status  int
	header  http.Header
	calls   int64
	content string
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f.content = string(b)
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"data":[]}`)), Request: r}
	if f.calls++; f.calls <= int64(f.times) {
		if f.status == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		res.StatusCode = f.status
		if f.header != nil {
			res.Header = f.header
		}
	}
	return res, nil
}

// What may pass is tried again, after the right wait; what may not is not.
func TestRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		f        failing
		options  []client.Option
		ok       bool
		calls    int64
		from, to time.Duration
	}{
		"once":            {failing{times: 1, status: 503}, nil, true, 2, 250 * time.Millisecond, 500 * time.Millisecond},
		"twice":           {failing{times: 2, status: 500}, nil, true, 3, 750 * time.Millisecond, 1500 * time.Millisecond},
		"too often":       {failing{times: 9, status: 502}, nil, false, 3, 750 * time.Millisecond, 1500 * time.Millisecond},
		"retry after":     {failing{times: 1, status: 429, header: http.Header{"Retry-After": {"7"}}}, nil, true, 2, 7 * time.Second, 7 * time.Second},
		"much later":      {failing{times: 1, status: 429, header: http.Header{"Retry-After": {"61"}}}, nil, false, 1, 0, 0},
		"date":            {failing{times: 1, status: 429, header: http.Header{"Retry-After": {"Sat, 01 Jan 2000 00:00:30 GMT"}}}, nil, true, 2, 30 * time.Second, 30 * time.Second},
		"no connection":   {failing{times: 1}, nil, true, 2, 250 * time.Millisecond, 500 * time.Millisecond},
		"a no":            {failing{times: 1, status: 402}, nil, false, 1, 0, 0},
		"a redirect":      {failing{times: 1, status: 302}, nil, false, 1, 0, 0},
		"never":           {failing{times: 1, status: 503}, []client.Option{client.WithRetries(0)}, false, 1, 0, 0},
		"capped":          {failing{times: 6, status: 503}, []client.Option{client.WithRetries(6)}, true, 7, 11750 * time.Millisecond, 23500 * time.Millisecond},
		"without waiting": {failing{times: 2, status: 503}, []client.Option{client.WithBackoff(0)}, true, 3, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			options := append([]client.Option{client.WithHTTPClient(&http.Client{
				Transport:     &c.f,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			})}, c.options...)
			_, err := client.New("http://x", "k", options...).Embeddings.Create(t.Context(), &client.EmbeddingRequest{Model: "e"})
			if took := time.Since(began); (err == nil) != c.ok || c.f.calls != c.calls || took < c.from || took > c.to {
				t.Errorf("%s: %d calls in %v, %v", name, c.f.calls, took, err)
			}
			if c.f.content != `{"model":"e","input":null}` {
				t.Errorf("%s: the last try sent %q", name, c.f.content)
			}
		})
	}
}

func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := &failing{times: 9, status: 429, header: http.Header{"Retry-After": {"30"}}}
		_, err := client.New("http://x", "k", client.WithHTTPClient(&http.Client{Transport: f})).Models.List(ctx)
		e, ok := errors.AsType[*client.Error](err)
		if !errors.Is(err, context.DeadlineExceeded) || !ok || e.Status != 429 {
			t.Error(err)
		}
	})
}

// The key never follows a redirect.
func TestRedirect(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	_, err := client.New(srv.URL, "k").Models.List(t.Context())
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusTemporaryRedirect || asked.Load() {
		t.Errorf("%v, followed: %v", err, asked.Load())
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() //nolint:errcheck,forcetypeassert // it is one
}

func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	var sent, key, header string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sent, key, header = string(b), r.Header.Get("Authorization"), r.Header.Get("X-Team")
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}), client.WithHeader("X-Team", "red"))
	warm := 0.5
	_, err := c.Chat.Create(t.Context(), &client.ChatRequest{
		Model: "m", Temperature: &warm, MaxTokens: 5, Extra: map[string]any{"thinking": true},
		Messages: []client.Message{
			client.System("s"),
			{Role: "user", Parts: []client.Part{{Type: "text", Text: "t"}, {Type: "image_url", ImageURL: &client.ImageURL{URL: "data:x"}}}},
			client.Assistant("a"), client.ToolResult("id", "r"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"model":"m","messages":[{"role":"system","content":"s"},` +
		`{"role":"user","content":[{"type":"text","text":"t"},{"type":"image_url","image_url":{"url":"data:x"}}]},` +
		`{"role":"assistant","content":"a"},{"role":"tool","content":"r","tool_call_id":"id"}],` +
		`"max_tokens":5,"temperature":0.5,"thinking":true}`
	if d := cmp.Diff(want, sent); d != "" {
		t.Error(d)
	}
	if key != "Bearer k" || header != "red" {
		t.Errorf("key %q, header %q", key, header)
	}
}

func TestTools(t *testing.T) {
	t.Parallel()
	c := serve(t, mock.New(mock.Options{}))
	r := question("m")
	r.Tools = []client.Tool{{Type: "function", Function: client.Function{Name: "weather"}}}
	got, err := c.Chat.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if calls := got.Choices[0].Message.ToolCalls; len(calls) != 1 || calls[0].Function.Name != "weather" || calls[0].Function.Arguments != `{"location":"Paris"}` {
		t.Errorf("%+v", calls)
	}
	var arguments strings.Builder
	for chunk, err := range c.Chat.Stream(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		for _, choice := range chunk.Choices {
			for _, call := range choice.Delta.ToolCalls {
				arguments.WriteString(call.Function.Arguments)
			}
		}
	}
	if arguments.String() != `{"location":"Paris"}` {
		t.Error(arguments.String())
	}
}

// platform answers the calls of the platform API.
func platform() http.Handler {
	m := mock.New(mock.Options{Models: []string{"a", "b"}})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path + "?" + r.URL.RawQuery {
		case "/api/me?":
			_, _ = io.WriteString(w, `{"name":"ann","credit":{"balance":"12.5","held":"0.1"}}`)
		case "/api/usage?limit=100":
			_, _ = io.WriteString(w, `{"data":[{"request":"1","cost":"0.5","usage":{"in_text":3}},{"request":"2","cost":"0"}],"next":"n/2"}`)
		case "/api/usage?cursor=n%2F2&limit=100":
			_, _ = io.WriteString(w, `{"data":[{"request":"3","cost":"1","took_ms":1}],"next":""}`)
		default:
			m.ServeHTTP(w, r)
		}
	})
}

func TestLists(t *testing.T) {
	t.Parallel()
	c := serve(t, platform())
	models, err := c.Models.List(t.Context())
	if err != nil || len(models) != 2 || models[1].ID != "b" {
		t.Errorf("%v, %v", models, err)
	}
	vectors, err := c.Embeddings.Create(t.Context(), &client.EmbeddingRequest{Model: "e", Input: []string{"x", "y"}})
	if err != nil || len(vectors.Data) != 2 || len(vectors.Data[0].Embedding) == 0 || vectors.Usage.PromptTokens != 2 {
		t.Errorf("%v, %v", vectors, err)
	}
	balance, err := c.Balance(t.Context())
	if err != nil || balance.Balance.String() != "12.5" || balance.Held.String() != "0.1" {
		t.Errorf("%v, %v", balance, err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	c := serve(t, platform())
	var ids []string
	for row, err := range c.Usage.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, row.Request+" "+row.Cost.String())
	}
	if d := cmp.Diff([]string{"1 0.5", "2 0", "3 1"}, ids); d != "" {
		t.Error(d)
	}
	for _, err := range serve(t, http.NotFoundHandler()).Usage.List(t.Context()) {
		if err == nil {
			t.Error("a page that is not there was listed")
		}
	}
}

func TestAmount(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]client.Amount{
		"0": 0, "1": 1e9, "12.5": 12_500_000_000, "-0.000000001": -1, "9223372036.854775807": math.MaxInt64,
	} {
		got, err := client.ParseAmount(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%s: %d, %v, written %s", s, got, err, got)
		}
		b, err := json.Marshal(got)
		var back client.Amount
		if err = errors.Join(err, json.Unmarshal(b, &back)); err != nil || back != want {
			t.Errorf("%s: %s, %v", s, b, err)
		}
	}
	if s := client.Amount(math.MinInt64).String(); s != "-9223372036.854775808" {
		t.Error(s)
	}
	for _, s := range []string{"", "-", ".", "1.", ".5", "+1", "1e3", " 1", "1.0000000001", "9223372036.854775808", "--1", "1-"} {
		if got, err := client.ParseAmount(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
	var a client.Amount
	if err := json.Unmarshal([]byte("1.5"), &a); err == nil {
		t.Error("a number is not exact")
	}
}
