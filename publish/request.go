// Package publish is the grammar of published ports and the choice of host
// ports.
package publish

import "net/netip"

// Request is one wish to publish, before a host port is chosen.
type Request struct {
	Proto string // "tcp", "udp" or "sctp"
	// HostIP is the address to publish on; zero: the daemon's default, normally
	// every address of both families.
	HostIP netip.Addr
	// HostPort and HostPortEnd bound the host's side, inclusive. Both 0: any free
	// port. A range wider than the container's: one free port of it.
	HostPort, HostPortEnd uint16
	// Port and PortEnd bound the container's side, inclusive.
	Port, PortEnd uint16
}
