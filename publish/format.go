package publish

import (
	"net/netip"
	"strconv"
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

func hostPort(ip netip.Addr, port uint16) string { return bracket(ip) + ":" + strconv.Itoa(int(port)) }

func bracket(ip netip.Addr) string {
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}
