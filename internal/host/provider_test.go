package host_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/host"
)

type Account = jimu.Upstream

// speaker is a provider brick.
type speaker struct {
	Account
	id      string
	vendors []string
}

func (p *speaker) BrickInfo() jimu.BrickInfo {
	return jimu.BrickInfo{ID: p.id, New: func() jimu.Brick {
		return &speaker{id: p.id, vendors: p.vendors, Account: Account{Weight: 1}}
	}}
}

func (p *speaker) Vendors() []jimu.Vendor {
	var out []jimu.Vendor
	for _, v := range p.vendors {
		out = append(out, jimu.Vendor{ID: v, Name: strings.ToUpper(v), BaseURL: "https://" + v + ".example/v1", Keyless: v == "demo"})
	}
	return out
}

func (p *speaker) Upstream() *jimu.Upstream { return &p.Account }

func (p *speaker) Endpoint(jimu.Operation, jimu.Secret) (jimu.Endpoint, bool) {
	return jimu.Endpoint{}, false
}
func (p *speaker) Rewrite(dst []byte, _ *jimu.Call, _ string) ([]byte, error) { return dst, nil }
func (p *speaker) Read([]byte, *jimu.Meter) jimu.Signal                       { return 0 }
func (p *speaker) Classify(int, http.Header, []byte) jimu.Fault               { return jimu.Fault{} }

func speakers() *jimu.Registry {
	reg := new(jimu.Registry)
	reg.Register(&speaker{id: "alpha", vendors: []string{"deepseek", "demo"}})
	reg.Register(&speaker{id: "beta", vendors: []string{"anthropic"}})
	reg.Register(&block{id: "pay", log: &journal{}})
	return reg
}

func TestUpstreams(t *testing.T) {
	t.Parallel()
	h := host.New(host.Options{
		Registry: speakers(), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Env: func(string) (string, bool) { return "sk", true },
	})
	defer shut(t, h)
	up := func(name, raw string) host.Entry { return host.Entry{Name: name, Raw: json.RawMessage(raw)} }
	err := h.Load(t.Context(), []host.Entry{
		up("main", `{"name":"main","vendor":"deepseek","key":"env:K","models":["a"]}`),
		up("two", `{"vendor":"anthropic"}`), up("demo", `{"vendor":"demo"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	s, release := h.Acquire()
	defer release()
	var got []string
	for _, p := range host.All[jimu.Provider](s) {
		u := p.Upstream()
		got = append(got, p.BrickInfo().ID+" "+u.Name+"/"+u.Vendor+" "+u.Key.Reveal())
	}
	if want := "alpha main/deepseek sk,beta two/anthropic ,alpha demo/demo "; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, c := range []struct {
		e    host.Entry
		want string
	}{
		{up("x", `{"vendor":"depseek"}`), `upstream x: unknown vendor "depseek"; did you mean "deepseek"?`},
		{up("x", `{}`), `upstream x: vendor is missing; known are anthropic, deepseek, demo`},
		{up("x", `{"vendor":3}`), `vendor must be a text`},
		{up("x", `{"vendor":"demo","modells":[]}`), `upstream x: unknown key "modells"; did you mean "models"?`},
		{host.Entry{Brick: "alpha", Raw: json.RawMessage(`{}`)}, `write its instances in the list upstreams`},
		{host.Entry{Brick: "pya", Raw: json.RawMessage(`{}`)}, `not in this build, which has [alpha beta pay]; did you mean "pay"?`},
	} {
		if err := h.Load(t.Context(), []host.Entry{c.e}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if err := h.Load(t.Context(), []host.Entry{up("x", `{"vendor":"demo"}`), up("x", `{"vendor":"anthropic"}`)}); err == nil {
		t.Error("two upstreams of one name are taken")
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	mask := host.Mask(speakers())
	for _, c := range []struct{ brick, raw, want string }{
		{"", `{"vendor":"demo","key":"sk-1","keys":["env:K","sk-2","file:x"]}`, `{"key":"***","keys":["env:K","***","file:x"],"vendor":"demo"}`},
		{"", `{"vendor":"nobody","key":"sk-1"}`, `"***"`},
		{"pay", `{"key":"a","deep":{"token":"b","url":"u"},"list":[{"token":"c"}],"by_name":{"q":"d"},"name":"n","typo":"e"}`, `{"by_name":{"q":"***"},"deep":{"token":"***","url":"u"},"key":"***","list":[{"token":"***"}],"name":"n","typo":"***"}`},
		{"pay", `{"deep":"s3cret"}`, `{"deep":"***"}`},
		{"pay", `"s3cret"`, `"***"`},
		{"gone", `{"key":"a"}`, `"***"`},
	} {
		if got := string(mask(c.brick, json.RawMessage(c.raw))); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.raw, got, c.want)
		}
	}
}

// The schema and the page are made of tags, defaults and comments.
func TestSchemaAndDocs(t *testing.T) {
	t.Parallel()
	reg := speakers()
	up, err := host.UpstreamSchema(reg)
	if err != nil {
		t.Fatal(err)
	}
	pay, err := host.Schema(reg, "pay")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := host.Docs(reg, "alpha")
	if err != nil {
		t.Fatal(err)
	}
	payDoc, err := host.Docs(reg, "pay")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"upstream", string(up), `"enum":["deepseek","demo"]`},
		{"upstream", string(up), `"default":1,"description":"weight shares requests among upstreams`},
		{"upstream", string(up), `"required":["vendor"]`},
		{"pay", string(pay), `"additionalProperties":false`},
		{"pay", string(pay), `"timeout":{"default":"1m30s"`},
		{"pay", string(pay), `"token":{"type":"string","writeOnly":true}`},
		{"doc", doc.Markdown(), "| `key` | text (secret) |  | key is the API key at the vendor. |"},
		{"doc", doc.Markdown(), "| `deepseek` | DEEPSEEK | https://deepseek.example/v1 |  |"},
		{"doc", doc.String(), "vendors: deepseek, demo"},
		{"doc", payDoc.Markdown(), "| `list[].token` | text (secret) |"},
		{"doc", payDoc.String(), "level              whole number, default 3"},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s lacks %s:\n%s", c.name, c.want, c.got)
		}
	}
	if _, err := host.Schema(reg, "gone"); err == nil {
		t.Error("an unknown brick has a schema")
	}
}
