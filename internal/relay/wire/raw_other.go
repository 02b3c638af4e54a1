//go:build !unix

package wire

import "net"

// rawReader is not available: connections hold a small buffer while they wait.
type rawReader struct{}

func (r *rawReader) init(*conn, net.Conn) {}
func (r *rawReader) ok() bool             { return false }
func (r *rawReader) read() error          { return nil }

func (c *conn) alive() bool { return true }
