// Package config reads the configuration: a strict YAML file, overlaid by the
// environment and by flags. It finds every mistake at once, says on which line
// each is and how to cure it, and knows where each value in force is from.
//
// What a brick's or an upstream's own keys mean is the brick host's business:
// here they are JSON objects that remember their lines.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jimu-ai/jimu"
)

// Config is the configuration in force.
type Config struct {
	Path string // the file it was read from, "" if there is none
	Dir  string // its folder; relative paths in the file start here

	Listen         string      // public address
	AdminListen    string      // metrics and pprof; "" is off
	URL            string      // how people reach it; see PublicURL
	Data           string      // folder, absolute
	MasterKey      jimu.Secret // the key itself, or file:PATH; see MasterKeyFile
	Database       string      // "" is SQLite in Data; may hold a password
	Redis          string      // "" is in process; may hold a password
	Currency       string      // ISO 4217
	TrustedProxies []netip.Prefix

	Upstreams []Instance
	Bricks    []Instance

	Unpriced      string                 // what a model without a price does: "refuse" or "free"
	Prices        map[string]*jimu.Price // overrides by model, sealed
	Exchange      map[string]jimu.Credit // what 1 unit of a currency is worth in the site's
	Limits        Limits
	Disconnect    string        // what a client that leaves does upstream: "cancel" or "drain"
	Drain         time.Duration // how long running requests may take at shutdown
	WelcomeCredit jimu.Credit   // given to the owner at setup
	AllowFakeIP   bool          // upstreams may be in 198.18.0.0/15
	Ollama        string        // "auto" looks for a local one, or "off"

	pricesRaw json.RawMessage
	origins   map[string]string
}

// Limits are the limits in force where a user or key has none of its own, and
// the largest request body in bytes.
type Limits struct {
	User jimu.Limits
	Key  jimu.Limits
	Body int64
}

// Instance is one entry of upstreams or bricks.
type Instance struct {
	Brick string // the brick's ID; "" for an upstream
	Name  string
	Raw   json.RawMessage // the object as it is written, references unresolved

	file  string
	lines map[string]int
}

// Where says where a part of the instance is written: "jimu.yaml:14" for
// "models[1]". Of a part that is not written, it says where its nearest parent is.
func (i *Instance) Where(path string) string {
	for {
		if line, ok := i.lines[path]; ok {
			return i.file + ":" + strconv.Itoa(line)
		}
		if path == "" {
			return i.file
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// Flag is a value given on the command line. It wins over the environment,
// which wins over the file.
type Flag struct{ Key, Value string }

// Problem is one mistake.
type Problem struct {
	Where string // "jimu.yaml:14", "JIMU_LISTEN", "--listen"
	Text  string // what is wrong, and the cure
}

// LoadErrors are all the mistakes of a configuration, in the order of the file.
type LoadErrors []Problem

func (p LoadErrors) Error() string {
	lines := make([]string, len(p))
	for i, x := range p {
		lines[i] = x.Where + ": " + x.Text
	}
	return strings.Join(lines, "\n")
}

// defaultFile is read if it is there and no other file is named.
const defaultFile = "jimu.yaml"

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Load reads the configuration. Without a path it takes the one in
// JIMU_CONFIG, or jimu.yaml if that is there, or the defaults alone. Mistakes
// are returned together, as [LoadErrors].
func Load(path string, env func(string) (string, bool), flags ...Flag) (*Config, error) {
	explicit := path != ""
	if !explicit {
		if path, explicit = env("JIMU_CONFIG"); path == "" {
			path, explicit = defaultFile, false
		}
	}
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		path, err = "", nil
	}
	if err != nil {
		return nil, err
	}
	return parse(path, text, env, flags)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(b) > maxFile {
		return nil, LoadErrors{{Where: path, Text: "it is larger than 1 MiB, which no configuration is"}}
	}
	return b, nil
}

func parse(path string, text []byte, env func(string) (string, bool), flags []Flag) (*Config, error) {
	l := &loader{file: path, env: env, c: &Config{Path: path, Dir: filepath.Dir(path), origins: map[string]string{}}}
	l.defaults()
	l.document(text)
	l.overlay(flags)
	l.whole()
	if len(l.problems) > 0 {
		return nil, l.sorted()
	}
	return l.c, nil
}

// MasterKeyFile returns the path of the master key's file, which the first
// start makes. It reports false where MasterKey is the key itself.
func (c *Config) MasterKeyFile() (string, bool) {
	return strings.CutPrefix(c.MasterKey.Reveal(), "file:")
}

// PublicURL is how people reach the site, without a slash at the end.
func (c *Config) PublicURL() string {
	if c.URL != "" {
		return c.URL
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if ip, bad := netip.ParseAddr(host); err != nil || host == "" || (bad == nil && (ip.IsUnspecified() || ip.IsLoopback())) {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Origin says where the value of a key is from: "default", "jimu.yaml:3",
// "JIMU_LISTEN" or "--listen".
func (c *Config) Origin(key string) string {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return originDefault
}

const originDefault = "default"
