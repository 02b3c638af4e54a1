package relay

import (
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher tells at once when a client hangs up, while nothing is read from or
// written to its connection. One goroutine watches all of them.
type watcher struct {
	mu    sync.Mutex
	file  *os.File
	fd    int
	next  uint64
	calls map[uint64]func()
	over  bool
}

// hungUp are the events that mean that a client went away.
const hungUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLONESHOT

// add calls gone, once at most, when the other end of a connection hangs up.
// stop ends the watch; it does not wait for a call that has begun. watched
// reports that nothing is read from the connection for it.
func (w *watcher) add(conn net.Conn, gone func()) (stop func(), watched bool) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return watchByReading(conn, gone), false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return watchByReading(conn, gone), false
	}
	id, ok := w.register(gone)
	if !ok {
		return watchByReading(conn, gone), false
	}
	var failed error
	err = rc.Control(func(fd uintptr) {
		failed = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{
			Events: hungUp, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32)), //nolint:gosec // the two halves of the ID
		})
	})
	if err != nil || failed != nil {
		w.forget(id)
		return watchByReading(conn, gone), false
	}
	return func() {
		w.forget(id)
		_ = rc.Control(func(fd uintptr) { _ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, int(fd), nil) })
	}, true
}

func (w *watcher) register(gone func()) (id uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || (w.file == nil && w.start() != nil) {
		return 0, false
	}
	w.next++
	w.calls[w.next] = gone
	return w.next, true
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
	w.fd, w.file, w.calls = fd, os.NewFile(uintptr(fd), "epoll"), make(map[uint64]func())
	rc, err := w.file.SyscallConn()
	if err != nil {
		_ = w.file.Close()
		w.file = nil
		return err
	}
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
			gone := w.calls[id]
			delete(w.calls, id)
			w.mu.Unlock()
			if gone != nil {
				gone()
			}
		}
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.file != nil {
		_ = w.file.Close()
	}
}
