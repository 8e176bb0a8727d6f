package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"linkspan/cnm"
)

// Host is a socket that the API listens on.
type Host struct {
	// Proto is "unix", "tcp" or "fd" (a socket that systemd opened).
	Proto string
	// Addr is the path of a unix socket; for tcp, address and port; for fd, the name
	// or number of the passed descriptor, or "" for all of them.
	Addr string
}

// Loopback says that only this host reaches the socket.
func (h Host) Loopback() bool {
	if h.Proto != "tcp" {
		return true
	}
	a, err := netip.ParseAddrPort(h.Addr)
	return err == nil && a.Addr().IsLoopback()
}

func (h Host) String() string { return h.Proto + "://" + h.Addr }

// maxSocketPath is sun_path in unix(7), 108 bytes with the zero at the end.
const maxSocketPath = 107

// parseHost reads what -H takes.
func parseHost(s string) (Host, error) {
	proto, addr, ok := strings.Cut(strings.TrimSpace(s), "://")
	if !ok {
		if filepath.IsAbs(s) {
			return Host{}, cnm.Invalid("invalid bind address (%s): write it as unix://%s", s, s)
		}
		proto, addr = "tcp", s // as dockerd reads it
	}
	switch proto {
	case "unix":
		// "unix://" alone is the default socket: settle fills it in.
		if addr != "" && !filepath.IsAbs(addr) {
			return Host{}, cnm.Invalid("invalid bind address (%s): the path of a unix socket begins with /", s)
		}
		if len(addr) > maxSocketPath {
			return Host{}, cnm.Invalid("invalid bind address (%s): the path has %d bytes, and the kernel takes at most %d", s, len(addr), maxSocketPath)
		}
		if addr != "" {
			addr = filepath.Clean(addr)
		}
		return Host{"unix", addr}, nil
	case "fd":
		return Host{"fd", addr}, nil
	case "tcp":
		return tcpHost(s, addr)
	}
	return Host{}, cnm.Invalid("invalid bind address (%s): use unix:///path, tcp://ADDRESS:PORT or fd://", s)
}

// tcpHost reads ADDRESS:PORT. As in dockerd, no address is the loopback, and no
// port (or none at all) is 2375, or 2376 with TLS: settle decides that.
func tcpHost(whole, addr string) (Host, error) {
	bad := func(why string) (Host, error) {
		return Host{}, cnm.Invalid("invalid bind address (%s): %s; write it like tcp://127.0.0.1:2376 or tcp://[::1]:2376", whole, why)
	}
	addr = strings.TrimSuffix(addr, "/")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		// Without a port: SplitHostPort wants one.
		host, port = strings.Trim(addr, "[]"), ""
		if strings.Contains(host, ":") && !strings.HasPrefix(addr, "[") {
			return bad("an IPv6 address stands in brackets, and behind it a port")
		}
	}
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	switch host {
	case "", "localhost":
	default:
		if ip, err = netip.ParseAddr(host); err != nil {
			return bad(fmt.Sprintf("%q is not an IP address of this host", host))
		}
	}
	n := uint64(0)
	if port != "" {
		if n, err = strconv.ParseUint(port, 10, 16); err != nil {
			return bad(fmt.Sprintf("%q is not a port", port))
		}
	}
	return Host{"tcp", netip.AddrPortFrom(ip.Unmap(), uint16(n)).String()}, nil
}

// port fills in the port of a TCP host that named none.
func (h Host) port(tls bool) Host {
	a, err := netip.ParseAddrPort(h.Addr)
	if h.Proto != "tcp" || err != nil || a.Port() != 0 {
		return h
	}
	n := uint16(2375)
	if tls {
		n = 2376
	}
	return Host{"tcp", netip.AddrPortFrom(a.Addr(), n).String()}
}
