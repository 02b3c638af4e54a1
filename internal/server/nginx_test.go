package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
	"github.com/jimu-ai/jimu/internal/routing"
	"github.com/jimu-ai/jimu/internal/store"
)

// liveRouter is the routing snapshot, brought up to date as the app does it.
func liveRouter(t *testing.T, s *store.Store) *routing.Router {
	t.Helper()
	r := routing.New(routing.Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	people := store.NewIdentity(s)
	set := func(ctx context.Context) {
		keys, err := people.KeyCallers(ctx)
		if err == nil {
			err = r.Set(routing.Inputs{Keys: keys, Price: func(string) *jimu.Price { return nil }})
		}
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
	set(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		var seen int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if rev, err := s.Main.Revision(ctx, "routing"); err == nil && rev != seen {
				seen = rev
				set(ctx)
			}
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

// service is another service, which trusts the proxy before it.
func service(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\n", r.Method, r.URL)
	for k, v := range r.Header {
		fmt.Fprintf(w, "%s: %s\n", k, strings.Join(v, "|"))
	}
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "body=%s\n", b)
}

// nginx starts a real nginx with the documented configuration in front of
// Jimu and a service, and returns its address.
func nginx(t *testing.T, jimuAddr, serviceAddr string) string {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if os.Getenv("CI") == "true" { //nolint:forbidigo // whether CI must have it
			t.Fatal("nginx is not installed")
		}
		t.Skip("nginx is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, dir := l.Addr().String(), t.TempDir()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, nginxConfig(t, dir, addr, jimuAddr, serviceAddr), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(bin, "-e", "stderr", "-p", dir, "-c", file)
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("nginx: %s", &out)
		}
	})
	awaitListener(t, addr, exited)
	return addr
}

// nginxConfig puts the documented file, with the addresses of the test in
// place of its own, into a whole configuration.
func nginxConfig(t *testing.T, dir, addr, jimuAddr, serviceAddr string) []byte {
	t.Helper()
	conf, err := os.ReadFile("../../deploy/nginx/auth_request.conf")
	if err != nil {
		t.Fatal(err)
	}
	text := string(conf)
	for old, now := range map[string]string{
		"listen 80;": "listen " + addr + ";", "127.0.0.1:8080": jimuAddr, "127.0.0.1:3000": serviceAddr,
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the configuration has no %q", old)
		}
		text = strings.Replace(text, old, now, 1)
	}
	return fmt.Appendf(nil, "daemon off;\nmaster_process off;\npid %[1]s/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"+
		"client_body_temp_path %[1]s/a;\nproxy_temp_path %[1]s/b;\nfastcgi_temp_path %[1]s/c;\nuwsgi_temp_path %[1]s/d;\nscgi_temp_path %[1]s/e;\n%[2]s}\n", dir, text)
}

func awaitListener(t *testing.T, addr string, exited <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", addr); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("nginx does not answer")
		case <-exited:
			t.Fatal("nginx ended")
		case <-tick.C:
		}
	}
}
