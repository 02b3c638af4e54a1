package relay_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/providers/openai"
)

// The relay with the provider that most upstreams have: the bytes, the extra
// chunk of usage, and the bill.
func TestWithOpenAI(t *testing.T) {
	t.Parallel()
	chunk := func(rest string) string {
		return `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"real-m",` + rest + "}\n\n"
	}
	content := chunk(`"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null`) +
		chunk(`"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null`) +
		chunk(`"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null`)
	used := chunk(`"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4}}`)
	asked := make(chan map[string]any, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var v map[string]any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Errorf("the upstream got %q: %v", b, err)
		}
		asked <- v
		if v["stream"] == true {
			sse(content+used, done)(w, r)
			return
		}
		answer(200, `{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":5}}`)(w, r)
	}))
	t.Cleanup(srv.Close)

	o := new(openai.OpenAI)
	o.Name, o.Vendor, o.BaseURL, o.Key = "main", "openai-compatible", srv.URL+"/v1", jimu.NewSecret("sk-x")
	err := o.Provision(t.Context(), jimu.Host{Now: time.Now})
	chat, ok := o.Endpoint(jimu.OpChat, o.Key)
	if err != nil || !ok {
		t.Fatal(err, ok)
	}
	b := newBed(t, 1e9)
	b.targets = []*jimu.Target{{
		Upstream: o.Upstream(), Provider: o, Model: "m", Name: "real-m", Price: price(t),
		Endpoints: map[jimu.Operation]jimu.Endpoint{jimu.OpChat: chat},
	}}
	b.build(relay.Options{})

	if got := read(t, b.post(stream)); got != content+done {
		t.Errorf("the client got %q", got)
	}
	if v := <-asked; v["model"] != "real-m" || v["stream_options"] == nil {
		t.Errorf("the upstream was asked %v", v)
	}
	want := jimu.Usage{InText: 7, InCached: 4, OutText: 5}
	if r := b.record(); r.Cost != 61 || r.Usage != want {
		t.Errorf("record %+v", r)
	}
	res := b.post(strings.Replace(stream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1))
	if got := read(t, res); got != content+used+done {
		t.Errorf("the client got %q", got)
	}
	<-asked
	b.record()
	read(t, b.post(plain))
	if v := <-asked; v["stream_options"] != nil {
		t.Errorf("the upstream was asked %v", v)
	}
	if r := b.record(); r.Cost != 61 {
		t.Errorf("record %+v", r)
	}
}
