package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"linkspan/cnm"
	"linkspan/publish"
)

// ownAddress reads --listen: an address that this host has, and others can reach.
func (h *Host) ownAddress(word string) (netip.Addr, error) {
	have := h.addresses()
	list := "it has none that others reach"
	if len(have) > 0 {
		var words []string
		for _, a := range have {
			words = append(words, a.String())
		}
		list = "it has " + strings.Join(words, ", ")
	}
	if word == "" {
		return netip.Addr{}, cnm.Invalid("--listen is missing: name this host's own address on the wire that the hosts share (%s)", list)
	}
	a, err := netip.ParseAddr(strings.Trim(word, "[]"))
	if err != nil {
		hint := "want an address such as 10.0.0.1"
		if ap, err := netip.ParseAddrPort(word); err == nil {
			hint = fmt.Sprintf("without a port: --listen %s (ports are set by --mesh-port of the daemon)", ap.Addr())
		}
		return netip.Addr{}, cnm.Invalid("--listen %s is no address: %s", word, hint)
	}
	a = a.Unmap()
	switch {
	case a.IsUnspecified():
		return a, cnm.Invalid("--listen %s is every address, and the others need one to come to: %s", a, list)
	case a.IsMulticast():
		return a, cnm.Invalid("--listen %s is a group's address, not a host's: %s", a, list)
	}
	if !h.has(a) {
		return a, cnm.Invalid("--listen %s is not an address of this host: %s; name one of these, or give the host that one first (ip addr add %s/24 dev …)", a, list, a)
	}
	return a, nil
}

// has says whether an address is this host's: only then can it be bound (ip(7)).
func (h *Host) has(a netip.Addr) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	}
	_ = c.Close()
	return true
}

// addresses are those of this host that others may reach it by.
func (h *Host) addresses() (out []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, x := range all {
		n, ok := x.(*net.IPNet)
		if !ok {
			continue
		}
		a, ok := netip.AddrFromSlice(n.IP)
		if a = a.Unmap(); !ok || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue
		}
		out = append(out, a)
	}
	return out
}

// sourceTo is the address that this host reaches another by: that which the kernel puts
// on a packet to it (connect(2) of a datagram socket sends nothing).
func sourceTo(ctx context.Context, gate string) (netip.Addr, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", gate)
	if err != nil {
		return netip.Addr{}, cnm.Errorf(cnm.ErrUnavailable, "%s is not reached: %w; is there a route to it (ip route get)?", gate, err)
	}
	defer c.Close()
	at, err := netip.ParseAddrPort(c.LocalAddr().String())
	return at.Addr().Unmap().WithZone(""), err
}

// gateAddress reads HOST[:PORT].
func gateAddress(word string, usual uint16) (string, error) {
	const say = "want HOST or HOST:2380, such as 10.0.0.1:2380"
	if strings.Contains(word, "/") || word == "" {
		return "", cnm.Invalid("%q is no host of a mesh: %s", word, say)
	}
	host, p, err := net.SplitHostPort(word)
	if err != nil {
		host, p = strings.Trim(word, "[]"), strconv.Itoa(int(usual))
		if strings.Contains(host, ":") {
			if _, err := netip.ParseAddr(host); err != nil {
				return "", cnm.Invalid("%q is no host of a mesh: %s", word, say)
			}
		}
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 || host == "" {
		return "", cnm.Invalid("%q is no host of a mesh: %s", word, say)
	}
	return net.JoinHostPort(host, p), nil
}

// need is a port that the mesh needs on this host.
type need struct {
	proto string // "tcp" or "udp"
	port  uint16
	what  string // for whom
	name  string // of --mesh-port
}

// memberPorts are those of a host that runs etcd, hostPorts those of every one.
func (p Ports) memberPorts() []need {
	return []need{{"tcp", p.Gate, "hosts that join", "gate"}, {"tcp", p.Etcd, "etcd's clients", "etcd"}, {"tcp", p.Peer, "etcd's members", "etcd-peer"}}
}

func (p Ports) hostPorts() []need {
	return []need{{"tcp", p.Check, "probes", "check"}, {"udp", p.Check, "probes", "check"}, {"udp", p.VXLAN, "VXLAN", "vxlan"},
		{"udp", p.Secure, "VXLAN of encrypted networks", "vxlan-secure"}, {"udp", p.Encryption, "WireGuard", "wireguard"}}
}

// free errs for the first port that another holds, and says who.
func (h *Host) free(at netip.Addr, needs []need) error {
	for _, n := range needs {
		if err := tryPort(at, n); err != nil {
			return err
		}
	}
	return nil
}

func tryPort(at netip.Addr, n need) error {
	where := netip.AddrPortFrom(at, n.port)
	if n.proto == "udp" && n.what != "probes" {
		// Tunnels are the kernel's, on every address; it shares its VXLAN sockets among
		// devices of one port, and only a program's is in the way.
		p, taken := publish.Holder("udp", netip.Addr{}, n.port)
		if !taken || p.PID == 0 {
			return nil
		}
		return n.taken(where, p, nil)
	}
	var err error
	if n.proto == "tcp" {
		var l net.Listener
		if l, err = net.Listen("tcp", where.String()); err == nil {
			return l.Close()
		}
	} else {
		var c *net.UDPConn
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(where)); err == nil {
			return c.Close()
		}
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return cnm.Errorf(cnm.ErrUnavailable, "%s port %d on %s, for %s: %w", strings.ToUpper(n.proto), n.port, at, n.what, err)
	}
	p, _ := publish.Holder(n.proto, at, n.port)
	if p.Waiting {
		return nil // closed connections: a listener may be there all the same (SO_REUSEADDR is Go's default)
	}
	return n.taken(where, p, err)
}

func (n need) taken(where netip.AddrPort, p publish.Process, err error) error {
	by := "another program, which cannot be seen from here"
	if p.PID != 0 {
		by = fmt.Sprintf("%s (pid %d)", p.Command, p.PID)
	}
	return cnm.Conflict("%s port %d, which the mesh needs for %s, is held by %s: stop it, or have the daemon use another port on every host (--mesh-port %s=NUMBER)", strings.ToUpper(n.proto), n.port, n.what, by, n.name)
}
