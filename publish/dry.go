package publish

import (
	"context"
	"net/netip"
	"syscall"

	"linkspan/cnm"
)

// Dry is a Reserver that takes nothing: it says what a real one would, for
// plans and checks. What it sees free may be taken a moment later.
type Dry struct {
	// Held are the ports that containers publish.
	Held []cnm.PublishedPort
	// Process finds the process that holds a port; nil means Holder.
	Process func(proto string, addr netip.Addr, port uint16) (Process, bool)
}

// Reserve implements [Reserver].
func (d Dry) Reserve(_ context.Context, _ string, ports []cnm.PublishedPort) error {
	process := d.Process
	if process == nil {
		process = Holder
	}
	for i, p := range ports {
		addrs := []netip.Addr{p.HostIP}
		if !p.HostIP.IsValid() {
			addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		}
		for _, h := range d.Held {
			if Conflict(p, h) {
				return &TakenError{Index: i, Addr: addrs[0], Port: max(p.HostPort, h.HostPort), Err: syscall.EADDRINUSE}
			}
		}
		// A range is not looked up port by port: the answer of a plan is not worth a
		// thousand readings of /proc.
		for _, a := range addrs {
			if _, taken := process(p.Proto, a, p.HostPort); taken {
				return &TakenError{Index: i, Addr: a, Port: p.HostPort, Err: syscall.EADDRINUSE}
			}
		}
	}
	return nil
}
