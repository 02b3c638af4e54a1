package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	body := ` {"x":[1,{"model":"inner"}], "model" : "a\u0062c","stream":true,"n":2,"max_tokens":7,"max_completion_tokens":9,"stream_options":{"x":1,"include_usage":true}} `
	var c jimu.Call
	if _, err := open(&c, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if c.Model != "abc" || !c.Stream || !c.IncludeUsage || c.N != 2 || c.MaxTokens != 9 || c.InputBound != int64(len(body)) {
		t.Errorf("%+v", c)
	}
	got := map[string]string{}
	for _, f := range c.Fields {
		got[f.Name] = body[f.From:f.End] + " = " + body[f.Start:f.End]
	}
	want := map[string]string{
		"model": `"model" : "a\u0062c" = "a\u0062c"`, "stream": `"stream":true = true`, "n": `"n":2 = 2`, "max_tokens": `"max_tokens":7 = 7`,
		"max_completion_tokens": `"max_completion_tokens":9 = 9`,
		"stream_options":        `"stream_options":{"x":1,"include_usage":true} = {"x":1,"include_usage":true}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOpenNull(t *testing.T) {
	t.Parallel()
	var c jimu.Call
	if _, err := open(&c, []byte(`{"model":"m","stream":null,"n":null,"max_tokens":null,"stream_options":null,"service_tier":null}`)); err != nil {
		t.Fatal(err)
	}
	if c.Stream || c.N != 1 || c.MaxTokens != 0 || len(c.Fields) != 6 {
		t.Errorf("%+v", c)
	}
	c = jimu.Call{}
	if _, err := open(&c, []byte(`{"model":"m","stream_options":{"include_usage":null}}`)); err != nil || c.IncludeUsage {
		t.Errorf("%v %+v", err, c)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	for _, tt := range []struct{ body, param, text string }{
		{``, "", "JSON object"},
		{`[]`, "", "JSON object"},
		{`"model"`, "", "JSON object"},
		{`{}`, "model", "names no model"},
		{`{"model":null}`, "model", "names no model"},
		{`{"model":""}`, "model", "1 to 256"},
		{`{"model":"` + strings.Repeat("m", 257) + `"}`, "model", "1 to 256"},
		{`{"model":"a\nb"}`, "model", "1 to 256"},
		{`{"model":7}`, "model", "must be a string"},
		{`{"model":"m"`, "", "valid JSON"},
		{`{"model":"m"}{}`, "", "valid JSON"},
		{`{"model":"m",}`, "", "valid JSON"},
		{`{"model":"m","x":01}`, "", "valid JSON"},
		{`{"model":"m","x":1.}`, "", "valid JSON"},
		{`{"model":"m","x":tru}`, "", "valid JSON"},
		{`{"model":"m","x":"\x"}`, "", "valid JSON"},
		{"{\"model\":\"m\",\"x\":\"\n\"}", "", "valid JSON"},
		{"{\"model\":\"m\",\"x\":\"\xff\"}", "", "UTF-8"},
		{`{"model":"m","model":"n"}`, "model", "more than one"},
		{`{"model":"cheap","MODEL":"dear"}`, "model", "unusual"},
		{`{"MODEL":"dear"}`, "model", "unusual"},
		{`{"model":"m","mod\u0065l":"n"}`, "model", "unusual"},
		{`{"\u006dodel":"n"}`, "model", "unusual"},
		{`{"model":"m","ſtream":true}`, "stream", "unusual"},
		{`{"model":"m","Max_Tokens":1}`, "max_tokens", "unusual"},
		{`{"model":"m","MAX_TOKEN\u017f":1}`, "max_tokens", "unusual"},
		{`{"model":"m","stream":"true"}`, "stream", "true or false"},
		{`{"model":"m","stream":1}`, "stream", "true or false"},
		{`{"model":"m","n":0}`, "n", "from 1 to 128"},
		{`{"model":"m","n":129}`, "n", "from 1 to 128"},
		{`{"model":"m","n":18446744073686646784}`, "n", "from 1 to 128"},
		{`{"model":"m","n":1.0}`, "n", "from 1 to 128"},
		{`{"model":"m","n":"2"}`, "n", "whole number"},
		{`{"model":"m","max_tokens":0}`, "max_tokens", "from 1"},
		{`{"model":"m","max_tokens":-1}`, "max_tokens", "from 1"},
		{`{"model":"m","max_tokens":1e3}`, "max_tokens", "from 1"},
		{`{"model":"m","max_completion_tokens":1000000001}`, "max_completion_tokens", "from 1"},
		{`{"model":"m","stream_options":[]}`, "stream_options", "object"},
		{`{"model":"m","stream_options":{"include_usage":1}}`, "stream_options.include_usage", "true or false"},
		{`{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}`, "stream_options.include_usage", "more than one"},
		{`{"model":"m","stream_options":{"Include_Usage":true}}`, "include_usage", "unusual"},
		{`{"model":"m","service_tier":1}`, "service_tier", "string"},
		{`{"model":"m","x":` + deep + `}`, "", "nested deeper"},
	} {
		var c jimu.Call
		_, err := open(&c, []byte(tt.body))
		if e := jimu.ErrorOf(err); err == nil || e.Param != tt.param || !strings.Contains(e.Text, tt.text) {
			t.Errorf("%.80s: %v (%s), want %s (%s)", tt.body, err, e.Param, tt.text, tt.param)
		}
	}
	var c jimu.Call
	if _, err := open(&c, []byte(`{"model":"m","x":`+deep[1:len(deep)-1]+`}`)); err != nil {
		t.Error(err)
	}
}

// A file counts as a file, not as text.
func TestInputBound(t *testing.T) {
	t.Parallel()
	var c jimu.Call
	image := "data:image/png;base64," + strings.Repeat("A", 1<<20)
	estimate, err := open(&c, []byte(`{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"`+image+`"}}]}]}`))
	if err != nil || c.InputBound > 100_000 || c.InputBound < mediaTokens || estimate > 2*mediaTokens {
		t.Errorf("bound %d, estimate %d, %v", c.InputBound, estimate, err)
	}
	c = jimu.Call{}
	if _, err = open(&c, []byte(`{"model":"m","input":"`+image+`"}`)); err != nil || c.InputBound < 1<<20 {
		t.Errorf("bound %d, %v", c.InputBound, err)
	}
}

// FuzzOpen compares with encoding/json: what is taken here is valid there, and
// says the same.
func FuzzOpen(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","stream":true,"n":2,"max_tokens":7,"stream_options":{"include_usage":true}}`,
		`{"mod\u0065l":"m"}`, `{"MODEL":"m"}`, `{"model":"m","x":[1,-2.5e+3,{"a":null}],"y":"\ud83d\ude00"}`, `{"model":"m"}x`, ` { } `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c jimu.Call
		_, err := open(&c, b)
		valid := json.Valid(b) && utf8.Valid(b) && len(bytes.TrimSpace(b)) > 0 && bytes.TrimSpace(b)[0] == '{'
		if err != nil {
			if e := jimu.ErrorOf(err); valid && strings.Contains(e.Text, "valid JSON") {
				t.Fatalf("%q is refused: %v", b, err)
			}
			return
		}
		if !valid {
			t.Fatalf("%q is taken", b)
		}
		var v struct {
			Model         string `json:"model"`
			Stream        bool   `json:"stream"`
			N             *int64 `json:"n"`
			StreamOptions struct {
				IncludeUsage bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		n := int64(1)
		if v.N != nil {
			n = *v.N
		}
		got := fmt.Sprint(c.Model, c.Stream, c.N, c.IncludeUsage)
		if want := fmt.Sprint(v.Model, v.Stream, n, v.StreamOptions.IncludeUsage); got != want {
			t.Fatalf("%q: %s, encoding/json reads %s", b, got, want)
		}
		for _, f := range c.Fields {
			if !json.Valid([]byte(`{"v":` + string(b[f.Start:f.End]) + "," + string(b[f.From:f.End]) + "}")) {
				t.Fatalf("%q: field %+v", b, f)
			}
		}
	})
}

// FuzzSplit checks that events do not depend on where reads split a stream.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("data: a\n\n: c\r\n\r\nevent: x\rdata: b\r\rdata"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		events := func(step int) (datas []string, n int) {
			var s splitter
			var carry []byte
			for rest := b; len(rest) > 0; {
				k := min(step, len(rest))
				carry = append(carry, rest[:k]...)
				rest = rest[k:]
				for {
					i := s.next(carry)
					if i == 0 {
						break
					}
					n += i
					var scratch []byte
					if d, ok := data(carry[:i], &scratch); ok {
						datas = append(datas, string(d))
					}
					carry = carry[i:]
				}
			}
			return datas, n + len(carry)
		}
		whole, n := events(len(b) + 1)
		pieces, m := events(int(size) + 1)
		if n != len(b) || m != len(b) {
			t.Fatalf("%q: bytes were lost: %d and %d", b, n, m)
		}
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Fatalf("%q in pieces of %d: %s", b, int(size)+1, diff)
		}
	})
}

func TestScrub(t *testing.T) {
	t.Parallel()
	tg := &jimu.Target{Upstream: &jimu.Upstream{Key: jimu.NewSecret("abcd-secret")}}
	for in, want := range map[string]string{
		"Incorrect API key provided: sk-abc123456. See https://x.y/z?k=1": "Incorrect API key provided: *** See [address]",
		"key abcd-secret is bad\r\nX: y":                                  "key *** is bad X: y",
		"maximum context length is 4096 tokens":                           "maximum context length is 4096 tokens",
		"organization org-abcdefgh1 is over":                              "organization *** is over",
		strings.Repeat("a ", 1000):                                        strings.TrimSpace(strings.Repeat("a ", 250)) + " …",
	} {
		if got := scrub(in, tg); got != want {
			t.Errorf("%.60q: %q, want %q", in, got, want)
		}
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var b budget
	at := jimu.User{}.Created.AddDate(2026, 0, 0)
	n := 0
	for b.retry(at) {
		n++
	}
	if n != 10 {
		t.Errorf("%d retries without requests", n)
	}
	for range 100 {
		b.request()
	}
	for n = 0; b.retry(at); n++ {
	}
	if n != 10 {
		t.Errorf("%d retries for 100 requests", n)
	}
}

func BenchmarkOpen(b *testing.B) {
	body := []byte(`{"model":"gpt-5.6-mini","stream":true,"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"` +
		strings.Repeat("Tell me about the weather in Shanghai. ", 8) + `"}],"temperature":0.7,"max_tokens":256}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var c jimu.Call
		if _, err := open(&c, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplit(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}` + "\n\n")
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	var s splitter
	var scratch []byte
	for b.Loop() {
		n := s.next(event)
		if _, ok := data(event[:n], &scratch); !ok {
			b.Fatal("no data")
		}
	}
}
