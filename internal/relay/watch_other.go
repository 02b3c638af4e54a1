//go:build !linux

package relay

import (
	"net"
	"time"
)

// watcher tells at once when a client hangs up.
type watcher struct{}

// watch is a connection being watched. A nil one is watched in another way.
type watch struct{}

// add calls gone when the other end of a connection hangs up. It returns nil,
// since that is only found out by reading from the connection.
func (w *watcher) add(conn net.Conn, gone func()) *watch {
	watchByReading(conn, gone)
	return nil
}

func (w *watcher) close() {}

func (h *watch) end() {}

func (h *watch) rest(conn net.Conn, _ time.Duration, _ func()) { _ = conn.Close() }
