// Package conformance runs the official clients of others against the real
// binary: what they send is understood, what they read is right, and every
// request is billed to the nano-credit. It is a module of its own, so that no
// SDK is ever linked into the product, and it imports nothing of ours.
package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Prices per million tokens, in credits.
const (
	priceIn  = 3
	priceOut = 7
)

// models are what the mock upstream serves here; all but the last have a price.
var models = []string{"mock-model", "mock-reasoning", "mock-429", "mock-error-mid", "mock-cached", "embed", "unpriced"}

const password = "seven lamps under a quiet bridge"

// server is the real binary, with a mock upstream, a rich user and a poor one.
type server struct {
	bin, dir, url   string
	key, poor, slow string // API keys: with credit, without, and one request a minute
}

var suite struct {
	server *server
	why    string // there is none
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp("", "jimu-conformance-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s, stop, err := start(ctx, dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			return 1
		}
		defer stop()
		suite.server = s
		return m.Run()
	}())
}

func start(ctx context.Context, dir string) (s *server, stop func(), err error) {
	bin := os.Getenv("JIMU_BIN")
	if bin == "" {
		bin = "../bin/jimu"
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") == "true" {
			return nil, nil, err
		}
		suite.why = "there is no " + bin + ": run make build first"
		return nil, func() {}, nil
	}
	s = &server{bin: bin, dir: dir}
	var running []*exec.Cmd
	stop = func() {
		for _, cmd := range running {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	mock, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	cmd, _, err := s.background(ctx, "mock", "--listen", mock)
	if err != nil {
		return nil, nil, err
	}
	running = append(running, cmd)
	if err := reachable(ctx, mock); err != nil {
		return nil, nil, err
	}
	cmd, line, err := s.background(ctx, "serve", "--listen", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	running = append(running, cmd)
	at := strings.Index(line, "http://")
	if at < 0 {
		return nil, nil, fmt.Errorf("jimu serve said %q, which names no address", line)
	}
	s.url, _, _ = strings.Cut(line[at:], " ")
	return s, stop, s.prepare(ctx, "http://"+mock+"/v1")
}

// prepare makes users, credit, an upstream, prices and keys beside the running
// server.
func (s *server) prepare(ctx context.Context, upstream string) error {
	commands := [][]string{
		{"user", "create", "rich", "--role", "user", "--password-stdin"},
		{"user", "create", "poor", "--role", "user", "--password-stdin"},
		{"credit", "grant", "--user", "rich", "--amount", "100", "--reason", "conformance"},
		{"upstream", "add", "mock", "--vendor", "openai-compatible", "--base-url", upstream, "--key", "k", "--models", strings.Join(models, ",")},
	}
	for _, m := range models[:len(models)-1] {
		commands = append(commands, []string{"price", "set", m, "--input", strconv.Itoa(priceIn), "--output", strconv.Itoa(priceOut)})
	}
	for _, args := range commands {
		if _, err := s.command(ctx, args...); err != nil {
			return err
		}
	}
	var err error
	if s.key, err = s.command(ctx, "key", "create", "--user", "rich"); err != nil {
		return err
	}
	if s.poor, err = s.command(ctx, "key", "create", "--user", "poor"); err != nil {
		return err
	}
	s.slow, err = s.limitedKey(ctx)
	return err
}

// limitedKey makes a key of one request a minute, as the page does.
func (s *server) limitedKey(ctx context.Context) (string, error) {
	res, err := s.post(ctx, "/api/session", "", `{"name":"rich","password":"`+password+`"}`)
	if err != nil {
		return "", err
	}
	var cookie []string
	for _, c := range res.Cookies() {
		cookie = append(cookie, c.Name+"="+c.Value)
	}
	if err := res.Body.Close(); err != nil || len(cookie) == 0 {
		return "", fmt.Errorf("signing in: %s, %d cookies, %w", res.Status, len(cookie), err)
	}
	res, err = s.post(ctx, "/api/keys", strings.Join(cookie, "; "), `{"name":"slow","limits":{"rpm":1}}`)
	if err != nil {
		return "", err
	}
	var made struct{ Key string }
	err = errors.Join(json.NewDecoder(res.Body).Decode(&made), res.Body.Close())
	if err != nil || made.Key == "" {
		return "", fmt.Errorf("making a key: %s, %w", res.Status, err)
	}
	return made.Key, nil
}

func (s *server) post(ctx context.Context, path, cookie, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Jimu-CSRF", "1")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	return http.DefaultClient.Do(req)
}

// command runs a command and returns what it prints.
func (s *server) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.bin, append(args, "--data", "data")...)
	cmd.Dir, cmd.Stdin = s.dir, strings.NewReader(password+"\n")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("jimu %s: %w: %s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// background starts a command that runs on, and returns the first line it prints.
func (s *server) background(ctx context.Context, args ...string) (*exec.Cmd, string, error) {
	if args[0] != "mock" {
		args = append(args, "--data", "data")
	}
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Dir, cmd.Stderr = s.dir, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("jimu %s ended at once: %w", args[0], errors.Join(err, cmd.Wait()))
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return cmd, strings.TrimSpace(line), nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func reachable(ctx context.Context, addr string) error {
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// running returns the server of the tests.
func running(t *testing.T) *server {
	t.Helper()
	if suite.server == nil {
		t.Skip(suite.why)
	}
	return suite.server
}

// get asks the platform API with the rich user's key.
func (s *server) get(t *testing.T, path string, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", path, res.Status, b, err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%s: %v in %s", path, err, b)
	}
}
