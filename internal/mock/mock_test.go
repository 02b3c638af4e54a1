package mock_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu/internal/mock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type request struct {
	method, path, body string
	header             http.Header
}

func openAI(body string) request {
	return request{"POST", "/v1/chat/completions", body, http.Header{"Authorization": {"Bearer k"}, "Content-Type": {"application/json"}}}
}

func anthropic(body string) request {
	return request{"POST", "/v1/messages", body, http.Header{
		"X-Api-Key": {"k"}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"},
	}}
}

func gemini(call, body string) request {
	return request{"POST", "/v1beta/models/" + call, body, http.Header{"X-Goog-Api-Key": {"k"}, "Content-Type": {"application/json"}}}
}

func ask(t *testing.T, h http.Handler, r request) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), r.method, r.path, strings.NewReader(r.body))
	req.Header = r.header
	h.ServeHTTP(w, req)
	return w.Code, w.Header(), w.Body.String()
}

// events returns the data of each event of a stream.
func events(t *testing.T, body string) []string {
	t.Helper()
	var out []string
	sc := bufio.NewScanner(strings.NewReader(body))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		if d, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
			out = append(out, d)
		}
	}
	if sc.Err() != nil {
		t.Fatal(sc.Err())
	}
	return out
}

func joined(events []string, path string) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString(gjson.Get(e, path).String())
	}
	return b.String()
}

const hello = `{"model":"mock-model","max_tokens":1000,"messages":[{"role":"user","content":"Hello, you!"}]}`

func stream(body string) string { return strings.Replace(body, "{", `{"stream":true,`, 1) }

func TestAnswerOfEachDialect(t *testing.T) {
	t.Parallel()
	m := mock.New(mock.Options{})
	in, out := mock.Tokens("Hello, you!"), mock.Tokens(mock.Answer(600))
	geminiBody := `{"contents":[{"role":"user","parts":[{"text":"Hello, you!"}]}]}`
	for _, c := range []struct {
		name          string
		r             request
		text, in, out string
	}{
		{"openai", openAI(hello), "choices.0.message.content", "usage.prompt_tokens", "usage.completion_tokens"},
		{"anthropic", anthropic(hello), "content.0.text", "usage.input_tokens", "usage.output_tokens"},
		{"gemini", gemini("g:generateContent", geminiBody), "candidates.0.content.parts.0.text", "usageMetadata.promptTokenCount", "usageMetadata.candidatesTokenCount"},
	} {
		status, _, body := ask(t, m, c.r)
		if status != 200 || !gjson.Valid(body) {
			t.Fatalf("%s: %d %s", c.name, status, body)
		}
		if got := gjson.Get(body, c.text).Str; got != mock.Answer(600) {
			t.Errorf("%s: text %q", c.name, got)
		}
		got := [2]int64{gjson.Get(body, c.in).Int(), gjson.Get(body, c.out).Int()}
		if got != [2]int64{in, out} {
			t.Errorf("%s: usage %v, want %d %d", c.name, got, in, out)
		}
	}
}

func TestStreamOfEachDialect(t *testing.T) {
	t.Parallel()
	m := mock.New(mock.Options{Chunks: 7})
	body := strings.Replace(stream(hello), "{", `{"stream_options":{"include_usage":true},`, 1)
	geminiBody := `{"contents":[{"parts":[{"text":"Hello, you!"}]}]}`
	for _, c := range []struct {
		name         string
		r            request
		text         string
		usage        string // the path of the output's count
		count, after int    // events, and events after the usage
	}{
		{"openai", openAI(body), "choices.0.delta.content", "usage.completion_tokens", 10, 1},
		{"anthropic", anthropic(stream(hello)), "delta.text", "usage.output_tokens", 13, 1},
		{"gemini", gemini("g:streamGenerateContent?alt=sse", geminiBody), "candidates.0.content.parts.0.text", "usageMetadata.candidatesTokenCount", 8, 0},
	} {
		status, header, got := ask(t, m, c.r)
		if status != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/event-stream") {
			t.Fatalf("%s: %d %v", c.name, status, header)
		}
		es := events(t, got)
		if text := joined(es, c.text); text != mock.Answer(600) {
			t.Errorf("%s: text %q", c.name, text)
		}
		if len(es) != c.count {
			t.Errorf("%s: %d events, want %d:\n%s", c.name, len(es), c.count, got)
		}
		if n := gjson.Get(es[len(es)-1-c.after], c.usage).Int(); n != mock.Tokens(mock.Answer(600)) {
			t.Errorf("%s: %s = %d", c.name, c.usage, n)
		}
	}
	status, _, array := ask(t, m, gemini("g:streamGenerateContent", geminiBody))
	if status != 200 || gjson.Get(array, "#").Int() != 8 {
		t.Errorf("gemini without alt=sse: %d %s", status, array)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	m := mock.New(mock.Options{Keys: []string{"k"}, Strict: true})
	without := func(r request, name string) request {
		r.header = r.header.Clone()
		r.header.Del(name)
		return r
	}
	wrongKey := openAI(hello)
	wrongKey.header.Set("Authorization", "Bearer other")
	for name, c := range map[string]struct {
		r      request
		status int
		path   string
		want   string
	}{
		"no key":             {without(openAI(hello), "Authorization"), 401, "error.code", "missing_api_key"},
		"wrong key":          {wrongKey, 401, "error.code", "invalid_api_key"},
		"no type":            {without(openAI(hello), "Content-Type"), 415, "error.type", "invalid_request_error"},
		"no JSON":            {openAI(`{"model":`), 400, "error.type", "invalid_request_error"},
		"an array":           {openAI(`[]`), 400, "error.type", "invalid_request_error"},
		"no model":           {openAI(`{"messages":[{"role":"user","content":"x"}]}`), 400, "error.param", "model"},
		"no messages":        {openAI(`{"model":"m"}`), 400, "error.param", "messages"},
		"empty messages":     {openAI(`{"model":"m","messages":[]}`), 400, "error.param", "messages"},
		"role":               {openAI(`{"model":"m","messages":[{"role":"boss","content":"x"}]}`), 400, "error.param", "messages[0].role"},
		"content":            {openAI(`{"model":"m","messages":[{"role":"user","content":7}]}`), 400, "error.param", "messages[0].content"},
		"part":               {openAI(`{"model":"m","messages":[{"role":"user","content":[{"type":"smell"}]}]}`), 400, "error.param", "messages[0].content"},
		"tool id":            {openAI(`{"model":"m","messages":[{"role":"tool","content":"x"}]}`), 400, "error.param", "messages[0].tool_call_id"},
		"max_tokens":         {openAI(`{"max_tokens":0,"model":"m","messages":[{"role":"user","content":"x"}]}`), 400, "error.param", "max_tokens"},
		"temperature":        {openAI(`{"temperature":3,"model":"m","messages":[{"role":"user","content":"x"}]}`), 400, "error.param", "temperature"},
		"options":            {openAI(`{"stream_options":{},"model":"m","messages":[{"role":"user","content":"x"}]}`), 400, "error.param", "stream_options"},
		"unknown":            {openAI(`{"spirit":1,"model":"m","messages":[{"role":"user","content":"x"}]}`), 400, "error.param", "spirit"},
		"path":               {request{"GET", "/v1/nothing", "", http.Header{}}, 404, "error.code", "not_found"},
		"anthropic no key":   {without(anthropic(hello), "X-Api-Key"), 401, "error.type", "authentication_error"},
		"anthropic version":  {without(anthropic(hello), "Anthropic-Version"), 400, "error.type", "invalid_request_error"},
		"anthropic max":      {anthropic(`{"model":"m","messages":[{"role":"user","content":"x"}]}`), 400, "error.message", "max_tokens: Field required"},
		"anthropic role":     {anthropic(`{"model":"m","max_tokens":1,"messages":[{"role":"system","content":"x"}]}`), 400, "error.type", "invalid_request_error"},
		"gemini no key":      {without(gemini("m:generateContent", `{}`), "X-Goog-Api-Key"), 401, "error.status", "UNAUTHENTICATED"},
		"gemini no contents": {gemini("m:generateContent", `{}`), 400, "error.status", "INVALID_ARGUMENT"},
		"gemini method":      {gemini("m:sing", `{}`), 404, "error.status", "NOT_FOUND"},
		"embeddings input":   {request{"POST", "/v1/embeddings", `{"model":"m","input":[7]}`, openAI("").header}, 400, "error.param", "input"},
	} {
		status, _, body := ask(t, m, c.r)
		if got := gjson.Get(body, c.path).String(); status != c.status || got != c.want {
			t.Errorf("%s: %d, %s = %q; want %d, %q\n%s", name, status, c.path, got, c.status, c.want, body)
		}
	}
}

func TestOptionsOfTheRequest(t *testing.T) {
	t.Parallel()
	m := mock.New(mock.Options{})
	for name, c := range map[string]struct {
		add    string
		text   string
		finish string
		out    int64
	}{
		"max_tokens": {`"max_tokens":3`, mock.Answer(12), "length", 3},
		"stop":       {`"stop":[" quick"]`, "The", "stop", 1},
		"n":          {`"n":2`, mock.Answer(600), "stop", 300},
		"tool":       {`"tools":[{"type":"function","function":{"name":"weather"}}]`, "", "tool_calls", 5},
		"no tool":    {`"tool_choice":"none","tools":[{"type":"function","function":{"name":"weather"}}]`, mock.Answer(600), "stop", 150},
	} {
		_, _, body := ask(t, m, openAI(`{"model":"mock-model","messages":[{"role":"user","content":"x"}],`+c.add+`}`))
		got := []any{
			gjson.Get(body, "choices.0.message.content").Str, gjson.Get(body, "choices.0.finish_reason").Str, gjson.Get(body, "usage.completion_tokens").Int(),
		}
		if d := cmp.Diff([]any{c.text, c.finish, c.out}, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestListsAndCounts(t *testing.T) {
	t.Parallel()
	m := mock.New(mock.Options{Models: []string{"a", "b"}})
	for _, c := range []struct {
		r    request
		path string
		want string
	}{
		{request{"GET", "/v1/models", "", openAI("").header}, "data.#.id", `["a","b"]`},
		{request{"GET", "/v1/models", "", anthropic("").header}, "data.#.display_name", `["a","b"]`},
		{request{"GET", "/v1beta/models", "", gemini("", "").header}, "models.#.name", `["models/a","models/b"]`},
		{request{"POST", "/v1/embeddings", `{"model":"e","input":["abcd","efghi"]}`, openAI("").header}, "usage.prompt_tokens", "3"},
		{request{"POST", "/v1/embeddings", `{"model":"e","input":["abcd","efghi"]}`, openAI("").header}, "data.#", "2"},
		{request{"POST", "/v1/embeddings", `{"model":"e","input":"a","encoding_format":"base64"}`, openAI("").header}, "data.0.embedding", `"AAAAAAAAAD4AAIA+AADAPgAAAD8AACA/AABAPwAAYD8="`},
		{request{"POST", "/v1/messages/count_tokens", hello, anthropic("").header}, "input_tokens", "3"},
		{request{"GET", "/mock/stats", "", http.Header{}}, "answered", "3"},
	} {
		if _, _, body := ask(t, m, c.r); gjson.Get(body, c.path).Raw != c.want {
			t.Errorf("%s: %s", c.r.path, body)
		}
	}
}

// over asks over a socket and returns all that came back.
func over(t *testing.T, srv *httptest.Server, model string, streamed bool) string {
	t.Helper()
	body := strings.Replace(hello, "mock-model", model, 1)
	if streamed {
		body = stream(body)
	}
	limit := 5 * time.Second
	if strings.HasPrefix(model, "mock-hang") {
		limit = 50 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = openAI("").header
	client := *srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return "no answer"
	}
	b, err := io.ReadAll(res.Body)
	if e := res.Body.Close(); e != nil {
		t.Error(e)
	}
	out := res.Status + res.Header.Get("Retry-After") + string(b)
	if err != nil {
		out += " broken off"
	}
	return strings.ReplaceAll(out, model, "MODEL")
}

// Every fault does something else than answering, or it changes the answer.
func TestFaultsDiffer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(mock.New(mock.Options{}))
	defer srv.Close()
	strip := func(s string) string { // what differs anyway
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r >= '0' && r <= '9' }), "")
	}
	plain, plainStream := strip(over(t, srv, "mock-model", false)), strip(over(t, srv, "mock-model", true))
	for _, f := range mock.FaultNames() {
		whole, streamed := over(t, srv, "mock-"+f, false), over(t, srv, "mock-"+f, true)
		figures := strings.Contains(whole, "1000000000000000") || strings.Contains(whole, `"cached_tokens":1`)
		if !figures && strip(whole) == plain && strip(streamed) == plainStream {
			t.Errorf("%s answers like no fault", f)
		}
		if mock.Faults()[f] == "" {
			t.Errorf("%s says nothing", f)
		}
	}
	if got := over(t, srv, "mock-odd", true); got != "200 OK"+string(mock.OddStream()) {
		t.Errorf("odd: %d bytes, want %d", len(got), len(mock.OddStream()))
	}
}

func TestFaultByKeyHeaderAndOption(t *testing.T) {
	t.Parallel()
	byKey, byHeader := openAI(hello), openAI(hello)
	byKey.header.Set("Authorization", "Bearer sk-mock-503")
	byHeader.header.Set("X-Mock-Fault", "503")
	for name, c := range map[string]struct {
		o mock.Options
		r request
	}{
		"key":    {mock.Options{}, byKey},
		"header": {mock.Options{}, byHeader},
		"option": {mock.Options{Fault: "503"}, openAI(hello)},
	} {
		if status, _, _ := ask(t, mock.New(c.o), c.r); status != 503 {
			t.Errorf("%s: %d", name, status)
		}
	}
}

// The pace is kept from when pieces were due, in the clock of the test.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := mock.New(mock.Options{Delay: time.Second, Chunks: 5, Interval: 200 * time.Millisecond})
		began := time.Now()
		ask(t, m, openAI(stream(hello)))
		if took := time.Since(began); took != 1800*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestDemo(t *testing.T) {
	t.Parallel()
	demo := mock.Demo(mock.DemoOptions{Pace: -1})
	for _, c := range []struct{ question, want string }{
		{"Why is the sky `blue`?", "No model was asked"},
		{"\u5929\u7a7a\u4e3a\u4ec0\u4e48\u662f\u84dd\u7684?", "\u6ca1\u6709\u4efb\u4f55\u6a21\u578b\u88ab\u8c03\u7528"},
	} {
		q, err := json.Marshal(c.question)
		if err != nil {
			t.Fatal(err)
		}
		body := `{"model":"jimu-demo","messages":[{"role":"user","content":` + string(q) + `}]`
		r := openAI(body + "}")
		r.header.Del("Authorization")
		_, _, whole := ask(t, demo, r)
		text := gjson.Get(whole, "choices.0.message.content").Str
		if !strings.Contains(text, c.want) || !strings.Contains(text, strings.ReplaceAll(c.question, "`", "'")) {
			t.Errorf("%s: %s", c.question, text)
		}
		if got := gjson.Get(whole, "usage.completion_tokens").Int(); got != mock.EstimateTokens(text) {
			t.Errorf("%s: %d tokens, want %d", c.question, got, mock.EstimateTokens(text))
		}
		r.body = body + `,"stream":true}`
		_, _, streamed := ask(t, demo, r)
		es := events(t, streamed)
		if got := joined(es, "choices.0.delta.content"); got != text {
			t.Errorf("streamed: %s", cmp.Diff(text, got))
		}
		if len(es) < 60 {
			t.Errorf("only %d events", len(es))
		}
		r.body = body + `,"max_tokens":20}`
		_, _, short := ask(t, demo, r)
		if n, why := gjson.Get(short, "usage.completion_tokens").Int(), gjson.Get(short, "choices.0.finish_reason").Str; n > 20 || n < 18 || why != "length" {
			t.Errorf("max_tokens: %d, %s", n, why)
		}
		r.body = body + `,"stop":"\n"}`
		_, _, stopped := ask(t, demo, r)
		if got := gjson.Get(stopped, "choices.0.message.content").Str; got == "" || strings.Contains(got, "\n") {
			t.Errorf("stop: %q", got)
		}
	}
}

func TestPipe(t *testing.T) {
	t.Parallel()
	dial, closeAll := mock.Pipe(mock.New(mock.Options{}))
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://demo/v1/chat/completions", strings.NewReader(stream(hello)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = openAI("").header
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || joined(events(t, string(b)), "choices.0.delta.content") != mock.Answer(600) {
			t.Errorf("%v: %s", err, b)
		}
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
	if _, err := dial(t.Context(), "tcp", "x"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
}

func hangUp(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A client that goes away ends the request behind a pipe, and a close ends
// what hangs.
func TestPipeEnds(t *testing.T) {
	t.Parallel()
	began, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	dial, closeAll := mock.Pipe(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	for range 2 {
		c, err := dial(t.Context(), "tcp", "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-began
		if len(ended) == 0 {
			hangUp(t, c)
			<-ended
		}
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
}

func TestPipeDeadlineAndBackpressure(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	dial, closeAll := mock.Pipe(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	c, err := dial(t.Context(), "tcp", "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if err := c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
	n, err := c.Write(append([]byte(head), bytes.Repeat([]byte("x"), 1<<20)...))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n > 1<<18 {
		t.Errorf("write: %d, %v", n, err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	close(block)
	hangUp(t, c)
	if _, err := c.Read(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
}

func FuzzRequest(f *testing.F) {
	m := mock.New(mock.Options{Strict: true})
	f.Add("/v1/chat/completions", hello)
	f.Add("/v1/messages", stream(hello))
	f.Add("/v1/embeddings", `{"model":"e","input":[""]}`)
	f.Add("/v1beta/models/m:streamGenerateContent", `{"contents":[{"parts":[{"text":"x"}]}]}`)
	f.Fuzz(func(t *testing.T, path, body string) {
		if !strings.HasPrefix(path, "/v1") || strings.ContainsAny(path, " %?#\r\n\x00") || strings.Contains(body, "mock-") {
			t.Skip()
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x"+path, strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		req.Header = http.Header{
			"Authorization": {"Bearer k"}, "X-Api-Key": {"k"}, "X-Goog-Api-Key": {"k"},
			"Anthropic-Version": {"1"}, "Content-Type": {"application/json"},
		}
		w := httptest.NewRecorder()
		m.ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func BenchmarkChat(b *testing.B) {
	m := mock.New(mock.Options{})
	r := openAI(hello)
	b.ReportAllocs()
	for b.Loop() {
		req := httptest.NewRequestWithContext(b.Context(), r.method, r.path, strings.NewReader(r.body))
		req.Header = r.header
		m.ServeHTTP(httptest.NewRecorder(), req)
	}
}
