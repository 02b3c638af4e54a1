package relay

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// tcp returns the two ends of a connection.
func tcp(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if theirs, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

func TestWatch(t *testing.T) {
	t.Parallel()
	var w watcher
	defer w.close()
	for range 3 {
		ours, theirs := tcp(t)
		gone := make(chan struct{})
		h := w.add(ours, func() { close(gone) })
		if h == nil {
			t.Fatal("it cannot be watched")
		}
		_, _ = io.WriteString(theirs, "the next request")
		_ = theirs.Close()
		<-gone
		h.end()
		if got, err := io.ReadAll(ours); string(got) != "the next request" {
			t.Errorf("what the client sent is gone: %q, %v", got, err)
		}
	}
	ours, theirs := tcp(t)
	w.add(ours, func() { t.Error("a watch that ended still calls") }).end()
	_ = theirs.Close()
	ours, theirs = tcp(t) // its event comes after that one's would
	gone := make(chan struct{})
	w.add(ours, func() { close(gone) })
	_ = theirs.Close()
	<-gone
}

func TestRest(t *testing.T) {
	t.Parallel()
	var w watcher
	rest := func(limit time.Duration, before string) (theirs net.Conn, woken chan struct{}) {
		ours, theirs := tcp(t)
		h := w.add(ours, func() {})
		_, _ = io.WriteString(theirs, before)
		woken = make(chan struct{})
		h.rest(ours, limit, func() { close(woken) })
		return theirs, woken
	}
	_, woken := rest(time.Hour, "a request that came early")
	<-woken
	theirs, woken := rest(time.Hour, "")
	_, _ = io.WriteString(theirs, "a request")
	<-woken
	theirs, woken = rest(time.Hour, "")
	_ = theirs.Close()
	<-woken
	theirs, _ = rest(time.Millisecond, "")
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after its time: %v", err)
	}
	theirs, _ = rest(time.Hour, "")
	w.close()
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if ours, _ := tcp(t); w.add(ours, func() {}) != nil {
		t.Error("it watches after its end")
	}
}
