package config

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/jimu-ai/jimu"
)

// text returns a scalar as it is written.
func (l *loader) text(n *yaml.Node, key string) (string, bool) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		l.bad(n, "%s must be a text, not %s", key, kind(n))
		return "", false
	}
	return n.Value, true
}

// word reads one of several words.
func (l *loader) word(n *yaml.Node, key string, dst *string, words ...string) {
	s, ok := l.text(n, key)
	if !ok {
		return
	}
	if !slices.Contains(words, s) {
		l.bad(n, "%s must be one of %s, not %q", key, strings.Join(words, ", "), s)
		return
	}
	*dst = s
}

// address reads a host:port to listen on.
func (l *loader) address(n *yaml.Node, key string, dst *string) {
	s, ok := l.text(n, key)
	if !ok {
		return
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		l.bad(n, "%s: %q is not an address to listen on; write one such as \"127.0.0.1:8080\", or \":8080\" for every network", key, s)
		return
	}
	*dst = s
}

// site reads the public URL.
func (l *loader) site(n *yaml.Node) {
	s, ok := l.text(n, "url")
	if !ok {
		return
	}
	if s == "" {
		l.c.URL = ""
		return
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		l.bad(n, "url: %q is not the address of a site; write one such as https://ai.example.com, without a path", s)
		return
	}
	l.c.URL = u.Scheme + "://" + u.Host
}

// server reads the address of a database or cache: a URL with one of the
// schemes, or a reference to one. Its text may hold a password, so messages
// never repeat it.
func (l *loader) server(n *yaml.Node, key string, dst *string, schemes ...string) {
	s, ok := l.text(n, key)
	if !ok {
		return
	}
	if s, ok = l.resolve(n, key, s); !ok {
		return
	}
	if s == "" {
		*dst = ""
		return
	}
	u, err := url.Parse(s)
	if err != nil {
		l.bad(n, "%s is not a URL; write one such as %s://user:password@host/name, with special characters of the password percent-encoded", key, schemes[0])
		return
	}
	if !slices.Contains(schemes, u.Scheme) || u.Host == "" {
		l.bad(n, "%s must begin with %s:// and name a host", key, strings.Join(schemes, ":// or "))
		return
	}
	*dst = s
}

// resolve follows env:NAME and file:PATH.
func (l *loader) resolve(n *yaml.Node, key, s string) (string, bool) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		v, ok := l.env(name)
		if !ok || v == "" {
			l.bad(n, "%s: the environment variable %s is not set", key, name)
			return "", false
		}
		return v, true
	}
	if path, ok := strings.CutPrefix(s, "file:"); ok {
		b, err := os.ReadFile(l.path(path))
		if err != nil {
			l.bad(n, "%s: %v", key, err)
			return "", false
		}
		return strings.TrimSpace(string(b)), true
	}
	return s, true
}

// path makes a path absolute: from the file's folder if it is written there,
// from the working directory otherwise.
func (l *loader) path(p string) string {
	if l.source == "" && !filepath.IsAbs(p) {
		p = filepath.Join(l.c.Dir, p)
	}
	if abs, err := filepath.Abs(p); err == nil {
		return abs
	}
	return p // the working directory is gone; using the path will say so
}

func (l *loader) folder(n *yaml.Node) {
	s, ok := l.text(n, "data")
	if !ok {
		return
	}
	if s == "" {
		l.bad(n, "data must name a folder, such as ./data")
		return
	}
	l.c.Data = l.path(s)
}

func (l *loader) masterKey(n *yaml.Node) {
	s, ok := l.text(n, "master_key")
	if !ok {
		return
	}
	if p, file := strings.CutPrefix(s, "file:"); file {
		if p == "" {
			l.bad(n, "master_key: file: must be followed by a path, such as file:./jimu.key")
			return
		}
		l.c.MasterKey = jimu.NewSecret("file:" + l.path(p))
		return
	}
	if s, ok = l.resolve(n, "master_key", s); !ok {
		return
	}
	if s == "" {
		l.bad(n, "master_key is empty; write file:PATH, env:NAME, or leave it out")
		return
	}
	l.c.MasterKey = jimu.NewSecret(s)
}

func (l *loader) currency(n *yaml.Node) {
	if s, ok := l.text(n, "currency"); ok {
		if !isCurrency(s) {
			l.bad(n, "currency: %q is not a currency; write its three letters, such as CNY", s)
			return
		}
		l.c.Currency = s
	}
}

func isCurrency(s string) bool {
	return len(s) == 3 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func (l *loader) proxies(n *yaml.Node) {
	l.list(n, "trusted_proxies", func(v *yaml.Node) {
		s, ok := l.text(v, "an entry of trusted_proxies")
		if !ok {
			return
		}
		p, err := netip.ParsePrefix(s)
		if ip, bad := netip.ParseAddr(s); bad == nil && ip.Zone() == "" {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			l.bad(v, "trusted_proxies: %q is not a network; write one such as 10.0.0.0/8 or 127.0.0.1/32", s)
			return
		}
		if p != p.Masked() {
			l.bad(v, "trusted_proxies: %s has bits after its prefix; write %s", s, p.Masked())
			return
		}
		l.c.TrustedProxies = append(l.c.TrustedProxies, p)
	})
}

func (l *loader) list(n *yaml.Node, key string, f func(v *yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		l.bad(n, "%s must be a list, not %s", key, kind(n))
		return
	}
	for _, v := range n.Content {
		f(v)
	}
}

// credit reads a decimal amount.
func (l *loader) credit(n *yaml.Node, key string) (jimu.Credit, bool) {
	s, ok := l.text(n, key)
	if !ok {
		return 0, false
	}
	c, err := jimu.ParseCredit(s)
	if err != nil {
		l.bad(n, "%s: %v", key, err)
		return 0, false
	}
	if c < 0 {
		l.bad(n, "%s must not be below 0", key)
		return 0, false
	}
	return c, true
}

func (l *loader) duration(n *yaml.Node, key string, dst *time.Duration) {
	s, ok := l.text(n, key)
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 24*time.Hour {
		l.bad(n, "%s: %q is not a duration up to 24h; write one with its unit, such as \"90s\" or \"5m\"", key, s)
		return
	}
	*dst = d
}

func (l *loader) boolean(n *yaml.Node, key string, dst *bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		l.bad(n, "%s must be true or false, not %s", key, kind(n))
		return
	}
	*dst = strings.EqualFold(n.Value, "true")
}

func (l *loader) count(n *yaml.Node, key string, dst *int64) {
	s, ok := l.text(n, key)
	if !ok {
		return
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 {
		l.bad(n, "%s: %q is not a whole number from 0 (no limit) up", key, s)
		return
	}
	*dst = v
}

const (
	minBody = 1 << 10
	maxBody = 1 << 30
)

// size reads a number of bytes, such as 32MiB.
func (l *loader) size(n *yaml.Node, key string, dst *int64) {
	s, ok := l.text(n, key)
	if !ok {
		return
	}
	digits := strings.TrimRight(s, "KMGiB ")
	unit, known := map[string]int64{
		"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1e3, "MB": 1e6, "GB": 1e9,
	}[strings.TrimSpace(s[len(digits):])]
	v, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || !known || v*unit < minBody || v*unit > maxBody {
		l.bad(n, "%s: %q is not a size from 1KiB to 1GiB; write one such as 32MiB", key, s)
		return
	}
	*dst = v * unit
}

func (l *loader) limits(n *yaml.Node) {
	c := &l.c.Limits
	l.each(n, "limits", []string{"user", "key", "body"}, func(name string, v *yaml.Node) {
		switch name {
		case "body":
			l.size(v, "limits.body", &c.Body)
		case "user":
			l.rates(v, "limits.user", &c.User)
		default:
			l.rates(v, "limits.key", &c.Key)
		}
	})
}

func (l *loader) rates(n *yaml.Node, key string, dst *jimu.Limits) {
	to := map[string]*int64{"rpm": &dst.RPM, "tpm": &dst.TPM, "concurrent": &dst.Concurrent}
	l.each(n, key, []string{"rpm", "tpm", "concurrent"}, func(name string, v *yaml.Node) {
		l.count(v, key+"."+name, to[name])
	})
}

func (l *loader) exchange(n *yaml.Node) {
	l.each(n, "exchange", nil, func(name string, v *yaml.Node) {
		if !isCurrency(name) {
			l.bad(v, "exchange: %q is not a currency; write its three letters, such as USD", name)
			return
		}
		c, ok := l.credit(v, "exchange."+name)
		if !ok {
			return
		}
		if c == 0 {
			l.bad(v, "exchange.%s must be above 0: what 1 %s is worth in the site's currency", name, name)
			return
		}
		l.c.Exchange[name] = c
	})
}
