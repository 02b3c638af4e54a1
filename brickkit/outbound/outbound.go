// Package outbound holds the only two ways out of the process: Operator, for
// addresses that whoever runs the service wrote down, and Untrusted, for
// addresses that anybody else may have chosen. Both look at the address that
// is about to be connected, never at a name or a URL, so that no spelling, no
// redirect and no change of a DNS answer leads past them.
package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/jimu-ai/jimu"
)

// ConnectTimeout is the longest wait for a connection.
const ConnectTimeout = 5 * time.Second

// Policy loosens the rules.
type Policy struct {
	// Allow lists networks that may be reached although the rules deny them.
	// Link-local and metadata addresses stay out of reach.
	Allow []netip.Prefix
	// FakeIP lets connections into 198.18.0.0/15, where some proxies put
	// every name. Switch it on only on a machine with such a proxy.
	FakeIP bool
	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver
}

// Dialer opens connections to addresses that its rules allow.
type Dialer struct {
	net    net.Dialer
	policy Policy
	strict bool
}

// Operator makes the dialer for addresses from the operator's configuration:
// the local network and the machine itself are allowed.
func Operator(p Policy) *Dialer { return newDialer(p, false) }

// Untrusted makes the dialer for all other addresses: only public ones are
// allowed. It knows no proxy.
func Untrusted(p Policy) *Dialer { return newDialer(p, true) }

func newDialer(p Policy, strict bool) *Dialer {
	d := &Dialer{policy: p, strict: strict}
	d.net = net.Dialer{Timeout: ConnectTimeout, Resolver: p.Resolver, ControlContext: d.control}
	return d
}

// DialContext connects to an address of TCP. It fails with Forbidden where the
// rules deny the address.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		return d.net.DialContext(ctx, network, address)
	}
	return nil, jimu.Errorf(jimu.Forbidden, "connections by %s are not made", network)
}

// control is called with the address in numbers, before it is connected.
func (d *Dialer) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("reading the address to connect: %w", err)
	}
	return d.Check(ap.Addr())
}

// Check fails with Forbidden where the rules deny an address.
func (d *Dialer) Check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if never(a) {
		return denied(a)
	}
	for _, p := range d.policy.Allow {
		if p.Contains(a) {
			return nil
		}
	}
	if fakeIP.Contains(a) {
		if d.policy.FakeIP {
			return nil
		}
		return denied(a)
	}
	if inner, ok := embedded(a); ok && (d.strict || d.Check(inner) != nil) {
		return denied(a)
	}
	if d.strict && !public(a) {
		return denied(a)
	}
	return nil
}

func denied(a netip.Addr) error {
	return jimu.Errorf(jimu.Forbidden, "connections to %s are not allowed", a)
}

func prefixes(list ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(list))
	for i, s := range list {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// neverList may not be reached by anybody: where clouds answer with the
// machine's own secrets, and what is no address of a single machine.
var neverList = prefixes( //nolint:gochecknoglobals // a constant table
	"169.254.0.0/16", "fe80::/10", // link-local, with most clouds' metadata
	"100.100.100.200/32",  // Alibaba
	"192.0.0.192/32",      // Oracle
	"168.63.129.16/32",    // Azure
	"fd00:ec2::254/128",   // Amazon
	"fd20:ce::254/128",    // Google
	"0.0.0.0/8", "::/128", // this machine, by accident
	"224.0.0.0/4", "ff00::/8", // many machines
	"240.0.0.0/4",                     // reserved, with broadcast
	"fec0::/10",                       // site-local, long withdrawn
	"2001::/32", "2002::/16", "::/96", // IPv4 within IPv6 by means that are out of use
	"64:ff9b:1::/48", "::ffff:0:0:0/96", // translators of somebody's own
)

func never(a netip.Addr) bool {
	if a.IsLoopback() {
		return false // ::1 lies within ::/96
	}
	return !a.IsValid() || within(a, neverList)
}

var fakeIP = netip.MustParsePrefix("198.18.0.0/15") //nolint:gochecknoglobals // a constant

var nat64 = netip.MustParsePrefix("64:ff9b::/96") //nolint:gochecknoglobals // a constant

// embedded returns the IPv4 address that a translator will connect to.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !nat64.Contains(a) {
		return netip.Addr{}, false
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// special are the networks that are not public, besides those of neverList
// (the registries of special-purpose addresses, RFC 6890).
var special = prefixes( //nolint:gochecknoglobals // a constant table
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10",
	"192.0.0.0/24", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "192.88.99.0/24", "192.31.196.0/24",
	"192.52.193.0/24", "192.175.48.0/24",
	"::1/128", "fc00::/7", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
	"2620:4f:8000::/48",
)

// global is where IPv6 addresses are given out so far.
var global = netip.MustParsePrefix("2000::/3") //nolint:gochecknoglobals // a constant

func public(a netip.Addr) bool {
	return !within(a, special) && (a.Is4() || global.Contains(a))
}
