package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jimu-ai/jimu/internal/mock"
)

// streaming is a jimu with a funded user in front of mock upstreams.
func streaming(t *testing.T, upstreams string) (j *jimu, s *server, key string) {
	t.Helper()
	j = newJimu(t)
	write(t, j.dir, "jimu.yaml", "admin_listen: \"\"\nprices:\n  m: {input: 1, output: 1}\nupstreams:\n"+upstreams)
	j.run(t, "user", "create", "ann")
	key = j.run(t, "key", "create", "--user", "ann")
	j.run(t, "credit", "grant", "--user", "ann", "--amount", "1000", "--reason", "test")
	s = j.serve(t)
	t.Cleanup(func() { j.clean(t) })
	return j, s, key
}

// Long lines, CRLF, comments, named events, split characters, no blank line at
// the end: what the client gets is what the upstream sent.
func TestStreamPassesThroughByteForByte(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(mock.New(mock.Options{}))
	t.Cleanup(upstream.Close)
	_, s, key := streaming(t, `  - {name: mock, vendor: openai-compatible, base_url: "`+upstream.URL+`/v1", key: sk-x, models: ["m=mock-odd"]}`)
	resp, err := post(t, s.url, key, object{
		"model": "m", "stream": true, "stream_options": object{"include_usage": true},
		"messages": []object{{"role": "user", "content": "hello"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want := mock.OddStream(); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, %d were sent, and they are not the same", len(got), len(want))
	}
	s.stop(t)
}

// An upstream that answers 200 and then an error as its first event is
// replaced by the next one; the client sees one clean stream and pays once.
func TestErrorAfter200FailsOver(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(mock.New(mock.Options{}))
	t.Cleanup(upstream.Close)
	row := func(name, model string, priority string) string {
		return `  - {name: ` + name + `, vendor: openai-compatible, base_url: "` + upstream.URL + `/v1", key: sk-x, models: ["m=` + model + `"], priority: ` + priority + "}\n"
	}
	j, s, key := streaming(t, row("bad", "mock-error-after-200", "1")+row("good", "mock-model", "0"))
	resp, err := post(t, s.url, key, chatBody("m", true))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("X-Jimu-Upstream") != "good" || strings.Contains(string(got), "error") || !strings.HasSuffix(string(got), "data: [DONE]\n\n") {
		t.Errorf("from %q came %s", resp.Header.Get("X-Jimu-Upstream"), got)
	}
	if n := len(statement(t, s.url, key)); n != 2 { // the grant and one charge
		t.Errorf("%d entries on the statement, want 2", n)
	}
	if out := j.run(t, "route", "m", "--as", "ann"); !strings.Contains(out, "good") {
		t.Errorf("the route is not explained: %s", out)
	}
	s.stop(t)
}

// A reload changes what is served and drops no stream.
func TestReloadKeepsStreams(t *testing.T) {
	t.Parallel()
	const events = 40
	upstream := httptest.NewServer(mock.New(mock.Options{Chunks: events, Interval: 25 * time.Millisecond}))
	t.Cleanup(upstream.Close)
	row := `  - {name: mock, vendor: openai-compatible, base_url: "` + upstream.URL + `/v1", key: sk-x, models: [m`
	j, s, key := streaming(t, row+"]}")
	resp, err := post(t, s.url, key, chatBody("m", true))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // a test
	lines := bufio.NewReader(resp.Body)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	write(t, j.dir, "jimu.yaml", "admin_listen: \"\"\nprices:\n  m: {input: 1, output: 1}\n  late: {input: 1, output: 1}\nupstreams:\n"+row+", late]}")
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	all := first + string(rest)
	if n := strings.Count(all, "data: "); n < events || !strings.HasSuffix(all, "data: [DONE]\n\n") {
		t.Errorf("the stream was cut after %d events: %s", n, all)
	}
	late, err := post(t, s.url, key, chatBody("late", false))
	if err != nil {
		t.Fatal(err)
	}
	_ = late.Body.Close()
	if late.StatusCode != http.StatusOK {
		t.Errorf("the model of the new configuration: %s", late.Status)
	}
	s.stop(t)
}
