package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "jimu.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// The file of the contract is read as it is written there.
const contract = `listen: "127.0.0.1:8080"        # public address; ":8080" to open it to the network
admin_listen: "127.0.0.1:8081"  # metrics, pprof; never public
url: https://ai.example.com     # how people reach it; callbacks are built from it
data: ./data
master_key: file:./jimu.key     # made at first start, 0600; seals secrets; never inside data or a backup
database: ""                    # empty = SQLite in data; or mysql://…  postgres://…
redis: ""                       # empty = in process; or redis://…
currency: CNY
trusted_proxies: [127.0.0.1/32]
upstreams:
  - {name: main, vendor: deepseek, key: env:DEEPSEEK_API_KEY}
bricks:
  alipay: {app_id: "2021000000000000", private_key: file:/run/secrets/alipay.pem, public_key: file:/run/secrets/alipay.pub}
  wechat:                       # several instances have names
    - {name: main, app_id: wx0000000000000000, app_secret: env:WX_SECRET, token: env:WX_TOKEN, encoding_aes_key: env:WX_AES}
`

func TestContract(t *testing.T) {
	t.Parallel()
	path := write(t, contract)
	c, err := config.Load(path, env())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	key, ok := c.MasterKeyFile()
	got := []string{
		c.Listen, c.AdminListen, c.URL, c.PublicURL(), c.Data, key, c.Database, c.Redis, c.Currency, c.TrustedProxies[0].String(),
		c.Upstreams[0].Name, string(c.Upstreams[0].Raw), c.Bricks[0].Brick, c.Bricks[0].Name, c.Bricks[1].Brick, c.Bricks[1].Name,
		strings.TrimPrefix(c.Bricks[1].Where("token"), dir+"/"), c.Origin("currency")[len(dir)+1:], c.Origin("drain"),
	}
	want := []string{
		"127.0.0.1:8080", "127.0.0.1:8081", "https://ai.example.com", "https://ai.example.com", filepath.Join(dir, "data"),
		filepath.Join(dir, "jimu.key"), "", "", "CNY", "127.0.0.1/32",
		"main", `{"name":"main","vendor":"deepseek","key":"env:DEEPSEEK_API_KEY"}`, "alipay", "main", "wechat", "main",
		"jimu.yaml:15", "jimu.yaml:8", "default",
	}
	if d := cmp.Diff(want, got); d != "" || !ok {
		t.Error(d)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "---\n", "{}", "listen:\nbricks:\n"} {
		c, err := config.Load(write(t, text), env())
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if c.Listen != "127.0.0.1:8080" || filepath.Base(c.Data) != "data" || c.Drain != 300*time.Second || c.WelcomeCredit != 10*jimu.OneCredit ||
			c.Unpriced != "refuse" || c.Disconnect != "cancel" || c.Ollama != "auto" || c.AllowFakeIP || len(c.TrustedProxies) > 0 ||
			c.PublicURL() != "http://localhost:8080" || c.Limits.Body != 32<<20 {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

func TestEverything(t *testing.T) {
	t.Parallel()
	c, err := config.Load(write(t, `
listen: ":80"
admin_listen: ""
data: /srv/jimu
master_key: env:MK
database: env:DB
redis: rediss://:p@h:1/0
trusted_proxies: [10.0.0.0/8, "::1"]
unpriced: free
prices: {gpt-x: {input: 1.000000001, output: "2", cached: 0.5, context: 128000, max_output: 4096, abilities: [vision], request: 0.01}}
exchange: {USD: "7.10", EUR: 8}
limits: {user: {rpm: 60, tpm: 100000, concurrent: 4}, key: {rpm: 30}, body: 8MiB}
disconnect: drain
drain: 1m
welcome_credit: "0.5"
allow_fake_ip: true
ollama: off
`), env("MK", "k3y", "DB", "postgres://u:pw@db/jimu"))
	if err != nil {
		t.Fatal(err)
	}
	p := c.Prices["gpt-x"]
	got := []any{
		p.In, p.Out, *p.InCached, p.Context, p.MaxOutput, p.Abilities, p.Request, p.Version() != "",
		c.MasterKey.Reveal(), c.Database, c.Exchange, c.AdminListen, c.TrustedProxies[1].String(), c.Limits.User, c.Limits.Key.RPM,
		c.Limits.Body, c.Ollama, c.Drain, c.WelcomeCredit, c.AllowFakeIP, c.Disconnect, c.Unpriced,
	}
	want := []any{
		jimu.Credit(1_000_000_001), 2 * jimu.OneCredit, jimu.OneCredit / 2, int64(128000), int64(4096),
		[]string{"vision"},
		jimu.OneCredit / 100, true,
		"k3y", "postgres://u:pw@db/jimu",
		map[string]jimu.Credit{"USD": 7_100_000_000, "EUR": 8 * jimu.OneCredit},
		"", "::1/128",
		jimu.Limits{RPM: 60, TPM: 100000, Concurrent: 4},
		int64(30),
		int64(8 << 20), "off", time.Minute, jimu.OneCredit / 2, true, "drain", "free",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"listn: x", `:1: unknown key "listn"; did you mean "listen"?`},
		{"a: 1\nzzzzzzzzzz: 2", `:2: unknown key "zzzzzzzzzz"; known are listen, `},
		{"listen: ':1'\ndata: x\nlisten: ':2'", `:3: key "listen" is written twice; it is on line 1 too`},
		{"listen: 8080", `:1: listen: "8080" is not an address to listen on; write one such as "127.0.0.1:8080"`},
		{"listen: ':99999'", `is not an address`},
		{"listen: [a]", `listen must be a text, not a list`},
		{"url: ai.example.com", `url: "ai.example.com" is not the address of a site`},
		{"url: https://x/path", `without a path`},
		{"url: https://u:p@x", `is not the address`},
		{"data: ''", `data must name a folder`},
		{"data: .", `the master key`},
		{"master_key: file:data/k\ndata: data", `:1: the master key`},
		{"master_key: 'file:'", `followed by a path`},
		{"master_key: env:NONE", `:1: master_key: the environment variable NONE is not set`},
		{"database: sqlite://x", `database must begin with mysql:// or postgres:// or postgresql:// and name a host`},
		{"database: 'mysql://u:s3cret%zz@h/x'", `database is not a URL`},
		{"redis: h:6379", `redis must begin with redis:// or rediss://`},
		{"redis: file:/nowhere/x", `no such file`},
		{"currency: yuan", `currency: "yuan" is not a currency`},
		{"trusted_proxies: 10.0.0.0/8", `trusted_proxies must be a list, not "10.0.0.0/8"`},
		{"trusted_proxies: [10.0.0.1/8]", `write 10.0.0.0/8`},
		{"trusted_proxies: [lan]", `"lan" is not a network`},
		{"drain: 300", `drain: "300" is not a duration`},
		{"drain: -5s", `is not a duration`},
		{"welcome_credit: ten", `welcome_credit: "ten" is not an amount`},
		{"welcome_credit: -1", `welcome_credit must not be below 0`},
		{"welcome_credit: 1e3", `is not an amount`},
		{"allow_fake_ip: 'yes'", `allow_fake_ip must be true or false, not "yes"`},
		{"unpriced: maybe", `unpriced must be one of refuse, free, not "maybe"`},
		{"exchange: {USD: 0}", `exchange.USD must be above 0`},
		{"exchange: {dollar: 1}", `"dollar" is not a currency`},
		{"exchange: {CNY: 1}", `exchange holds CNY, which is the site's own currency`},
		{"limits: {rpm: 1}", `unknown key "rpm"`},
		{"limits: {user: {rmp: 1}}", `unknown key "rmp"; did you mean "rpm"?`},
		{"limits: {user: {rpm: -1}}", `limits.user.rpm: "-1" is not a whole number`},
		{"limits: {body: 3}", `limits.body: "3" is not a size`},
		{"limits: {body: 99999999GiB}", `is not a size`},
		{"prices: {m: {input: 1}}", `:1: the price of m needs input and output, in CNY per million tokens`},
		{"prices: {m: {input: 1, outptu: 1}}", `unknown key "outptu"; did you mean "output"?`},
		{"prices: {m: {input: 1, output: 9999999}}", `is not a price between`},
		{"prices: {m: 5}", `the price of m must be a map`},
		{"upstreams: {a: b}", `upstreams must be a list, not a map`},
		{"upstreams:\n- x", `:2: an upstream must be a map`},
		{"upstreams:\n- {vendor: a}\n- {vendor: b}", `:3: an upstream named "main" is there twice, on line 2 too`},
		{"upstreams:\n- {name: 'a b'}", `:2: the name "a b" must be letters`},
		{"upstreams:\n- {name: a, name: b}", `key "name" is written twice`},
		{"bricks: {x: [{a: 1}, {a: 2}]}", `an instance of brick x named "main" is there twice`},
		{"bricks: {x: 5}", `an instance of brick x must be a map`},
		{"bricks: {x: {a: .inf}}", `.inf is not a number`},
		{"bricks: {x: {a: !!binary aGk=}}", `the tag !!binary is not supported`},
		{"a: &x 1\nbricks: {x: {b: *x}}", `:2: anchors and aliases are not supported`},
		{"- a", `the configuration must be a map, written "key: value", not a list`},
		{"listen: ':1'\n  data: x", `:1: this is not YAML: did not find expected key`},
		{"listen: ':1'\n---\ndata: x", `one YAML document`},
		{"\tlisten: x", `:1: this is not YAML`},
	} {
		_, err := config.Load(write(t, c.text), env())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q\n got %v\nwant %s", c.text, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the message tells the password: %v", c.text, err)
		}
	}
}

// Every mistake is told at once, in the order of the file.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Load(write(t, "drain: x\nlisten: y\nfoo: 1\nredis: z"), env("JIMU_LISTEN", "q"))
	ps, ok := errors.AsType[config.LoadErrors](err)
	if !ok || len(ps) != 5 {
		t.Fatalf("got %v", err)
	}
	for i, end := range []string{":1", ":2", ":3", ":4", "JIMU_LISTEN"} {
		if !strings.HasSuffix(ps[i].Where, end) {
			t.Errorf("problem %d is at %s, want %s", i, ps[i].Where, end)
		}
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	path := write(t, "listen: ':1'\ndata: fromfile\nredis: redis://file")
	vars := env("JIMU_LISTEN", ":2", "JIMU_DATA", "fromenv", "JIMU_MASTER_KEY", "file:k", "JIMU_DATABASE", "", "JIMU_CONFIG", path)
	c, err := config.Load("", vars, config.Flag{Key: "listen", Value: ":3"})
	if err != nil {
		t.Fatal(err)
	}
	key, _ := c.MasterKeyFile()
	got := []string{c.Path, c.Listen, filepath.Base(c.Data), filepath.Base(key), c.Redis, c.Database, c.Origin("listen"), c.Origin("data"), c.Origin("master_key"), c.Origin("database")}
	want := []string{path, ":3", "fromenv", "k", "redis://file", "", "--listen", "JIMU_DATA", "JIMU_MASTER_KEY", "default"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := config.Load("", vars, config.Flag{Key: "currency", Value: "USD"}); err == nil {
		t.Error("a flag that is none is taken")
	}
}

func TestNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := config.Load("", env())
	if err != nil || c.Path != "" || c.Dir != "." {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	if _, err := config.Load("gone.yaml", env()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is missing: %v", err)
	}
	if err := os.WriteFile("jimu.yaml", []byte("currency: USD"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = config.Load("", env()); err != nil || c.Currency != "USD" {
		t.Errorf("jimu.yaml is not read: %v", err)
	}
}

// What is printed holds no secret, says where each value is from, and is a
// configuration again.
func TestPrint(t *testing.T) {
	t.Parallel()
	c, err := config.Load(write(t, contract+"prices: {m: {input: 1.5, output: 2}}\n"),
		env("JIMU_DATABASE", "mysql://u:s3cret@h/db?pw=s3cret", "JIMU_MASTER_KEY", "s3cret", "JIMU_REDIS", "redis://:s3cret@h"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	asked := 0
	mask := func(_ string, raw json.RawMessage) json.RawMessage { asked++; return raw }
	if err := config.Print(&b, c, mask); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`database: "mysql://u:***@h/db?***"  # JIMU_DATABASE`, `redis: "redis://:***@h"  # JIMU_REDIS`, `master_key: "***"  # JIMU_MASTER_KEY`, "drain: \"5m0s\"  # default", `prices: {"m":{"input":1.5,"output":2}}  # `} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %s:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "s3cret") || asked != 3 {
		t.Errorf("printed:\n%s", b.String())
	}
	again, err := config.Load(write(t, b.String()), env())
	if err != nil {
		t.Fatal(err)
	}
	if ch := config.Diff(c, again); len(ch.Live) > 0 || !cmp.Equal(ch.Restart, []string{"master_key", "database", "redis"}) {
		t.Errorf("printed and read again, it differs: %+v", ch)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	load := func(text string) *config.Config {
		c, err := config.Load(write(t, "data: /x\nmaster_key: file:/k\n"+text), env())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := load("listen: ':1'\nupstreams: [{vendor: a}]\ncurrency: USD")
	b := load("# moved\nlisten: ':2'\nupstreams: [{vendor: b}]\ncurrency: USD\nlimits: {user: {rpm: 5}}\nexchange: {EUR: 2}")
	if d := cmp.Diff(config.Changes{Restart: []string{"listen"}, Live: []string{"exchange", "limits", "upstreams"}}, config.Diff(a, b)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(config.Changes{}, config.Diff(a, a)); d != "" {
		t.Error(d)
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	raw, err := config.Schema(json.RawMessage(`{"type":"object"}`), map[string]json.RawMessage{"alipay": json.RawMessage(`{"type":"object"}`)})
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]struct{ Description string }
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Properties) != 20 || !strings.Contains(string(raw), `"alipay"`) {
		t.Errorf("schema: %s", raw)
	}
	for k, p := range s.Properties {
		if p.Description == "" {
			t.Errorf("%s has no description", k)
		}
	}
}

// FuzzLoad: no text makes it panic; what it takes prints as what it takes.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{contract, "", "a: &a [*a]", "prices: {m: {input: 0x10, output: 1_0}}", "bricks: {x: {y: [1, 2.5, 0o7, ~, 2020-01-01]}}", "<<: {listen: ':1'}", "? [a]: b", "listen: !!int 5", "trusted_proxies: [1.2.3.4]\ndrain: 5s"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := write(t, string(text))
		c, err := config.Load(path, env())
		if err != nil {
			if _, ok := errors.AsType[config.LoadErrors](err); !ok {
				t.Errorf("not a list of problems: %v", err)
			}
			return
		}
		for _, i := range append(c.Upstreams, c.Bricks...) {
			if !json.Valid(i.Raw) || i.Where("") == "" {
				t.Errorf("instance %s: %s", i.Name, i.Raw)
			}
		}
		var b bytes.Buffer
		if err := config.Print(&b, c, func(_ string, raw json.RawMessage) json.RawMessage { return raw }); err != nil {
			t.Fatal(err)
		}
		if c.Database+c.Redis != "" {
			return // printed masked
		}
		if _, ok := c.MasterKeyFile(); !ok {
			return
		}
		again := filepath.Join(filepath.Dir(path), "again.yaml")
		if err := os.WriteFile(again, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := config.Load(again, env())
		if err != nil {
			t.Fatalf("printed as\n%s\nwhich is refused: %v", b.String(), err)
		}
		if ch := config.Diff(c, d); len(ch.Live)+len(ch.Restart) > 0 {
			t.Errorf("printed as\n%s\nwhich differs: %+v", b.String(), ch)
		}
	})
}
