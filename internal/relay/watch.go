package relay

import "net"

// watchByReading calls gone when the other end of a connection hangs up, by
// reading from it: what is read is lost, so the connection cannot be used
// again. Closing the connection ends the watch.
func watchByReading(conn net.Conn, gone func()) {
	go func() {
		var one [1]byte
		for {
			if _, err := conn.Read(one[:]); err != nil {
				gone()
				return
			}
		}
	}()
}
