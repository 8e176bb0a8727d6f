package bridge_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/probe"
)

// publish80 publishes port 80 of both protocols as 8000+n, and port 90 on the host's
// loopback alone.
func publish80(n uint16) func(*cnm.Sandbox) {
	return func(s *cnm.Sandbox) {
		for _, proto := range []string{"tcp", "udp"} {
			s.Ports = append(s.Ports, cnm.PublishedPort{Proto: proto, HostPort: 8000 + n, HostPortEnd: 8000 + n, Port: 80},
				cnm.PublishedPort{Proto: proto, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9000 + n, HostPortEnd: 9000 + n, Port: 90})
		}
	}
}

var two = []string{"10.81.0.0/24", "fd81::/64"}

// neighbour gives the machine routes to the containers.
func (w *world) neighbour() {
	w.t.Helper()
	w.machine.Run("ip", "route", "add", "10.80.0.0/12", "via", hostAddr)
	w.machine.Run("ip", "route", "add", "fd80::/12", "via", hostAddr6)
}

// TestIsolation: containers reach their own network, the host, the outside and what
// others published; not other networks. A neighbour who adds routes reaches neither
// unpublished nor loopback-published ports.
func TestIsolation(t *testing.T) {
	for name, hostWide := range map[string]bool{"bridge-nf off": false, "bridge-nf on": true} {
		t.Run(name, func(t *testing.T) { isolation(t, newWorld(t, func(e *driver.Env) { e.BridgeNF = hostWide })) })
	}
}

func isolation(t *testing.T, w *world) {
	lamp := w.net("lamp", two)
	lnmp := w.net("lnmp", []string{"10.82.0.0/24", "fd82::/64"})
	a, b := w.box(lamp, "a", 2), w.box(lamp, "b", 3, publish80(0))
	c := w.box(lnmp, "c", 2, publish80(1))
	w.neighbour()
	for _, v4 := range []bool{true, false} {
		host, gw, other, machine := hostAddr, "10.81.0.1", "10.82.0.1", machineAddr
		if !v4 {
			host, gw, other, machine = hostAddr6, "fd81::1", "fd82::1", machineAddr6
		}
		w.ways("open",
			way{"a", at(b.addr(v4), 90), "b sees " + a.addr(v4)},
			way{"b", at(a.addr(v4), 80), "a"},
			way{"a", at(gw, 80), "host"}, way{"a", at(host, 80), "host"},
			way{"a", at(machine, 80), "machine sees " + host},
			way{"host", at(a.addr(v4), 90), "a"},
			way{"machine", at(host, 8000), "b sees " + machine}, way{"host", at(host, 8000), "b"},
			way{"a", at(host, 8001), "c"}, way{"c", at(host, 8000), "b"},
			way{"b", at(host, 8000), "b"}, // its own
			way{"a", at(host, 8000), "b"})
		w.ways("closed",
			way{"a", at(c.addr(v4), 80), "closed"}, way{"a", at(c.addr(v4), 90), "closed"}, way{"c", at(b.addr(v4), 80), "closed"},
			way{"a", at(other, 8001), "c"}, // the other network's address of the host is one of the host's
			way{"machine", at(a.addr(v4), 80), "closed"}, way{"machine", at(b.addr(v4), 80), "closed"}, way{"machine", at(b.addr(v4), 90), "closed"},
			way{"machine", at(host, 9000), "closed"}, way{"machine", at(gw, 9000), "closed"}, way{"a", at(host, 9001), "closed"})
	}
	w.ways("the host's loopback", way{"host", "127.0.0.1:9000", "b"}, way{"host", "127.0.0.1:8001", "c"})
	// Someone on the host turned route_localnet on for the wire, and the neighbour asks
	// for 127.0.0.1 through it.
	w.host.Sysctl("net.ipv4.conf.wan0.route_localnet", "1")
	w.machine.Sysctl("net.ipv4.conf.wan0.route_localnet", "1")
	w.machine.Run("ip", "link", "set", "lo", "down")
	w.machine.Run("ip", "route", "add", "127.0.0.1/32", "via", hostAddr, "dev", "wan0")
	w.ways("a route to 127.0.0.1", way{"machine", "127.0.0.1:9000", "closed"}, way{"machine", "127.0.0.1:8000", "closed"})
}

// TestInternal: its containers reach each other and the host at their gateway, and
// nothing else, whatever routes they add; nobody reaches them.
func TestInternal(t *testing.T) {
	w := newWorld(t)
	in := w.net("in", two, internal)
	out := w.net("out", []string{"10.82.0.0/24", "fd82::/64"})
	a, b, c := w.box(in, "a", 2), w.box(in, "b", 3), w.box(out, "c", 2, publish80(0))
	w.neighbour()
	w.run(a.s.Path, "ip", "route", "add", "default", "via", "10.81.0.1")
	w.run(a.s.Path, "ip", "-6", "route", "add", "default", "via", "fd81::1")
	for _, v4 := range []bool{true, false} {
		host, gw, other, machine := hostAddr, "10.81.0.1", "10.82.0.1", machineAddr
		if !v4 {
			host, gw, other, machine = hostAddr6, "fd81::1", "fd82::1", machineAddr6
		}
		w.ways("internal",
			way{"a", at(b.addr(v4), 80), "b"}, way{"a", at(gw, 80), "host"}, way{"host", at(a.addr(v4), 80), "a"},
			way{"a", at(machine, 80), "closed"}, way{"a", at(host, 80), "closed"}, way{"a", at(other, 80), "closed"},
			way{"a", at(c.addr(v4), 80), "closed"}, way{"a", at(gw, 8000), "closed"}, way{"a", at(host, 8000), "closed"},
			way{"c", at(a.addr(v4), 80), "closed"}, way{"machine", at(a.addr(v4), 80), "closed"},
			way{"c", at(machine, 80), "machine"}, way{"machine", at(host, 8000), "c"})
	}
}

// TestIsolatedMode: the host has no address on the network, not even a link-local one.
func TestIsolatedMode(t *testing.T) {
	w := newWorld(t)
	n := w.net("iso", two, internal, option(keyMode4, "isolated"), option(keyMode6, "isolated"))
	w.box(n, "a", 2)
	b := w.box(n, "b", 3)
	if out := w.host.Run("ip", "-o", "addr", "show", "dev", "br-iso"); strings.Contains(out, "inet") {
		t.Errorf("the host has an address:\n%s", out)
	}
	for _, v4 := range []bool{true, false} {
		w.ways("isolated", way{"a", at(b.addr(v4), 80), "b"}, way{"a", at(map[bool]string{true: "10.81.0.1", false: "fd81::1"}[v4], 80), "closed"},
			way{"host", at(b.addr(v4), 80), "closed"})
	}
}

// TestClosedNetwork: with icc=false containers do not reach each other; a link opens
// what the target exposes, one way; and each still reaches the outside and ports that
// are published, its own included.
func TestClosedNetwork(t *testing.T) {
	probe.Require(t, probe.BridgeNetfilter)
	for name, hostWide := range map[string]bool{"bridge-nf off": false, "bridge-nf on": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(e *driver.Env) { e.BridgeNF = hostWide })
			n := w.net("shut", two, option(keyICC, "false"))
			open := w.net("open", []string{"10.83.0.0/24"})
			a, b := w.box(n, "a", 2), w.box(n, "b", 3, publish80(0))
			w.box(open, "x", 2)
			y := w.box(open, "y", 3)
			closed := func(when string) {
				t.Helper()
				for _, v4 := range []bool{true, false} {
					host, machine := hostAddr, machineAddr
					if !v4 {
						host, machine = hostAddr6, machineAddr6
					}
					w.ways(when,
						way{"a", at(b.addr(v4), 80), "closed"}, way{"a", at(b.addr(v4), 90), "closed"}, way{"b", at(a.addr(v4), 80), "closed"},
						way{"a", at(machine, 80), "machine"}, way{"a", at(host, 80), "host"}, way{"host", at(a.addr(v4), 80), "a"},
						way{"a", at(host, 8000), "b"}, way{"b", at(host, 8000), "b"}, way{"machine", at(host, 8000), "b"})
				}
				w.ways(when, way{"x", at(y.addr(true), 90), "y"})
			}
			closed("closed")
			was := w.plan(a)
			a.s.Endpoints[0].Links = []cnm.Link{{Alias: "db", Ports: []string{"90/tcp", "90/udp"},
				Addrs: []netip.Addr{b.s.Endpoints[0].Addr4().Addr(), b.s.Endpoints[0].Addr6().Addr()}}}
			w.apply(diff.Update(was, w.plan(a)))
			for _, v4 := range []bool{true, false} {
				w.ways("linked", way{"a", at(b.addr(v4), 90), "b sees " + a.addr(v4)}, way{"a", at(b.addr(v4), 80), "closed"}, way{"b", at(a.addr(v4), 90), "closed"})
			}
			w.apply(diff.Update(w.plan(a), was))
			w.ways("unlinked", way{"a", at(b.addr(true), 90), "closed"})
		})
	}
}

// TestGatewayModes: what a neighbour with routes reaches by the containers' own
// addresses, and what other networks do.
func TestGatewayModes(t *testing.T) {
	for _, c := range []struct {
		mode                         string
		published, unpublished, ping bool // by own address
		translated                   bool // host port leads to the container; it leaves with the host's address
	}{
		{"nat", false, false, false, true},
		{"nat-unprotected", true, true, true, true},
		{"routed", true, false, true, false},
	} {
		t.Run(c.mode, func(t *testing.T) {
			w := newWorld(t)
			n := w.net("n", two, option(keyMode4, c.mode), option(keyMode6, c.mode))
			other := w.net("o", []string{"10.82.0.0/24", "fd82::/64"})
			a := w.box(n, "a", 2, publish80(0))
			w.box(other, "b", 2)
			w.neighbour()
			open := func(yes bool) string { return map[bool]string{true: "a", false: "closed"}[yes] }
			for _, v4 := range []bool{true, false} {
				host, machine, ping := hostAddr, machineAddr, "-4"
				if !v4 {
					host, machine, ping = hostAddr6, machineAddr6, "-6"
				}
				seen := a.addr(v4)
				if c.translated {
					seen = host
				}
				w.ways(c.mode,
					way{"machine", at(a.addr(v4), 80), open(c.published)}, way{"b", at(a.addr(v4), 80), open(c.published)},
					way{"machine", at(a.addr(v4), 90), open(c.unpublished)}, way{"b", at(a.addr(v4), 90), open(c.unpublished)},
					way{"machine", at(host, 8000), open(c.translated)},
					way{"a", at(machine, 80), "machine sees " + seen},
					way{"host", at(a.addr(v4), 90), "a"})
				if _, err := w.machine.Try("ping", ping, "-c1", "-W1", a.addr(v4)); (err == nil) != c.ping {
					t.Errorf("%s: ping %s: %v", c.mode, a.addr(v4), err)
				}
			}
		})
	}
}

// TestDirectRouting: published ports by the containers' own addresses, when the
// daemon or the network says so; never what is published on the loopback.
func TestDirectRouting(t *testing.T) {
	try := func(name string, wants [2]string, env func(*driver.Env), change ...func(*cnm.Network)) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, env)
			second := w.lab.Host("second") // behind another interface, wan1
			w.lab.Join(w.host, second, "192.168.98.31/24", "192.168.98.50/24")
			second.Route("10.81.0.0/24", netip.MustParseAddr("192.168.98.31"))
			w.boxes["second"] = &box{s: &cnm.Sandbox{Path: second.NS}}
			a := w.box(w.net("n", two, change...), "a", 2, publish80(0))
			w.neighbour()
			w.ways(name, way{"machine", at(a.addr(true), 80), wants[0]}, way{"second", at(a.addr(true), 80), wants[1]},
				way{"machine", at(a.addr(false), 80), wants[0]},
				way{"machine", at(a.addr(true), 90), "closed"}, way{"second", at(a.addr(true), 90), "closed"},
				way{"machine", at(hostAddr, 8000), "a"})
		})
	}
	none := func(*driver.Env) {}
	try("closed", [2]string{"closed", "closed"}, none)
	try("allowed", [2]string{"a", "a"}, func(e *driver.Env) { e.DirectRouting = true })
	try("trusted", [2]string{"a", "closed"}, none, option(keyTrusted, "wan0:wg0"))
}

// TestMark: packets that carry the accepted mark are let in.
func TestMark(t *testing.T) {
	w := newWorld(t)
	a := w.box(w.net("n", two), "a", 2)
	w.neighbour()
	w.host.Run("nft", "add table inet user; add chain inet user pre { type filter hook prerouting priority -140; }; add rule inet user pre iifname wan0 th dport 90 meta mark set 0x31")
	for _, v4 := range []bool{true, false} {
		w.ways("before", way{"machine", at(a.addr(v4), 90), "closed"})
	}
	w.apply([]dataplane.Op{{Verb: dataplane.Change, Object: dataplane.BasePage(table, dataplane.Mark{Value: 0x30, Mask: 0xf0})}})
	for _, v4 := range []bool{true, false} {
		w.ways("with the mark", way{"machine", at(a.addr(v4), 90), "a"}, way{"machine", at(a.addr(v4), 80), "closed"})
	}
}

// TestSourceAddress: R32. A container leaves with the address that its network, or
// it alone, was told to have, although the host has others.
func TestSourceAddress(t *testing.T) {
	w := newWorld(t)
	plain := w.net("plain", []string{"10.83.0.0/24", "fd83::/64"})
	n := w.net("mail", []string{"192.168.1.0/24", "fd81::/64"}, option(keyHost4, "60.191.82.107"), option(keyHost6, "2001:db8::107"))
	w.box(n, "a", 50)
	b := w.box(n, "b", 51, endpointOption(keyHost4, "60.191.82.106"), endpointOption(keyHost6, "2001:db8::106"), publish80(0))
	w.box(plain, "c", 50, endpointOption(keyHost4, "60.191.82.107"))
	w.box(plain, "d", 51)
	for _, c := range []struct{ from, four, six string }{
		{"a", "60.191.82.107", "2001:db8::107"}, {"b", "60.191.82.106", "2001:db8::106"}, {"c", "60.191.82.107", ""}, {"d", "60.191.82.105", ""},
	} {
		w.ways("source address", way{c.from, "60.191.82.1:80", "machine sees " + c.four})
		if c.six != "" {
			w.ways("source address", way{c.from, "[2001:db8::1]:80", "machine sees " + c.six})
		}
	}
	// Inside nothing changes, and published ports stay what they were.
	w.ways("inside", way{"a", at(b.addr(true), 80), "b sees 192.168.1.50"}, way{"machine", at(hostAddr, 8000), "b"}, way{"machine", "60.191.82.107:8000", "b"},
		way{"c", at(hostAddr, 8000), "b"})
}

// TestSixAtOnce: the bridge asks for its neighbours from its link-local address, which
// serves as soon as the first container is there, and not after its probes. On this host
// they take 100 s.
func TestSixAtOnce(t *testing.T) {
	w := newWorld(t)
	w.run(w.ns("host"), "sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=100")
	w.box(w.net("six", two), "a", 2)
	out := ""
	for range 500 { // the kernel sees the carrier behind our back
		if out = w.run(w.ns("host"), "ip", "-6", "-o", "addr", "show", "dev", "br-six", "-tentative"); strings.Contains(out, "fe80:") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the bridge's addresses that serve: %s", out)
}

// TestOnlySix: a network of IPv6 alone is as good as others.
func TestOnlySix(t *testing.T) {
	w := newWorld(t)
	n := w.net("six", []string{"fd81::/64"}, func(n *cnm.Network) { n.NoIPv4, n.IPv6 = true, true })
	a, b := w.box(n, "a", 2), w.box(n, "b", 3, publish80(0))
	w.ways("IPv6 alone", way{"a", at(b.addr(false), 90), "b sees " + a.addr(false)}, way{"a", at(machineAddr6, 80), "machine sees " + hostAddr6},
		way{"machine", at(hostAddr6, 8000), "b"}, way{"a", at(hostAddr6, 8000), "b"}, way{"b", at(hostAddr6, 8000), "b"})
}

// TestFlat: on a bridge that a person made and that the LAN hangs on, containers
// sit flat on the LAN, published ports work from everywhere, and what others route
// through it is not touched.
func TestFlat(t *testing.T) {
	for name, isolated := range map[string]bool{"open": false, "icc=false": true, "open, bridge-nf on": false, "icc=false, bridge-nf on": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(e *driver.Env) { e.BridgeNF = strings.HasSuffix(name, "on") })
			w.host.Run("ip", "link", "add", "br0", "type", "bridge")
			w.host.Addr("br0", prefixes("10.211.55.1/24", "fd55::1/64")...)
			pc := w.lab.Host("pc")
			wire := w.lab.Wire(w.host, pc)
			w.host.Run("ip", "link", "set", wire.DevA, "master", "br0")
			pc.Addr(wire.DevB, prefixes("10.211.55.9/24", "fd55::9/64")...)
			pc.Route("default", netip.MustParseAddr("10.211.55.1"))
			w.machine.Route("10.211.55.0/24", netip.MustParseAddr(hostAddr)) // the LAN is routed, as its owner wants it
			w.boxes["pc"] = &box{s: &cnm.Sandbox{Path: pc.NS}}
			serve(t, pc.NS, "pc")

			n := w.net("lan", []string{"10.211.55.0/24", "fd55::/64"}, borrowed, option(keyICC, map[bool]string{true: "false", false: "true"}[isolated]))
			other := w.net("other", []string{"10.82.0.0/24"})
			a, b := w.box(n, "a", 20, publish80(0)), w.box(n, "b", 21)
			w.box(other, "c", 2)
			each := map[bool]string{true: "closed", false: "a"}[isolated]
			for _, v4 := range []bool{true, false} {
				gw, lan := "10.211.55.1", "10.211.55.9"
				if !v4 {
					gw, lan = "fd55::1", "fd55::9"
				}
				w.ways("flat",
					way{"pc", at(a.addr(v4), 90), "a sees " + lan}, way{"a", at(lan, 90), "pc sees " + a.addr(v4)}, way{"b", at(a.addr(v4), 80), each},
					way{"host", at(a.addr(v4), 90), "a sees " + gw}, way{"a", at(gw, 80), "host"},
					way{"pc", at(gw, 8000), "a"}, way{"a", at(gw, 8000), "a"}, way{"b", at(gw, 8000), "a"})
			}
			w.ways("beyond",
				way{"a", at(machineAddr, 80), "machine sees " + hostAddr},  // our container is masqueraded
				way{"pc", at(machineAddr, 80), "machine sees 10.211.55.9"}, // others are not
				way{"machine", "10.211.55.9:80", "pc"},                     // nor closed
				way{"machine", at(a.addr(true), 80), "closed"},             // our containers are
				way{"machine", at(hostAddr, 8000), "a sees " + machineAddr},
				way{"c", "10.211.55.9:80", "pc sees 10.211.55.1"}, // another network leaves through br0
				way{"c", at(b.addr(true), 80), "closed"},          // and does not reach containers on it
				way{"host", "127.0.0.1:9000", "a"}, way{"host", "127.0.0.1:8000", "a"})
			if got := w.shared["net/ipv4/conf/br0/route_localnet"]; got != "0" {
				t.Errorf("the borrowed bridge's parameter is recorded as %q", got)
			}
			objs, err := bridge.Driver{}.Network(w.env, n)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range []*box{a, b} {
				w.apply(diff.Delete(append(w.plan(b), dataplane.Namespace{Path: b.s.Path})))
			}
			w.apply(diff.Delete(objs))
			w.ways("after us", way{"pc", "10.211.55.1:80", "host"}, way{"host", "10.211.55.9:80", "pc"})
		})
	}
}

// TestFlatInternal: an internal network on a person's bridge closes its containers
// in, as far as the host goes, and nobody else on the wire.
func TestFlatInternal(t *testing.T) {
	w := newWorld(t)
	w.host.Run("ip", "link", "add", "br0", "type", "bridge")
	w.host.Addr("br0", prefixes("10.211.55.1/24")...)
	pc := w.lab.Host("pc")
	wire := w.lab.Wire(w.host, pc)
	w.host.Run("ip", "link", "set", wire.DevA, "master", "br0")
	pc.Addr(wire.DevB, prefixes("10.211.55.9/24")...)
	pc.Route("default", netip.MustParseAddr("10.211.55.1"))
	w.boxes["pc"] = &box{s: &cnm.Sandbox{Path: pc.NS}}
	serve(t, pc.NS, "pc")
	n := w.net("lan", []string{"10.211.55.0/24"}, borrowed, internal)
	a := w.box(n, "a", 20)
	w.machine.Route("10.211.55.0/24", netip.MustParseAddr(hostAddr))
	w.run(a.s.Path, "ip", "route", "add", "default", "via", "10.211.55.1")
	w.ways("internal", way{"a", "10.211.55.1:80", "host"}, way{"a", "10.211.55.9:80", "pc"}, way{"pc", at(a.addr(true), 80), "a"},
		way{"a", at(hostAddr, 80), "closed"}, way{"a", at(machineAddr, 80), "closed"}, way{"machine", at(a.addr(true), 80), "closed"},
		way{"pc", at(hostAddr, 80), "host"}, way{"pc", at(machineAddr, 80), "machine"}, way{"machine", "10.211.55.9:80", "pc"})
}
