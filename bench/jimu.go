//nolint:gosec // whoever runs it names the files, and all addresses are of the loopback
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // counts the rows in the books
)

const jimuConfig = `listen: %s
admin_listen: %s
data: %s
master_key: file:%s
ollama: "off"
limits:
  user: {rpm: 1000000000, tpm: 1000000000000, concurrent: 1000000}
  key: {rpm: 1000000000, tpm: 1000000000000, concurrent: 1000000}
`

// gateway is Jimu with everything on: a key with a spending limit, limits on
// key and user, prices, and the books on SQLite.
type gateway struct {
	binary, dir, config string
	addr, admin, key    string
}

// command runs a command of Jimu and returns what it prints.
func (g *gateway) command(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.binary, append(args, "--config", g.config)...)
	cmd.Stdin, cmd.Dir = strings.NewReader(stdin), g.dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("jimu %s: %w: %s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// newGateway makes a data folder with all that a request needs.
func (b *bench) newGateway(ctx context.Context) (*gateway, error) {
	binary, err := filepath.Abs(b.s.jimu)
	if err != nil {
		return nil, fmt.Errorf("finding jimu: %w", err)
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%s is not there: run make build first", b.s.jimu)
	}
	g := &gateway{binary: binary, dir: b.dir, config: filepath.Join(b.dir, "jimu.yaml")}
	if g.addr, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	if g.admin, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(jimuConfig, g.addr, g.admin, filepath.Join(b.dir, "data"), filepath.Join(b.dir, "jimu.key"))
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of jimu: %w", err)
	}
	commands := []struct {
		stdin string
		args  []string
	}{
		{"seven lamps under a quiet bridge\n", []string{"user", "create", "bench", "--role", "owner", "--password-stdin"}},
		{"", []string{"credit", "grant", "--user", "bench", "--amount", "1000000", "--reason", "bench"}},
	}
	for _, path := range [...]string{plain, fast, slow} {
		name, model := strings.TrimPrefix(path, "/"), modelOf(path)
		commands = append(commands, struct {
			stdin string
			args  []string
		}{"", []string{
			"upstream", "add", name, "--vendor", "openai-compatible", "--base-url", "http://" + b.mockAddr + path + "/v1",
			"--key", benchKey, "--models", model,
		}}, struct {
			stdin string
			args  []string
		}{"", []string{"price", "set", model, "--input", "1", "--output", "2"}})
	}
	for _, c := range commands {
		if _, err := g.command(ctx, c.stdin, c.args...); err != nil {
			return nil, err
		}
	}
	g.key, err = g.command(ctx, "", "key", "create", "--user", "bench", "--limit", "900000")
	return g, err
}

func (b *bench) startJimu(ctx context.Context) (*target, error) {
	if b.gateway == nil {
		g, err := b.newGateway(ctx)
		if err != nil {
			return nil, err
		}
		b.gateway = g
	}
	t := newTarget(jimu, b.gateway.addr, b.gateway.key, false)
	p, err := start(ctx, b.dir, b.targetCore, jimu, b.gateway.binary, "serve", "--config", b.gateway.config)
	if err != nil {
		return nil, err
	}
	t.procs = []*process{p}
	return t, p.ready(ctx, t.loads[plain])
}

// books checks, with Jimu stopped, that every request that reached the mock
// upstream for Jimu is on the ledger and in the usage list.
func (b *bench) books(ctx context.Context, sent int) error {
	if _, err := b.gateway.command(ctx, "", "ledger", "verify"); err != nil {
		return err
	}
	count := func(file, query string) (n int, err error) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(b.dir, "data", file)+"?mode=ro")
		if err != nil {
			return 0, fmt.Errorf("opening %s: %w", file, err)
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		if err := db.QueryRowContext(ctx, query).Scan(&n); err != nil {
			return 0, fmt.Errorf("counting in %s: %w", file, err)
		}
		return n, nil
	}
	entries, err := count("jimu.db", "SELECT count(*) FROM entries WHERE kind = 'usage'")
	if err != nil {
		return err
	}
	rows, err := count("history.db", "SELECT count(*) FROM usage_rows")
	if err != nil {
		return err
	}
	mark := "\u2713"
	if entries != sent || rows != sent {
		mark = "\u2717"
	}
	fmt.Printf("\nbooks     %s %d requests answered, %d on the ledger, %d in the usage list; jimu ledger verify is clean\n", mark, sent, entries, rows)
	if mark != "\u2713" {
		b.missed++
	}
	return nil
}

// profiles saves profiles of Jimu while a load runs.
func (b *bench) profiles(ctx context.Context, name string, d time.Duration) error {
	if b.s.profile == "" {
		return nil
	}
	if err := os.MkdirAll(b.s.profile, 0o750); err != nil {
		return fmt.Errorf("making the folder of the profiles: %w", err)
	}
	for _, p := range [...][2]string{
		{"cpu", fmt.Sprintf("profile?seconds=%d", max(int(d/time.Second), 1))}, {"heap", "heap"}, {"allocs", "allocs"}, {"goroutine", "goroutine"},
	} {
		kind, query := p[0], p[1]
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.gateway.admin+"/debug/pprof/"+query, nil)
		if err != nil {
			return fmt.Errorf("asking for a profile: %w", err)
		}
		res, err := (&http.Client{}).Do(req)
		if err != nil {
			return fmt.Errorf("asking for a profile: %w", err)
		}
		data, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return fmt.Errorf("reading a profile: %w", err)
		}
		if err := os.WriteFile(filepath.Join(b.s.profile, name+"-"+kind+".pprof"), data, 0o600); err != nil {
			return fmt.Errorf("saving a profile: %w", err)
		}
	}
	return nil
}
