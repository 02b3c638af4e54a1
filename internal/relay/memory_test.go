package relay_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

func TestMain(m *testing.M) {
	if upstream := os.Getenv("JIMU_RELAY_UPSTREAM"); upstream != "" { //nolint:forbidigo // the test's own child
		gateway(upstream)
		return
	}
	goleak.VerifyTestMain(m)
}

// gateway serves a relay until its standard input ends. It prints its address.
func gateway(upstream string) {
	b := newBed(new(testing.B), 1e18)
	b.client = wire.New(wire.Options{Dial: new(net.Dialer).DialContext})
	b.add("up", upstream)
	b.build(relay.Options{})
	fmt.Println(b.server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func rss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ticking is an upstream whose streams send an event ten times a second.
func ticking(t *testing.T, begun chan<- struct{}, end <-chan struct{}) string {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for first := true; ; first = false {
			_, _ = io.WriteString(w, text("more and more"))
			_ = http.NewResponseController(w).Flush()
			if first {
				begun <- struct{}{}
			}
			select {
			case <-end:
				_, _ = io.WriteString(w, done)
				return
			case <-tick.C:
			}
		}
	}))
	t.Cleanup(up.Close)
	return up.URL
}

// child is a gateway in a process of its own.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *bufio.Reader
	addr string
}

func startChild(t *testing.T, upstream string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), "JIMU_RELAY_UPSTREAM="+upstream)
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	c.addr = strings.TrimPrefix(c.line(), "http://")
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.cmd.Wait()
	})
	return c
}

func (c *child) line() string {
	c.t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// open begins a stream, and reads it in the background.
func (c *child) open() {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n%s", len(stream), stream)
	go func() { _, _ = io.Copy(io.Discard, conn) }()
}

// A held stream costs at most 16 KiB of memory.
func TestStreamMemory(t *testing.T) {
	if runtime.GOOS != "linux" || raceDetector || testing.Short() {
		t.Skip("it reads /proc, and the race detector needs memory of its own")
	}
	const streams = 2000
	end, begun := make(chan struct{}), make(chan struct{}, streams)
	c := startChild(t, ticking(t, begun, end))
	t.Cleanup(func() { close(end) })
	c.open()
	<-begun
	idle := rss(t, c.cmd.Process.Pid)
	for i := range streams - 1 {
		c.open()
		if i >= 50 { // that many at once wait for their first event
			<-begun
		}
	}
	// What opening them needed for a moment is given back within two seconds;
	// what holding them needs builds up again.
	held := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 45 {
		<-tick.C
		if i >= 25 { // the highest of two seconds
			held = max(held, rss(t, c.cmd.Process.Pid))
		}
	}
	each := float64(held-idle) / (streams - 1)
	t.Logf("%d streams: %d KiB idle, %d KiB held, %.1f KiB each", streams, idle, held, each)
	if each > 16 {
		t.Errorf("a stream holds %.1f KiB, more than 16", each)
	}
}
