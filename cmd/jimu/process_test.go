package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// jimu is one data folder, and the environment that its commands run in.
type jimu struct {
	dir string
	env []string
}

func newJimu(t *testing.T, env ...string) *jimu {
	t.Helper()
	return &jimu{dir: t.TempDir(), env: env}
}

func (j *jimu) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("jimu") // the test binary, by testscript.Main
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	cmd.Dir = j.dir
	cmd.Env = append(os.Environ(), j.env...)
	return cmd
}

// run runs a command and returns its output.
func (j *jimu) run(t *testing.T, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := j.command(t, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("jimu %s: %v\n%s%s", strings.Join(args, " "), err, out, &errs)
	}
	return strings.TrimSpace(string(out))
}

// server is a jimu that serves.
type server struct {
	url string
	cmd *exec.Cmd
	log *bytes.Buffer
}

// serve starts a server on a free port and waits until it listens.
func (j *jimu) serve(t *testing.T) *server {
	t.Helper()
	s := &server{cmd: j.command(t, "serve", "--listen", "127.0.0.1:0"), log: new(bytes.Buffer)}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if m := listens.FindStringSubmatch(line); m != nil {
			s.url = m[1]
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return s
		}
		if err != nil {
			_ = s.cmd.Wait()
			t.Fatalf("jimu did not start: %s", s.log)
		}
	}
}

// stop ends it as an operator would.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil || bytes.Contains(s.log.Bytes(), []byte("level=WARN")) {
		t.Errorf("the server ended badly: %v\n%s", err, s.log)
	}
}

// kill ends it as a power supply would.
func (s *server) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
}

// post asks the model API.
func post(t *testing.T, url, key string, body any) (*http.Response, error) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(req)
}

// object is JSON.
type object = map[string]any

// ask is the body of a chat request.
func chatBody(model string, stream bool) object {
	return object{"model": model, "stream": stream, "messages": []object{{"role": "user", "content": "hello"}}}
}

// clean fails unless every invariant of the ledger holds.
func (j *jimu) clean(t *testing.T) {
	t.Helper()
	if out := j.run(t, "ledger", "verify"); strings.Contains(out, "BREACH") {
		t.Errorf("the ledger is not clean:\n%s", out)
	}
}

// balance is what ann has, and how much of it is held.
func (j *jimu) balance(t *testing.T) (balance, held string) {
	t.Helper()
	var b struct{ Balance, Held string }
	if err := json.Unmarshal([]byte(j.run(t, "credit", "show", "--user", "ann", "-o", "json")), &b); err != nil {
		t.Fatal(err)
	}
	return b.Balance, b.Held
}
