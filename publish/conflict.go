package publish

import (
	"net/netip"

	"linkspan/cnm"
)

// Conflict says whether two published ports cannot both be had: the same
// protocol, a common host port, and addresses of which one covers the other.
// The zero address covers all, 0.0.0.0 all of IPv4, [::] all of IPv6 (our IPv6
// sockets are v6-only).
func Conflict(a, b cnm.PublishedPort) bool {
	return a.Proto == b.Proto &&
		a.HostPort <= b.HostPortEnd && b.HostPort <= a.HostPortEnd &&
		covers(a.HostIP, b.HostIP)
}

func covers(a, b netip.Addr) bool {
	switch {
	case !a.IsValid() || !b.IsValid() || a == b:
		return true
	case a.Is4() != b.Is4():
		return false
	}
	return a.IsUnspecified() || b.IsUnspecified()
}

// Check finds what a container's own requests ask for twice: two fixed host
// ports that conflict. It errs with cnm.ErrInvalid, naming both.
func Check(reqs []Request) error {
	var fixed []Request
	for _, r := range reqs {
		if !r.fixed() {
			continue
		}
		for _, f := range fixed {
			if Conflict(f.published(f.HostPort), r.published(r.HostPort)) {
				return cnm.Invalid("invalid port specification: %q and %q want the same host port: "+
					"port is already allocated; choose another host port for one of them", f.String(), r.String())
			}
		}
		fixed = append(fixed, r)
	}
	return nil
}

// fixed says that the request leaves nothing to choose.
func (r Request) fixed() bool { return r.HostPort != 0 && r.HostPortEnd-r.HostPort == r.PortEnd-r.Port }

// published is the request with its host port chosen.
func (r Request) published(host uint16) cnm.PublishedPort {
	return cnm.PublishedPort{Proto: r.Proto, HostIP: r.HostIP, HostPort: host, HostPortEnd: host + (r.PortEnd - r.Port), Port: r.Port}
}
