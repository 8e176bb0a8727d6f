package lab

import (
	"fmt"
	"net/netip"
)

// Wire is a cable between two interfaces.
type Wire struct {
	a, b       *Host
	DevA, DevB string
}

// Wire joins two hosts by a cable; both interfaces are up. Interfaces are called
// wan0, wan1, … on each host, so that tests see eth0 in containers only.
func (l *Lab) Wire(a, b *Host) *Wire {
	l.t.Helper()
	w := &Wire{a, b, a.nextDev(), b.nextDev()}
	a.Run("ip", "link", "add", w.DevA, "type", "veth", "peer", "name", w.DevB, "netns", b.nsName())
	a.Run("ip", "link", "set", w.DevA, "up")
	b.Run("ip", "link", "set", w.DevB, "up")
	return w
}

// Join is Wire with one address on each side.
func (l *Lab) Join(a, b *Host, addrA, addrB string) *Wire {
	l.t.Helper()
	w := l.Wire(a, b)
	a.Addr(w.DevA, netip.MustParsePrefix(addrA))
	b.Addr(w.DevB, netip.MustParsePrefix(addrB))
	return w
}

// MTU sets both ends.
func (w *Wire) MTU(n int) {
	w.a.lab.t.Helper()
	w.a.Run("ip", "link", "set", w.DevA, "mtu", fmt.Sprint(n))
	w.b.Run("ip", "link", "set", w.DevB, "mtu", fmt.Sprint(n))
}

// Cut pulls the cable at b's side: a sees its carrier go.
func (w *Wire) Cut() { w.a.lab.t.Helper(); w.b.Run("ip", "link", "set", w.DevB, "down") }

// Mend plugs it in again. IPv6 addresses went with Cut (ip-sysctl,
// keep_addr_on_down) and are the test's to put back.
func (w *Wire) Mend() { w.a.lab.t.Helper(); w.b.Run("ip", "link", "set", w.DevB, "up") }

func (h *Host) nextDev() string {
	h.ports++
	return fmt.Sprintf("wan%d", h.ports-1)
}

// Switch joins any number of hosts.
type Switch struct{ host *Host }

// Switch adds one.
func (l *Lab) Switch(name string) *Switch {
	l.t.Helper()
	h := l.Host(name)
	h.Run("ip", "link", "add", "sw", "type", "bridge")
	h.Run("ip", "link", "set", "sw", "up")
	return &Switch{h}
}

// Plug joins a host with addresses and returns its interface.
func (s *Switch) Plug(h *Host, addrs ...string) (dev string) {
	s.host.lab.t.Helper()
	w := s.host.lab.Wire(h, s.host)
	s.host.Run("ip", "link", "set", w.DevB, "master", "sw")
	for _, a := range addrs {
		h.Addr(w.DevA, netip.MustParsePrefix(a))
	}
	return w.DevA
}
