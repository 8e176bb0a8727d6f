package publish

import (
	"net/netip"
	"strconv"

	"linkspan/cnm"
)

// String is the request as -p takes it.
func (r Request) String() string {
	s := ""
	if r.HostIP.IsValid() {
		s = bracket(r.HostIP) + ":"
	}
	if r.HostPort != 0 {
		s += span(r.HostPort, r.HostPortEnd)
	}
	if s != "" {
		s += ":"
	}
	return s + span(r.Port, r.PortEnd) + "/" + r.Proto
}

// Describe is a published port as docker ps prints it:
// "0.0.0.0:8000-8010->9000-9010/tcp".
func Describe(p cnm.PublishedPort) string {
	return hostSide(p) + "->" + span(p.Port, p.Port+p.HostPortEnd-p.HostPort) + "/" + p.Proto
}

// hostSide is the host's part, with 0.0.0.0 for the zero address as in Docker's
// messages.
func hostSide(p cnm.PublishedPort) string {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return bracket(ip) + ":" + span(p.HostPort, p.HostPortEnd)
}

func hostPort(ip netip.Addr, port uint16) string { return bracket(ip) + ":" + strconv.Itoa(int(port)) }

func bracket(ip netip.Addr) string {
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}
