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
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jimu-ai/jimu/internal/relay"
	"github.com/jimu-ai/jimu/internal/relay/wire"
)

func TestMain(m *testing.M) {
	if upstream := os.Getenv("JIMU_RELAY_UPSTREAM"); upstream != "" {
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
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); { // each line asks for it
		debug.FreeOSMemory()
		fmt.Println("freed")
	}
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

// A held stream costs at most 16 KiB of memory.
func TestStreamMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	streams, _ := strconv.Atoi(os.Getenv("JIMU_TEST_STREAMS"))
	if streams == 0 {
		streams = 2000
	}
	hold := make(chan struct{})
	begun := make(chan struct{}, streams)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text("x"))
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-hold:
				_, _ = io.WriteString(w, done)
				return
			case <-tick.C:
				_, _ = io.WriteString(w, text("more and more"))
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	defer up.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "JIMU_RELAY_UPSTREAM="+up.URL)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(strings.TrimSpace(line), "http://")
	conns := make([]net.Conn, streams)
	open := func(i int) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n%s", len(stream), stream)
	}
	open(0)
	<-begun
	idle := rss(t, cmd.Process.Pid)
	for i := 1; i < streams; i++ {
		open(i)
		if i >= 50 { // that many at once wait for their first event
			<-begun
		}
	}
	go func() {
		for {
			buf := make([]byte, 64<<10)
			alive := false
			for _, c := range conns {
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, err := c.Read(buf); err == nil || os.IsTimeout(err) {
					alive = true
				}
			}
			if !alive {
				return
			}
		}
	}()
	// What opening them needed for a moment is given back, as a server does in
	// time; what holding them needs builds up again.
	fmt.Fprintln(in)
	if _, err := said.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	held := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 15 { // the highest of a second and a half
		<-tick.C
		held = max(held, rss(t, cmd.Process.Pid))
	}
	each := float64(held-idle) / float64(streams-1)
	t.Logf("%d streams: %d KiB idle, %d KiB held, %.1f KiB each", streams, idle, held, each)
	if each > 16 {
		t.Errorf("a stream holds %.1f KiB, more than 16", each)
	}
	close(hold)
	_ = in.Close()
	_ = cmd.Wait()
	for _, c := range conns {
		_ = c.Close()
	}
}
