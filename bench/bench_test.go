package main

import (
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoads(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(mockUpstream())
	defer srv.Close()
	proxied := httptest.NewServer(reverseProxy(srv.Listener.Addr().String()))
	defer proxied.Close()
	for _, l := range []net.Listener{srv.Listener, proxied.Listener} {
		target := newTarget("x", l.Addr().String(), "k", true)
		closed, err := target.loads[plain].closed(t.Context(), 4, 50*time.Millisecond)
		if err != nil || closed.count == 0 || closed.rate() == 0 || closed.at(500) > closed.at(990) {
			t.Errorf("closed: %+v, %v", closed, err)
		}
		open, err := target.loads[plain].open(t.Context(), 4, 200, 100*time.Millisecond)
		if err != nil || open.count != 20 {
			t.Errorf("open: %+v, %v", open, err)
		}
		target.loads[fast].request = request(l.Addr().String(), fast, "m", "k", true)
		opened := make(chan struct{})
		held, err := target.loads[fast].hold(t.Context(), 2, time.Millisecond, opened)
		if want := 2 * streamChunks(streams()[0].length, fastInterval); err != nil || held.count != want {
			t.Errorf("held: %d events, want %d, %v", held.count, want, err)
		}
		<-opened
		target.loads[plain].request = request(l.Addr().String(), "/nowhere", "m", "k", false)
		if _, err := target.loads[plain].closed(t.Context(), 1, time.Second); err == nil {
			t.Error("a refusal counts as an answer")
		}
	}
}

// A stall is felt by every request that was due in it.
func TestOpenLoopCountsFromDue(t *testing.T) {
	t.Parallel()
	s := sample{delays: []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, count: 10, took: time.Second}
	if s.at(500) != 6 || s.at(990) != 10 || s.rate() != 10 || (&sample{}).at(500) != 0 {
		t.Errorf("%v %v %v", s.at(500), s.at(990), s.rate())
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{milli(1234, 2), "1.23"},
		{milli(12, 3), "0.012"},
		{milli(5000, 0), "5"},
		{short(750), "0.75"},
		{short(40_000), "40"},
		{mib(1536), "1.5"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
	if median([]int64{5, 1, 3}) != 3 || median(nil) != 0 || ratio(3, 2) != 1500 || ratio(1, 0) != 0 {
		t.Error("median or ratio")
	}
}
