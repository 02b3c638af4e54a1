package server

import (
	"net/http"
	"net/netip"
)

// Decode is decode, for its fuzz test.
var Decode = decode

// ClientAddress is the address that counts for a request.
func ClientAddress(trusted []netip.Prefix, peer string, forwarded []string) netip.Addr {
	s := &Server{o: Options{TrustedProxies: trusted}}
	return s.client(peerOf(&http.Request{RemoteAddr: peer}), forwarded)
}
