package relay

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells at once when a client hangs up, while nothing is read from or
// written to its connection, and when the next request comes on a connection
// that rests. One goroutine watches all of them.
type watcher struct {
	mu    sync.Mutex
	file  *os.File
	fd    int
	next  uint64
	calls map[uint64]func()
	// resting are the connections that wait for their client's next request.
	resting map[uint64]net.Conn
	over    bool
}

// The events that mean that a client went away, and those that mean that its
// connection is to be read.
const (
	hungUp   = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLONESHOT
	readable = hungUp | unix.EPOLLIN
)

// watch is a connection being watched. A nil one is watched in another way.
type watch struct {
	w  *watcher
	id uint64
	rc syscall.RawConn
}

// add calls gone, once at most, when the other end of a connection hangs up.
// It returns nil where that is only found out by reading from the connection,
// which then cannot be used for another request.
func (w *watcher) add(conn net.Conn, gone func()) *watch {
	h, err := w.watch(conn, gone)
	if err != nil {
		watchByReading(conn, gone)
		return nil
	}
	return h
}

func (w *watcher) watch(conn net.Conn, gone func()) (*watch, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	h := &watch{w: w, rc: rc}
	if h.id, err = w.register(gone); err != nil {
		return nil, err
	}
	if err := h.control(unix.EPOLL_CTL_ADD, hungUp); err != nil {
		w.forget(h.id)
		return nil, err
	}
	return h, nil
}

func (h *watch) control(op int, events uint32) error {
	var failed error
	err := h.rc.Control(func(fd uintptr) {
		failed = unix.EpollCtl(h.w.fd, op, int(fd), &unix.EpollEvent{
			Events: events, Fd: int32(uint32(h.id)), Pad: int32(uint32(h.id >> 32)), //nolint:gosec // the two halves of the ID
		})
	})
	if err != nil {
		return err
	}
	return failed
}

// end ends the watch. It does not wait for a call that has begun.
func (h *watch) end() {
	if h != nil {
		h.w.forget(h.id)
		_ = h.control(unix.EPOLL_CTL_DEL, 0)
	}
}

// rest waits for the client's next request, or its going, and then calls wake.
// After a time, or when the watcher is closed, the connection is closed.
func (h *watch) rest(conn net.Conn, limit time.Duration, wake func()) {
	w := h.w
	timer := time.AfterFunc(limit, func() {
		if w.wake(h.id) {
			_ = conn.Close()
		}
	})
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		timer.Stop()
		_ = conn.Close()
		return
	}
	w.resting[h.id] = conn
	w.calls[h.id] = func() {
		if w.wake(h.id) {
			timer.Stop()
			_ = h.control(unix.EPOLL_CTL_DEL, 0)
			go wake()
		}
	}
	w.mu.Unlock()
	if h.control(unix.EPOLL_CTL_MOD, readable) != nil && w.wake(h.id) {
		timer.Stop()
		_ = conn.Close()
	}
}

// wake ends a connection's rest. It reports true to one caller.
func (w *watcher) wake(id uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.resting[id]
	delete(w.resting, id)
	delete(w.calls, id)
	return ok
}

func (w *watcher) register(gone func()) (id uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return 0, net.ErrClosed
	}
	if w.file == nil {
		if err := w.start(); err != nil {
			return 0, err
		}
	}
	w.next++
	w.calls[w.next] = gone
	return w.next, nil
}

func (w *watcher) forget(id uint64) {
	w.mu.Lock()
	delete(w.calls, id)
	w.mu.Unlock()
}

// start makes the epoll set. It is itself waited on by the runtime's poller,
// so no thread is blocked.
func (w *watcher) start() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return err
	}
	file := os.NewFile(uintptr(fd), "epoll")
	rc, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return err
	}
	w.fd, w.file = fd, file
	w.calls, w.resting = make(map[uint64]func()), make(map[uint64]net.Conn)
	go w.loop(rc)
	return nil
}

func (w *watcher) loop(rc syscall.RawConn) {
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := rc.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return n > 0 || (err != nil && err != unix.EINTR)
		})
		if err != nil || n < 0 {
			return // closed
		}
		for _, e := range events[:n] {
			id := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 //nolint:gosec // the two halves of the ID
			w.mu.Lock()
			call := w.calls[id]
			delete(w.calls, id)
			w.mu.Unlock()
			if call != nil {
				call()
			}
		}
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	w.over = true
	resting := w.resting
	w.resting = nil
	if w.file != nil {
		_ = w.file.Close()
	}
	w.mu.Unlock()
	for _, c := range resting {
		_ = c.Close()
	}
}
