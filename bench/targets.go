//nolint:gosec // whoever runs it names the files, and all addresses are of the loopback
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The targets, by name.
const (
	direct    = "direct"
	nginx     = "nginx"
	nginxAuth = "nginx-auth"
	goProxy   = "go-reverseproxy"
	jimu      = "jimu"
)

func allTargets() []string { return []string{direct, nginx, nginxAuth, goProxy, jimu} }

// target is what is measured.
type target struct {
	name  string
	procs []*process // on the target's core
	loads map[string]*load
	fresh func(ctx context.Context) (*target, error) // starts another of it
}

// prompt is about 420 bytes of a question.
var prompt = strings.Repeat("Please explain in simple words how a gateway works. ", 7) //nolint:gochecknoglobals // constant

func request(addr, path, model, key string, stream bool) []byte {
	body := `{"model":"` + model + `","max_tokens":4096,"messages":[{"role":"user","content":"` + prompt + `"}]`
	if stream {
		body += `,"stream":true,"stream_options":{"include_usage":true}`
	}
	body += "}"
	return []byte("POST " + path + "/v1/chat/completions HTTP/1.1\r\nHost: " + addr +
		"\r\nAuthorization: Bearer " + key + "\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

// modelOf is what the model of a pace is called.
func modelOf(path string) string { return "bench-" + strings.TrimPrefix(path, "/") }

// newTarget makes the loads of a target. prefix says whether the paths of the
// mock are part of the target's.
func newTarget(name, addr, key string, prefix bool) *target {
	t := &target{name: name, loads: make(map[string]*load)}
	for _, path := range [...]string{plain, fast, slow} {
		at := path
		if !prefix {
			at = ""
		}
		t.loads[path] = &load{addr, request(addr, at, modelOf(path), key, path != plain)}
	}
	return t
}

func (t *target) stop() error {
	var err error
	for _, p := range t.procs {
		err = errors.Join(err, p.stop())
	}
	return err
}

const nginxConfig = `
daemon off;
master_process off;
worker_processes 1;
pid %[1]s/%[2]s.pid;
error_log stderr error;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  keepalive_requests 100000000;
  proxy_http_version 1.1;
  proxy_buffering off;
  upstream mock { server %[3]s; keepalive 4096; keepalive_requests 100000000; }
  %[4]s
  server {
    listen %[5]s backlog=4096;
    location / {
      %[6]s
      proxy_set_header Connection "";
      proxy_pass http://mock;
    }
    location = /auth {
      internal;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
      proxy_pass http://%[7]s;
    }
  }
}
`

// startNginx starts nginx, with auth_request if auth is the address to ask.
func (b *bench) startNginx(ctx context.Context, name, auth string) (*target, error) {
	path, err := findNginx()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	upstream, ask, pass := "", "", "mock"
	if auth != "" {
		upstream = "upstream auth { server " + auth + "; keepalive 4096; keepalive_requests 100000000; }"
		ask, pass = "auth_request /auth;", "auth"
	}
	file := filepath.Join(b.dir, name+"-"+strings.ReplaceAll(addr, ":", "-")+".conf")
	text := fmt.Sprintf(nginxConfig, b.dir, filepath.Base(file), b.mockAddr, upstream, addr, ask, pass)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of nginx: %w", err)
	}
	t := newTarget(name, addr, benchKey, true)
	p, err := start(ctx, b.dir, b.targetCore, name, path, "-p", b.dir, "-c", file)
	if err != nil {
		return nil, err
	}
	t.procs = []*process{p}
	return t, p.ready(ctx, t.loads[plain])
}

// benchKey is the key of the targets that are not Jimu.
const benchKey = "bench-key"

func (b *bench) startNginxAuth(ctx context.Context, name string) (*target, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	auth, err := start(ctx, b.dir, b.targetCore, "auth", b.self, "auth", addr, benchKey)
	if err != nil {
		return nil, err
	}
	if err := auth.ready(ctx, &load{addr, request(addr, "", "", benchKey, false)}); err != nil {
		return nil, errors.Join(err, auth.stop())
	}
	t, err := b.startNginx(ctx, name, addr)
	if err != nil {
		return nil, errors.Join(err, auth.stop())
	}
	t.procs = append(t.procs, auth)
	return t, nil
}

func (b *bench) startProxy(ctx context.Context, name string) (*target, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	t := newTarget(name, addr, benchKey, true)
	p, err := start(ctx, b.dir, b.targetCore, name, b.self, "proxy", addr, b.mockAddr)
	if err != nil {
		return nil, err
	}
	t.procs = []*process{p}
	return t, p.ready(ctx, t.loads[plain])
}

// startTarget starts a target by name.
func (b *bench) startTarget(ctx context.Context, name string) (*target, error) {
	var t *target
	var err error
	switch name {
	case direct:
		t = newTarget(direct, b.mockAddr, benchKey, true)
	case nginx:
		t, err = b.startNginx(ctx, nginx, "")
	case nginxAuth:
		t, err = b.startNginxAuth(ctx, nginxAuth)
	case goProxy:
		t, err = b.startProxy(ctx, goProxy)
	case jimu:
		t, err = b.startJimu(ctx)
	default:
		return nil, fmt.Errorf("no target is called %q: they are %s", name, strings.Join(allTargets(), ", "))
	}
	if err != nil {
		return nil, err
	}
	t.fresh = func(ctx context.Context) (*target, error) { return b.startTarget(ctx, name) }
	return t, nil
}

func findNginx() (string, error) {
	path, err := exec.LookPath("nginx")
	if err == nil {
		return path, nil
	}
	const usual = "/usr/sbin/nginx" // not in everybody's PATH
	if _, err := os.Stat(usual); err == nil {
		return usual, nil
	}
	return "", errNoNginx
}

var errNoNginx = errors.New("nginx is not installed (apt-get install nginx)")

// wanted are the targets of the run.
func (s *settings) wanted() []string {
	if s.only == "" {
		return allTargets()
	}
	return strings.Split(s.only, ",")
}
