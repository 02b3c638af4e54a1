package openai

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jimu-ai/jimu"
)

func TestSignals(t *testing.T) {
	t.Parallel()
	const content, usage, failed, done = jimu.SignalContent, jimu.SignalUsage, jimu.SignalError, jimu.SignalDone
	delta := func(d string) string {
		return `{"id":"x","choices":[{"index":0,"delta":` + d + `,"finish_reason":null}]}`
	}
	for data, want := range map[string]jimu.Signal{
		"":                            0,
		"  [DONE] ":                   done,
		"nonsense":                    0,
		`{"choices`:                   0,
		delta(`{"role":"assistant"}`): 0,
		delta(`{"role":"assistant","content":""}`):                                                 0,
		delta(`{"role":"assistant","content":null,"refusal":null,"tool_calls":null}`):              0,
		delta(`{"content":"x"}`):                                                                   content,
		delta(`{"content":[{"type":"text","text":"x"}]}`):                                          content,
		delta(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"x"}]}]}`):         content,
		delta(`{"reasoning_content":"x","content":null}`):                                          content,
		delta(`{"reasoning":"x"}`):                                                                 content,
		delta(`{"reasoning_details":[{"type":"reasoning.text","text":"x"}]}`):                      content,
		delta(`{"refusal":"x"}`):                                                                   content,
		delta(`{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}`):      content,
		delta(`{"tool_calls":[]}`):                                                                 0,
		delta(`{"images":[{"type":"image_url"}]}`):                                                 content,
		`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`:                              content,
		`{"choices":[{"index":0,"text":"x"}]}`:                                                     content,
		`{"choices":[],"prompt_filter_results":[]}`:                                                0,
		`{"choices":[],"usage":{"prompt_tokens":1}}`:                                               usage,
		`{"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}`:                      content | usage,
		`{"object":"list","data":[{"embedding":[1]}],"usage":{"prompt_tokens":1}}`:                 content | usage,
		`{"error":{"message":"m"}}`:                                                                failed,
		`{"error":"m"}`:                                                                            failed,
		`{"error":null,"choices":[]}`:                                                              0,
		`{"error":{},"choices":[]}`:                                                                0,
		`{"object":"error","message":"m","code":400}`:                                              failed,
		`{"code":20012,"message":"Model does not exist.","data":null}`:                             0,
		`{"code":20012,"message":"Model does not exist."}`:                                         failed,
		`{"code":"Throttling","message":"m","request_id":"r"}`:                                     failed,
		`{"code":0,"message":"Success","sid":"s","choices":[{"delta":{"content":"x"},"index":0}]}`: content, // Spark
		`{"choices":[],"base_resp":{"status_code":0}}`:                                             0,
		`{"choices":null,"base_resp":{"status_code":1008,"status_msg":"m"}}`:                       failed,
	} {
		if got := at(t, "openai-compatible").Read([]byte(data), new(jimu.Meter)); got != want {
			t.Errorf("%s: signals %04b, want %04b", data, got, want)
		}
	}
}

func TestDelivered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		delta string
		want  int64
	}{
		{`{"content":""}`, 0},
		{`{"content":"a"}`, 1},
		{`{"content":"` + strings.Repeat("word ", 80) + `"}`, 100},
		{`{"content":"` + strings.Repeat("积木", 150) + `"}`, 200},
		{`{"content":"` + strings.Repeat(`\u79ef\u6728`, 150) + `"}`, 200},
		{`{"content":"` + strings.Repeat(`\n`, 40) + `"}`, 10},
		{`{"content":"` + strings.Repeat("слово", 20) + `"}`, 50},
		{`{"content":"🧱🧱"}`, 2},
		{`{"reasoning_content":"aaaaaaaa","reasoning":"aaaaaaaa","content":"bbbb"}`, 3},
		{`{"tool_calls":[{"id":"call_ignored","type":"function","function":{"name":"find","arguments":"{\"a\":1}"}}]}`, 3},
		{`{"role":"assistant","id":"not counted at all"}`, 0},
	} {
		m := new(jimu.Meter)
		at(t, "openai-compatible").Read([]byte(`{"choices":[{"delta":`+c.delta+`}]}`), m)
		if m.Delivered != c.want {
			t.Errorf("%.60s: %d tokens, want %d", c.delta, m.Delivered, c.want)
		}
	}
	m := new(jimu.Meter)
	o := at(t, "openai-compatible")
	for range 3 {
		o.Read([]byte(`{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}`), m)
	}
	if m.Delivered != 3 {
		t.Errorf("three events count %d", m.Delivered)
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	o, m := at(t, "openai"), new(jimu.Meter)
	data := []byte(typicalEvent)
	if n := testing.AllocsPerRun(100, func() { o.Read(data, m) }); n > 0 {
		t.Errorf("%v allocations for an event without usage", n)
	}
}

// FuzzRead holds Read to: it ends, it counts nothing below zero, an answer
// without an error says so, and what it calls insane or not is decided by the
// usage alone.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		typicalEvent, "[DONE]", `{"error":{"message":"m"}}`, `{"choices":[{"delta":{"content":"\ud83e\uddf1"},"usage":{"prompt_tokens":1}}]}`,
		`{"usage":{"prompt_tokens":1e9,"completion_tokens":-1,"cost":1e-9}}`, `{"a":"\\","usage":{}}`, `{"choices":[[[[{"x":"`,
	} {
		f.Add([]byte(s))
	}
	o := at(f, "openai")
	f.Fuzz(func(t *testing.T, data []byte) {
		var m jimu.Meter
		sig := o.Read(data, &m)
		if m.Delivered < 0 || m.Delivered > int64(len(data)) {
			t.Errorf("%d bytes count as %d tokens", len(data), m.Delivered)
		}
		if m.Stated != (sig&jimu.SignalUsage != 0) || m.Usage.UpstreamCost < 0 {
			t.Errorf("signals %b with %+v", sig, m)
		}
		var top map[string]json.RawMessage
		if json.Unmarshal(data, &top) == nil && len(top) == 0 && sig != 0 {
			t.Errorf("signals %b from an empty object", sig)
		}
	})
}

// FuzzScan compares the scanner with encoding/json.
func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[1,{"c":"\\\""}],"d":{"e":null}}`))
	f.Add([]byte(` [ "x" , {} , 1.5e3 ] `))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, n := walk(data), 0
		for w.next() {
			n++
			if len(w.val) == 0 {
				t.Fatal("an empty value")
			}
			empty(w.val)
		}
		if json.Valid(data) {
			again, i := 0, space(data, 0)
			switch skip := func(i int) int { again++; return value(data, i) }; data[i] {
			case '{':
				i = members(data, i, func(_ []byte, i int) int { return skip(i) })
			case '[':
				i = elements(data, i, skip)
			default:
				i = len(data)
			}
			if again != n || i < 0 || space(data, i) != len(data) {
				t.Errorf("%d members in one pass, want %d; it ends at %d of %d", again, n, i, len(data))
			}
		}
		var object map[string]json.RawMessage
		var array []json.RawMessage
		switch {
		case json.Unmarshal(data, &array) == nil && n != len(array):
			t.Errorf("%d elements, want %d", n, len(array))
		case json.Unmarshal(data, &object) == nil && n < len(object): // repeated names count again
			t.Errorf("%d members, want %d", n, len(object))
		}
	})
}

func FuzzClassify(f *testing.F) {
	f.Add(429, "20", "1s", []byte(`{"error":{"message":"m","code":"rate_limit_exceeded"}}`))
	f.Add(200, "Mon, 23 Nov 2026 12:00:30 GMT", "1795435212000", []byte(`{"error":{"code":502,"message":"https://x sk-a"}}`))
	f.Add(500, "-1", "", []byte(`[{"error":{"details":[{"retryDelay":"9999h"}]}}]`))
	o := at(f, "zhipu")
	f.Fuzz(func(t *testing.T, status int, after, reset string, body []byte) {
		h := make(http.Header)
		h.Set("Retry-After", after)
		h.Set("X-Ratelimit-Reset", reset)
		got := o.Classify(status, h, body)
		if got.Kind == jimu.FaultNone || got.For < 0 || got.For > 24*time.Hour {
			t.Errorf("%+v", got)
		}
		for _, s := range []string{got.Text, got.Code} {
			if len(s) > longestText || !utf8.ValidString(s) || strings.Contains(s, "://") || strings.ContainsAny(s, "\n\r\x00") {
				t.Errorf("text %q", s)
			}
		}
	})
}

const typicalEvent = `{"id":"chatcmpl-AbCdEfGh0123456789","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5.6-luna","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}],"usage":null}`

func BenchmarkRead(b *testing.B) {
	o, m := at(b, "openai"), new(jimu.Meter)
	for name, s := range map[string]string{
		"content": typicalEvent,
		"usage":   `{"id":"x","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":30}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(s)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				o.Read(data, m)
			}
		})
	}
}
