package publish

import (
	"net/netip"
	"slices"

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
	// By host port: only those whose ports overlap are compared, since a container
	// may well publish a thousand.
	type spot struct{ i, end int }
	var fixed []spot
	for i, r := range reqs {
		if r.fixed() {
			fixed = append(fixed, spot{i, int(r.HostPortEnd)})
		}
	}
	slices.SortStableFunc(fixed, func(a, b spot) int { return int(reqs[a.i].HostPort) - int(reqs[b.i].HostPort) })
	var open []spot // those that reach as far as where the round is
	for _, at := range fixed {
		r := reqs[at.i]
		open = slices.DeleteFunc(open, func(o spot) bool { return o.end < int(r.HostPort) })
		for _, o := range open {
			if f := reqs[o.i]; Conflict(f.published(f.HostPort), r.published(r.HostPort)) {
				first, second := reqs[min(o.i, at.i)], reqs[max(o.i, at.i)]
				return cnm.Invalid("invalid port specification: %q and %q want the same host port: "+
					"port is already allocated; choose another host port for one of them", first.String(), second.String())
			}
		}
		open = append(open, at)
	}
	return nil
}

// fixed says that the request leaves nothing to choose.
func (r Request) fixed() bool { return r.HostPort != 0 && r.HostPortEnd-r.HostPort == r.PortEnd-r.Port }

// published is the request with its host port chosen.
func (r Request) published(host uint16) cnm.PublishedPort {
	return cnm.PublishedPort{Proto: r.Proto, HostIP: r.HostIP, HostPort: host, HostPortEnd: host + (r.PortEnd - r.Port), Port: r.Port}
}
