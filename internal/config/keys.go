package config

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/jimu-ai/jimu"
)

// key is one key of the file. This table is the only place that knows them.
type key struct {
	name    string
	env     string // the variable that overlays it, and then a flag of its name may too
	doc     string
	schema  string // JSON Schema of the value, without the description
	restart bool   // a change needs a restart
	set     func(l *loader, n *yaml.Node)
	value   func(c *Config) any         // marshals as it is written
	mask    func(string) string         // hides what is secret in a text value; nil if nothing is
	list    func(c *Config) []*Instance // for upstreams and bricks, in place of value
}

const (
	amountSchema = `{"type":["string","number"],"pattern":"^[0-9]+(\\.[0-9]{1,9})?$","minimum":0}`
	limitsSchema = `{"type":"object","additionalProperties":false,"properties":{"rpm":{"type":"integer","minimum":0,"description":"Requests a minute."},"tpm":{"type":"integer","minimum":0,"description":"Tokens a minute, input and output."},"concurrent":{"type":"integer","minimum":0,"description":"Requests at once."}}}`
)

func keys() []key {
	return append(serverKeys(), modelKeys()...)
}

// serverKeys are the keys about where the server is and what it stands on.
func serverKeys() []key {
	return []key{
		{
			name: "listen", env: "JIMU_LISTEN", restart: true, schema: `{"type":"string"}`,
			doc:   `Public address. ":8080" opens it to the network.`,
			set:   func(l *loader, n *yaml.Node) { l.address(n, "listen", &l.c.Listen) },
			value: func(c *Config) any { return c.Listen },
		}, {
			name: "admin_listen", restart: true, schema: `{"type":"string"}`,
			doc: `Address of metrics and pprof, never public. "" turns them off.`,
			set: func(l *loader, n *yaml.Node) {
				if n.Kind == yaml.ScalarNode && n.Value == "" {
					l.c.AdminListen = ""
					return
				}
				l.address(n, "admin_listen", &l.c.AdminListen)
			},
			value: func(c *Config) any { return c.AdminListen },
		}, {
			name: "url", schema: `{"type":"string","format":"uri"}`,
			doc:   "How people reach the site; callbacks are built from it.",
			set:   func(l *loader, n *yaml.Node) { l.site(n) },
			value: func(c *Config) any { return c.URL },
		}, {
			name: "data", env: "JIMU_DATA", restart: true, schema: `{"type":"string"}`,
			doc:   "Folder of the databases, relative to this file.",
			set:   func(l *loader, n *yaml.Node) { l.folder(n) },
			value: func(c *Config) any { return c.Data },
		}, {
			name: "master_key", env: "JIMU_MASTER_KEY", restart: true, schema: `{"type":"string"}`,
			doc:   "Seals secrets at rest: file:PATH (made at the first start), env:NAME or the key itself. Never inside data or a backup.",
			set:   func(l *loader, n *yaml.Node) { l.masterKey(n) },
			value: func(c *Config) any { return c.MasterKey.Reveal() },
			mask:  maskReference,
		}, {
			name: "database", env: "JIMU_DATABASE", restart: true, schema: `{"type":"string"}`,
			doc: `"" is SQLite in data; or mysql://host/name or postgres://host/name (with user and password); env:NAME and file:PATH work.`,
			set: func(l *loader, n *yaml.Node) {
				l.server(n, "database", &l.c.Database, "mysql", "postgres", "postgresql")
			},
			value: func(c *Config) any { return c.Database },
			mask:  maskURL,
		}, {
			name: "redis", env: "JIMU_REDIS", restart: true, schema: `{"type":"string"}`,
			doc:   `"" counts in process; or redis://host:6379/0 (rediss:// with TLS) to share limits among replicas; env:NAME and file:PATH work.`,
			set:   func(l *loader, n *yaml.Node) { l.server(n, "redis", &l.c.Redis, "redis", "rediss") },
			value: func(c *Config) any { return c.Redis },
			mask:  maskURL,
		}, {
			name: "trusted_proxies", schema: `{"type":"array","items":{"type":"string"}}`,
			doc:   "Networks whose X-Forwarded-For is believed.",
			set:   func(l *loader, n *yaml.Node) { l.proxies(n) },
			value: func(c *Config) any { return orEmpty(c.TrustedProxies) },
		}, {
			name: "drain", schema: `{"type":"string"}`,
			doc:   "How long running requests may take at shutdown.",
			set:   func(l *loader, n *yaml.Node) { l.duration(n, "drain", &l.c.Drain) },
			value: func(c *Config) any { return jimu.Duration(c.Drain) },
		},
	}
}

// modelKeys are the keys about models, money and bricks.
func modelKeys() []key {
	return []key{
		{
			name: "currency", restart: true, schema: `{"type":"string","pattern":"^[A-Z]{3}$"}`,
			doc:   "The site's currency: 1 credit is worth 1 of it.",
			set:   func(l *loader, n *yaml.Node) { l.currency(n) },
			value: func(c *Config) any { return c.Currency },
		}, {
			name: "exchange", schema: `{"type":"object","propertyNames":{"pattern":"^[A-Z]{3}$"},"additionalProperties":` + amountSchema + `}`,
			doc:   `What 1 unit of another currency is worth in the site's, such as {USD: "7.10"}.`,
			set:   func(l *loader, n *yaml.Node) { l.exchange(n) },
			value: func(c *Config) any { return c.Exchange },
		}, {
			name: "unpriced", schema: `{"enum":["refuse","free"]}`,
			doc:   "What a model without a price does: refuse its requests, or serve them free.",
			set:   func(l *loader, n *yaml.Node) { l.word(n, "unpriced", &l.c.Unpriced, "refuse", "free") },
			value: func(c *Config) any { return c.Unpriced },
		}, {
			name: "prices", schema: `{"type":"object","additionalProperties":` + priceSchema() + `}`,
			doc:   "Prices by model that replace the built-in ones, in the site's currency per million tokens.",
			set:   func(l *loader, n *yaml.Node) { l.prices(n) },
			value: func(c *Config) any { return c.pricesRaw },
		}, {
			name: "limits", schema: `{"type":"object","additionalProperties":false,"properties":{"user":` + limitsSchema + `,"key":` + limitsSchema + `,"body":{"type":["string","integer"],"description":"Largest request body, such as 32MiB."}}}`,
			doc: "Limits of each user and key that has none of its own (0 is no limit), and of a request's body.",
			set: func(l *loader, n *yaml.Node) { l.limits(n) },
			value: func(c *Config) any {
				return map[string]any{"user": c.Limits.User, "key": c.Limits.Key, "body": c.Limits.Body}
			},
		}, {
			name: "disconnect", schema: `{"enum":["cancel","drain"]}`,
			doc:   "What happens upstream when a client goes away: cancel at once, or drain (read on, up to the hold).",
			set:   func(l *loader, n *yaml.Node) { l.word(n, "disconnect", &l.c.Disconnect, "cancel", "drain") },
			value: func(c *Config) any { return c.Disconnect },
		}, {
			name: "welcome_credit", schema: amountSchema,
			doc: "Credit given to the owner at setup.",
			set: func(l *loader, n *yaml.Node) {
				if c, ok := l.credit(n, "welcome_credit"); ok {
					l.c.WelcomeCredit = c
				}
			},
			value: func(c *Config) any { return c.WelcomeCredit },
		}, {
			name: "allow_fake_ip", schema: `{"type":"boolean"}`,
			doc:   "Upstreams may be in 198.18.0.0/15, where proxies with fake addresses put them.",
			set:   func(l *loader, n *yaml.Node) { l.boolean(n, "allow_fake_ip", &l.c.AllowFakeIP) },
			value: func(c *Config) any { return c.AllowFakeIP },
		}, {
			name: "ollama", schema: `{"enum":["auto","off"]}`,
			doc:   "auto looks for an Ollama on this machine.",
			set:   func(l *loader, n *yaml.Node) { l.word(n, "ollama", &l.c.Ollama, "auto", "off") },
			value: func(c *Config) any { return c.Ollama },
		}, {
			name: "upstreams",
			doc:  "Accounts at vendors of models.",
			set:  func(l *loader, n *yaml.Node) { l.upstreams(n) },
			list: func(c *Config) []*Instance { return pointers(c.Upstreams) },
		}, {
			name: "bricks",
			doc:  "Other building blocks by ID; one map, or a list of maps with names. \"jimu bricks\" documents them.",
			set:  func(l *loader, n *yaml.Node) { l.bricks(n) },
			list: func(c *Config) []*Instance { return pointers(c.Bricks) },
		},
	}
}

func priceSchema() string {
	props := make([]string, 0, len(priceKeys()))
	for _, k := range priceKeys() {
		s := amountSchema
		switch k {
		case "context", "max_output":
			s = `{"type":"integer","minimum":0}`
		case "abilities":
			s = `{"type":"array","items":{"type":"string"}}`
		}
		props = append(props, `"`+k+`":`+s)
	}
	return `{"type":"object","additionalProperties":false,"required":["input","output"],"properties":{` + strings.Join(props, ",") + `}}`
}

// defaults fills in what is in force where nothing is written.
func (l *loader) defaults() {
	c := l.c
	c.Listen, c.AdminListen = "127.0.0.1:8080", "127.0.0.1:8081"
	c.MasterKey = jimu.NewSecret("file:" + l.path("jimu.key"))
	l.source = originDefault
	c.Data = l.path("data")
	l.source = ""
	c.Currency = "CNY"
	c.Unpriced, c.Disconnect, c.Ollama = "refuse", "cancel", "auto"
	c.Prices, c.Exchange = map[string]*jimu.Price{}, map[string]jimu.Credit{}
	c.pricesRaw = json.RawMessage("{}")
	c.Limits.Body = 32 << 20
	c.Drain = 300 * time.Second
	c.WelcomeCredit = 10 * jimu.OneCredit
}

// maskReference hides a value that is not a reference.
func maskReference(s string) string {
	if s == "" || strings.HasPrefix(s, "file:") || strings.HasPrefix(s, "env:") {
		return s
	}
	return jimu.NewSecret(s).String()
}

// maskURL hides the password and the parameters' values.
func maskURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return maskReference(s)
	}
	if u.RawQuery != "" {
		u.RawQuery = "***"
	}
	name := u.User.Username()
	_, has := u.User.Password()
	u.User = nil
	out := u.String()
	if name != "" || has {
		who := url.PathEscape(name)
		if has {
			who += ":***"
		}
		out = strings.Replace(out, "://", "://"+who+"@", 1)
	}
	return out
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func pointers(s []Instance) []*Instance {
	out := make([]*Instance, len(s))
	for i := range s {
		out[i] = &s[i]
	}
	return out
}
