package network

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
)

// R33: ports belong to the container. Connecting and disconnecting moves where they
// lead, and never lets go of a socket.
func TestPortsStay(t *testing.T) {
	w := newWorld(t)
	w.network("first", "172.18.0.0/16")
	w.network("second", "172.19.0.0/16", func(w *NetworkWish) { w.IPv6, w.Pools = yes(), append(w.Pools, cnm.Pool{Subnet: pfx("fd00:2::/64")}) })
	r := on("a", "first", "8080:80", "127.0.0.1:9000:90/udp")
	s := w.join(r)
	led := func() string {
		return strings.Join(slices.Concat(w.elements("publish4_any"), w.elements("publish4_addr"), w.elements("publish6_any")), "; ")
	}
	forwards := func() string {
		var out []string
		for _, h := range w.ports.held() {
			if !strings.HasSuffix(h, "invalid AddrPort") {
				out = append(out, h)
			}
		}
		return strings.Join(out, "; ")
	}
	at := func(four string) string {
		return fmt.Sprintf("tcp . 8080 = %s . 80; 127.0.0.1 . udp . 9000 = %s . 90", four, four)
	}
	if led() != at("172.18.0.2") || forwards() != "tcp :::8080-8080 to 172.18.0.2:80" {
		t.Errorf("%s\n%s", led(), forwards())
	}
	// A second network brings IPv6: IPv4 stays where it is.
	s2 := w.update(plus(r, "second", 1))
	if want := at("172.18.0.2") + "; tcp . 8080 = fd00:2::2 . 80"; led() != want || forwards() != "tcp :::8080-8080 to [fd00:2::2]:80" {
		t.Errorf("%s\n%s", led(), forwards())
	}
	if !slices.Equal(s2.Ports, s.Ports) {
		t.Errorf("%+v", s2.Ports)
	}
	// The first goes: the second serves both.
	w.update(without(plus(r, "second", 1), "first"))
	if want := at("172.19.0.2") + "; tcp . 8080 = fd00:2::2 . 80"; led() != want || len(w.ports.held()) != 3 {
		t.Errorf("%s\n%q", led(), w.ports.held())
	}
	// On no network at all the ports are still the container's.
	alone := r
	alone.Endpoints = nil
	if s := w.update(alone); led() != "" || len(s.Ports) != 2 || len(w.ports.held()) != 3 {
		t.Errorf("%s\n%q", led(), w.ports.held())
	}
	if _, err := w.Join(t.Context(), on("thief", "bridge", "8080:80")); err == nil || !strings.Contains(err.Error(), "name-of-a") {
		t.Errorf("another took the port: %v", err)
	}
	w.update(r)
	if led() != at("172.18.0.3") && led() != at("172.18.0.2") {
		t.Errorf("back: %s", led())
	}
	w.leave("a", false)
	if led() != "" || len(w.ports.held()) != 0 {
		t.Errorf("%s\n%q", led(), w.ports.held())
	}
}

// Ports that had no network to lead to are there once there is one.
func TestPortsLater(t *testing.T) {
	w := newWorld(t)
	w.network("closed", "", func(w *NetworkWish) { w.Internal = true })
	w.network("open", "172.19.0.0/16")
	r := on("a", "closed", "8080:80")
	if s := w.join(r); len(s.Ports) != 0 || len(w.ports.held()) != 0 {
		t.Errorf("on an internal network: %+v, %q", s.Ports, w.ports.held())
	}
	if s := w.update(plus(r, "open", 1)); len(s.Ports) != 1 || len(w.ports.held()) != 2 || len(w.elements("publish4_any")) != 1 {
		t.Errorf("%+v, %q", s.Ports, w.ports.held())
	}
}

// Every family of the host reaches a container that has one family only.
func TestPortsOfOneFamily(t *testing.T) {
	w := newWorld(t)
	w.network("six", "", func(w *NetworkWish) {
		w.IPv4, w.IPv6, w.Pools = no(), yes(), []cnm.Pool{{Subnet: pfx("fd00:2::/64")}}
	})
	s := w.join(on("a", "six", "8080:80"))
	e := s.Endpoints[0]
	if e.Addr4().IsValid() || e.MAC == "" || carriers(s) != "- eth0" {
		t.Errorf("%+v", e)
	}
	if got := w.elements("publish6_any"); len(got) != 1 || got[0] != "tcp . 8080 = fd00:2::2 . 80" {
		t.Errorf("%q", got)
	}
	if got := w.ports.held(); !slices.Equal(got, []string{"tcp 0.0.0.0:8080-8080 to [fd00:2::2]:80", "tcp :::8080-8080 to [fd00:2::2]:80"}) {
		t.Errorf("bound: %q", got)
	}
}

// A network says where its ports are published.
func TestHostBinding(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.BindIP = ip("10.1.1.1") })
	for binding, want := range map[string]string{"": "10.1.1.1", "127.0.0.1": "127.0.0.1", "0.0.0.0": "invalid IP"} {
		w.network("shop", "", func(w *NetworkWish) {
			if binding != "" {
				w.Options = map[string]string{optHostBinding: binding}
			}
		})
		if s := w.join(on("a", "shop", "8080:80")); s.Ports[0].HostIP.String() != want {
			t.Errorf("%q: %+v", binding, s.Ports)
		}
		w.leave("a", false)
		w.remove("shop")
	}
}
