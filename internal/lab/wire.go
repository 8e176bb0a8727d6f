package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
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
	w.noticed(true)
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
func (w *Wire) Cut() {
	w.a.lab.t.Helper()
	w.b.Run("ip", "link", "set", w.DevB, "down")
	w.noticed(false)
}

// Mend plugs it in again. IPv6 addresses went with Cut (ip-sysctl,
// keep_addr_on_down) and are the test's to put back.
func (w *Wire) Mend() {
	w.a.lab.t.Helper()
	w.b.Run("ip", "link", "set", w.DevB, "up")
	w.noticed(true)
}

// noticed waits until the kernel has noticed at both ends what became of the cable. Its
// work queue for that (net/core/link_watch.c) can be a second late: until then a bridge
// does not forward to the port, and what is late of a cut drops the neighbours (ARP)
// that were found since, with an unreachable host for who waits for one.
func (w *Wire) noticed(up bool) {
	t := w.a.lab.t
	t.Helper()
	for _, end := range []struct {
		h   *Host
		dev string
	}{{w.a, w.DevA}, {w.b, w.DevB}} {
		for deadline := time.Now().Add(Patience); ; time.Sleep(2 * time.Millisecond) {
			out := end.h.Run("ip", "-o", "link", "show", "dev", end.dev)
			if strings.Contains(out, " state UP ") == up {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("lab: %s on %s: the kernel does not notice that the wire is up (%v): %s", end.dev, end.h.Name, up, out)
			}
		}
	}
}

func (h *Host) nextDev() string {
	h.ports++
	return fmt.Sprintf("wan%d", h.ports-1)
}

// Switch joins any number of hosts.
type Switch struct {
	host  *Host
	wires map[*Host]*Wire
}

// Switch adds one.
func (l *Lab) Switch(name string) *Switch {
	l.t.Helper()
	h := l.Host(name)
	h.Run("ip", "link", "add", "sw", "type", "bridge")
	h.Run("ip", "link", "set", "sw", "up")
	return &Switch{h, map[*Host]*Wire{}}
}

// Plug joins a host with addresses and returns its interface.
func (s *Switch) Plug(h *Host, addrs ...string) (dev string) {
	s.host.lab.t.Helper()
	w := s.host.lab.Wire(h, s.host)
	s.host.Run("ip", "link", "set", w.DevB, "master", "sw")
	s.wires[h] = w
	for _, a := range addrs {
		h.Addr(w.DevA, netip.MustParsePrefix(a))
	}
	return w.DevA
}
