package openai

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jimu-ai/jimu"
)

// owned are the members that the relay tells the provider about.
var owned = []string{"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"}

// callOf reads a body as the relay does, as far as Rewrite needs it.
func callOf(body []byte) (*jimu.Call, bool) {
	var top map[string]json.RawMessage
	if !json.Valid(body) || json.Unmarshal(body, &top) != nil || top == nil {
		return nil, false
	}
	c := &jimu.Call{Op: jimu.OpChat, Body: body}
	seen := make(map[string]bool)
	open := bytes.IndexByte(body, '{')
	for w := walk(body[open:]); w.next(); {
		name := string(w.key)
		if strings.Contains(name, `\`) || seen[strings.ToLower(name)] {
			return nil, false // refused by the relay
		}
		seen[strings.ToLower(name)] = true
		for _, o := range owned {
			if name != o {
				continue
			}
			start := cap(body) - cap(w.val)
			from := cap(body) - cap(w.key) - 1
			c.Fields = append(c.Fields, jimu.Field{Name: name, From: from, Start: start, End: start + len(w.val)})
		}
	}
	return c, true
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		vendor string
		body   string
		stream bool
		max    int64 // 0: not set by the gateway
		op     jimu.Operation
		want   string
	}{
		"nothing but the model": {
			body: `{ "model" : "m", "messages":[{"role":"user","content":"a\u0062 {\"model\":1}"}],"x":1.0e5 }`,
			want: `{ "model" : "real", "messages":[{"role":"user","content":"a\u0062 {\"model\":1}"}],"x":1.0e5 }`,
		},
		"a stream": {
			body: `{"model":"m","stream":true}`, stream: true,
			want: `{"stream_options":{"include_usage":true},"model":"real","stream":true}`,
		},
		"a stream of a vendor that takes no options": {
			vendor: "mistral", body: `{"model":"m","stream":true}`, stream: true,
			want: `{"model":"real","stream":true}`,
		},
		"options that the vendor refuses, in the middle": {
			vendor: "mistral", body: `{"model":"m","stream_options":{"include_usage":true} , "stream":true}`, stream: true,
			want: `{"model":"real", "stream":true}`,
		},
		"options that the vendor refuses, at the end": {
			vendor: "mistral", body: `{"model":"m","stream":true , "stream_options":{} }`, stream: true,
			want: `{"model":"real","stream":true  }`,
		},
		"options of the client are kept": {
			body:   `{"model":"m","stream":true,"stream_options":{"include_obfuscation": false,"include_usage":false,"include\u005fusage":0}}`,
			stream: true,
			want:   `{"model":"real","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}`,
		},
		"options that are null": {
			body: `{"model":"m","stream":true,"stream_options":null}`, stream: true,
			want: `{"model":"real","stream":true,"stream_options":{"include_usage":true}}`,
		},
		"options without a stream": {
			body: `{"model":"m","stream_options":null}`,
			want: `{"model":"real","stream_options":null}`,
		},
		"max tokens of the gateway": {
			body: `{"model":"m"}`, max: 7,
			want: `{"max_tokens":7,"model":"real"}`,
		},
		"max tokens under OpenAI's name": {
			vendor: "openai", body: `{"model":"m"}`, max: 7,
			want: `{"max_completion_tokens":7,"model":"real"}`,
		},
		"max tokens in place": {
			body: `{"max_completion_tokens": 99 ,"model":"m"}`, max: 7,
			want: `{"max_completion_tokens": 7 ,"model":"real"}`,
		},
		"both, in place": {
			body: `{"max_tokens":5,"max_completion_tokens":99,"model":"m"}`, max: 7,
			want: `{"max_tokens":7,"max_completion_tokens":7,"model":"real"}`,
		},
		"renamed": {
			vendor: "deepseek", body: `{"max_completion_tokens": 99,"model":"m"}`,
			want: `{"max_tokens":99,"model":"real"}`,
		},
		"renamed, of the gateway": {
			vendor: "openai", body: `{"model":"m","max_tokens":null}`, max: 7,
			want: `{"model":"real","max_completion_tokens":7}`,
		},
		"both, where one does not count": {
			vendor: "deepseek", body: `{"max_completion_tokens":99,"max_tokens":5,"model":"m"}`, max: 4,
			want: `{"max_tokens":4,"model":"real"}`,
		},
		"no model": {
			body: `{}`, stream: true, max: 1,
			want: `{"model":"real","stream_options":{"include_usage":true},"max_tokens":1}`,
		},
		"embeddings": {
			op: jimu.OpEmbeddings, body: `{"input":"x","model":"m"}`, stream: true,
			want: `{"input":"x","model":"real"}`,
		},
	} {
		vendor := c.vendor
		if vendor == "" {
			vendor = "openai-compatible"
		}
		call, ok := callOf([]byte(c.body))
		if !ok {
			t.Fatalf("%s: the body is no JSON object", name)
		}
		call.Stream, call.MaxTokens, call.SetMaxTokens = c.stream, c.max, c.max > 0
		if c.op != "" {
			call.Op = c.op
		}
		got, err := at(t, vendor).Rewrite([]byte("kept"), call, "real")
		if err != nil || string(got) != "kept"+c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, c.want)
		}
	}
	call, _ := callOf([]byte(`{"model":"m"}`))
	if got, err := at(t, "vllm").Rewrite(nil, call, "积木\"\\\n"); err != nil || string(got) != `{"model":"积木\"\\\n"}` {
		t.Errorf("a model's name that needs quoting: %s, %v", got, err)
	}
	for _, bad := range []*jimu.Call{
		{Body: []byte("[]")}, {}, {Body: []byte("{}"), Fields: []jimu.Field{{Name: "model", From: 1, Start: 2, End: 9}}},
	} {
		if got, err := at(t, "vllm").Rewrite(nil, bad, "m"); err == nil {
			t.Errorf("%q becomes %q", bad.Body, got)
		}
	}
}

// Whatever the client sends, what goes upstream is JSON, differs in nothing
// but the owned members, and these are the gateway's.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte(`{"model":"m","stream":true,"stream_options":{"include_usage":false},"max_tokens":5}`), uint8(7), int64(3))
	f.Add([]byte(` {"a":[{"model":1}] , "max_completion_tokens" : null }`), uint8(2), int64(9))
	f.Add([]byte(`{"stream_options":{"a":1},"max_tokens":1,"max_completion_tokens":2,"model":""}`), uint8(3), int64(1))
	f.Add([]byte(`{}`), uint8(3), int64(1))
	var ups []*OpenAI
	for _, v := range []string{"openai", "deepseek", "mistral", "openai-compatible"} {
		ups = append(ups, at(f, v))
	}
	f.Fuzz(func(t *testing.T, body []byte, flags uint8, most int64) {
		c, ok := callOf(bytes.Clone(body))
		if !ok {
			return
		}
		c.Stream, c.SetMaxTokens, c.MaxTokens = flags&1 != 0, flags&2 != 0, most
		for _, o := range ups {
			out, err := o.Rewrite(nil, c, "real")
			if err != nil {
				t.Fatal(err)
			}
			checkRewrite(t, o, c, out)
		}
	})
}

func checkRewrite(t *testing.T, o *OpenAI, c *jimu.Call, out []byte) {
	t.Helper()
	var was, is map[string]json.RawMessage
	if err := json.Unmarshal(c.Body, &was); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &is); err != nil {
		t.Fatalf("%s: %q becomes %q: %v", o.Vendor, c.Body, out, err)
	}
	checkOwned(t, o, c, is)
	for _, m := range []map[string]json.RawMessage{was, is} {
		maps.DeleteFunc(m, func(k string, _ json.RawMessage) bool {
			return k == "model" || k == streamOptions || k == maxTokens || k == maxCompletionTokens
		})
	}
	if d := cmp.Diff(was, is); d != "" {
		t.Errorf("%s: other members changed (-was +is):\n%s", o.Vendor, d)
	}
}

// checkOwned holds the owned members to the gateway's own values.
func checkOwned(t *testing.T, o *OpenAI, c *jimu.Call, is map[string]json.RawMessage) {
	t.Helper()
	if string(is["model"]) != `"real"` {
		t.Errorf("%s: model %s", o.Vendor, is["model"])
	}
	if c.SetMaxTokens {
		var n int64
		if err := json.Unmarshal(is[o.vendor.MaxTokens], &n); (err != nil || n != c.MaxTokens) && o.vendor.Rename {
			t.Errorf("%s: %s is %s, want %d", o.Vendor, o.vendor.MaxTokens, is[o.vendor.MaxTokens], c.MaxTokens)
		}
	}
	if c.Stream && !o.vendor.NoStreamOptions {
		var opts map[string]any
		if err := json.Unmarshal(is[streamOptions], &opts); err != nil || opts["include_usage"] != true {
			t.Errorf("%s: stream_options %s", o.Vendor, is[streamOptions])
		}
	}
}

func BenchmarkRewrite(b *testing.B) {
	body := []byte(`{"model":"deepseek-flash","messages":[{"role":"user","content":"` + strings.Repeat("x", 2000) + `"}],"stream":true}`)
	c, _ := callOf(body)
	c.Stream, c.SetMaxTokens, c.MaxTokens = true, true, 4096
	o, buf := at(b, "deepseek"), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Rewrite(buf, c, "deepseek-flash"); err != nil {
			b.Fatal(err)
		}
	}
}
