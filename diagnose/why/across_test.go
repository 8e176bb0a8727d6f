package why

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
)

// spanned is the world in a mesh: span (overlay), secret (overlay, encrypted) and flat
// (routed) reach to host2 at 192.0.2.2 on the same link, and flat to host3 behind a router.
// near, shy and plain are on one each; far, dark and level are on host2, remote on host3.
type spanned struct {
	*world
	underlay *cnm.Underlay
	there    []diagnose.Elsewhere
	tunnel   diagnose.Tunnel
	away     string
}

func (m *spanned) Underlay() *cnm.Underlay                        { return m.underlay }
func (m *spanned) Elsewhere() []diagnose.Elsewhere                { return m.there }
func (m *spanned) Tunnel(context.Context, string) diagnose.Tunnel { return m.tunnel }
func (m *spanned) Away() string                                   { return m.away }

const (
	farMAC, darkMAC, vtep3 = "02:42:c0:a8:02:01", "02:42:c0:a8:0c:01", "02:00:00:00:00:33"
	secureHere, secureThem = "fd77::1", "fd77::2"
)

func newSpanned() *spanned {
	m := &spanned{world: newWorld(), underlay: &cnm.Underlay{Host: "h1", Name: "host1", Addr: addr("192.0.2.10"), Dev: "eth0", MTU: 1500, Secure: "ls-w", SecureAddr: addr(secureHere), SecureMTU: 1440}}
	w := m.world
	m.tunnel = diagnose.Tunnel{Device: "ls-w", Key: true, Known: true, Up: true, Handshake: time.Now().Add(-5 * time.Second), Endpoint: ap("192.0.2.2:51871")}
	w.net("span", "br-span", "192.168.0.0/16", "192.168.0.1").Driver = "overlay"
	w.net("secret", "br-secret", "192.168.0.0/16", "192.168.0.1").Driver = "overlay"
	w.net("flat", "br-flat", "10.50.0.0/16", "10.50.0.1").Driver = "routed"
	w.network("secret").Pools[0].Subnet = pre("172.30.0.0/16")
	w.links[""] = slices.DeleteFunc(w.links[""], func(l reading.Interface) bool { return l.Name == "br-secret" || l.Name == "br-flat" })
	w.routes[""] = slices.DeleteFunc(w.routes[""], func(r reading.Route) bool { return r.Link == "br-secret" || r.Link == "br-flat" })
	w.objects = slices.DeleteFunc(w.objects, func(o dataplane.Object) bool {
		a, ok := o.(dataplane.Addr)
		return ok && (a.Link == "br-secret" || a.Link == "br-flat")
	})
	up := func(index int, name, kind, mac string, mtu int, master string, addrs ...string) {
		l := reading.Interface{Index: index, Name: name, Kind: kind, MAC: mac, MTU: mtu, Up: true, Carrier: true, Master: master}
		for _, a := range addrs {
			l.Addrs = append(l.Addrs, pre(a))
		}
		if master != "" {
			l.Port = &reading.BridgePort{State: "forwarding"}
		}
		w.links[""] = append(w.links[""], l)
	}
	route := func(dst, link, via string, more ...func(*dataplane.Route)) {
		live := reading.Route{Dst: pre(dst), Link: link, Table: 254, Type: "unicast"}
		o := dataplane.Route{Dst: pre(dst), Link: link}
		if via != "" {
			live.Gateway, o.Via = addr(via), addr(via)
		}
		for _, f := range more {
			f(&o)
		}
		w.routes[""] = append(w.routes[""], live)
		w.objects = append(w.objects, o)
	}
	up(201, "br-secret", "bridge", "02:42:ac:1e:00:01", 1370, "", "172.30.0.1/16")
	up(202, "br-flat", "bridge", "02:42:0a:32:00:01", 1500, "", "10.50.0.1/32")
	up(203, "vx-span", "vxlan", "02:00:00:00:00:03", 1450, "br-span")
	up(204, "vx-secret", "vxlan", "02:00:00:00:00:04", 1370, "br-secret")
	up(205, "ls-w", "tun", "", 1440, "", secureHere+"/64")
	up(206, "ls-r", "vxlan", "02:00:00:00:00:06", 1450, "")
	w.objects = append(w.objects,
		dataplane.VXLAN{Name: "vx-span", VNI: 0x4c0001, Local: addr("192.0.2.10"), Dev: "eth0", Port: 4789, MTU: 1450, Master: "br-span"},
		dataplane.VXLAN{Name: "vx-secret", VNI: 0x4c0002, Local: addr(secureHere), Dev: "ls-w", Port: 4790, MTU: 1370, Master: "br-secret"},
		dataplane.VXLAN{Name: "ls-r", VNI: 0x4c0000, Local: addr("192.0.2.10"), Dev: "eth0", Port: 4789, MTU: 1450},
		dataplane.WireGuard{Name: "ls-w", MTU: 1440, UserSpace: true})
	w.box("near", "span", "192.168.1.1")
	w.box("shy", "secret", "172.30.1.1")
	w.box("plain", "flat", "10.50.1.1")
	alone := netip.PrefixFrom(addr("10.50.1.1"), 32)
	w.links["/ns/plain"][1].Addrs = []netip.Prefix{alone}
	w.routes["/ns/plain"][1].Dst = pre("10.50.0.1/32")
	for i, o := range w.objects {
		if a, ok := o.(dataplane.Addr); ok && a.NS == "/ns/plain" {
			a.Prefix = alone
			w.objects[i] = a
		}
	}
	w.routes[""] = append(w.routes[""], reading.Route{Dst: pre("10.50.1.1/32"), Link: "br-flat", Table: 254, Type: "unicast"},
		reading.Route{Dst: pre("172.30.0.0/16"), Link: "br-secret", Src: addr("172.30.0.1"), Table: 254, Type: "unicast"},
		reading.Route{Dst: pre("fd77::/64"), Link: "ls-w", Src: addr(secureHere), Table: 254, Type: "unicast"},
		reading.Route{Dst: pre("10.50.0.0/16"), Table: 254, Type: "unreachable", Metric: 4000})
	route("10.50.2.0/26", "eth0", "192.0.2.2")
	route("10.50.3.0/26", "ls-r", "198.51.100.3", func(r *dataplane.Route) { r.OnLink = true })
	w.neigh[""] = append(w.neigh[""],
		reading.Neighbour{Link: "br-span", Addr: addr("192.168.2.1"), MAC: farMAC, State: "permanent"},
		reading.Neighbour{Link: "br-secret", Addr: addr("172.30.2.1"), MAC: darkMAC, State: "permanent"},
		reading.Neighbour{Link: "ls-r", Addr: addr("198.51.100.3"), MAC: vtep3, State: "permanent"})
	w.entries = append(w.entries,
		reading.FDBEntry{MAC: farMAC, Link: "vx-span", Bridge: "br-span", Static: true}, reading.FDBEntry{MAC: farMAC, Link: "vx-span", Dst: addr("192.0.2.2")},
		reading.FDBEntry{MAC: darkMAC, Link: "vx-secret", Bridge: "br-secret", Static: true}, reading.FDBEntry{MAC: darkMAC, Link: "vx-secret", Dst: addr(secureThem)},
		reading.FDBEntry{MAC: vtep3, Link: "ls-r", Dst: addr("198.51.100.3")})
	for _, br := range []string{"br-span", "br-secret", "br-flat"} {
		w.sysctls[" net/ipv4/conf/"+br+"/forwarding"] = "1"
	}
	host2 := cnm.Peer{ID: "h2", Name: "host2", Addr: addr("192.0.2.2"), Alive: true, OnLink: true, Dev: "eth0", SecureAddr: addr(secureThem)}
	host3 := cnm.Peer{ID: "h3", Name: "host3", Addr: addr("198.51.100.3"), Alive: true, MAC: vtep3}
	far := func(name, network, a, mac string, p cnm.Peer, path cnm.Path) {
		n := w.network(network)
		m.there = append(m.there, diagnose.Elsewhere{Network: n, Peer: p, Path: path,
			Remote: cnm.Remote{ID: "r" + name, Host: p.ID, Container: strings.Repeat("f", 60) + name, ContainerName: name, Addrs: []netip.Prefix{pre(a)}, MAC: mac, Names: []string{name, "svc-" + name}}})
	}
	far("far", "span", "192.168.2.1/16", farMAC, host2, cnm.Path{Kind: cnm.PathVXLAN, Dev: "vx-span", MTU: 1450, Reason: "overlay networks are wrapped in VXLAN"})
	far("dark", "secret", "172.30.2.1/16", darkMAC, host2, cnm.Path{Kind: cnm.PathWireGuard, Dev: "ls-w", MTU: 1370, Reason: "the network is encrypted"})
	far("level", "flat", "10.50.2.1/16", "", host2, cnm.Path{Kind: cnm.PathDirect, Dev: "eth0", MTU: 1500, Reason: "host2 is on the same link (eth0)"})
	far("remote", "flat", "10.50.3.1/16", "", host3, cnm.Path{Kind: cnm.PathVXLAN, Dev: "ls-r", MTU: 1450, Reason: "host3 is behind a router"})
	return m
}

func (m *spanned) ask(t *testing.T, from, to string) (*Answer, error) {
	t.Helper()
	o := Options{Processes: m.world, Firewall: func(ns string) (firewall, error) { return fakeRules{m.world, ns}, nil }}
	return Ask(t.Context(), &diagnose.World{Declared: m.world, Kernel: m.world, Mesh: m, Table: table}, from, to, o)
}

func (m *spanned) peer(name string, change func(*diagnose.Elsewhere)) {
	for i := range m.there {
		if m.there[i].Peer.Name == name {
			change(&m.there[i])
		}
	}
}

func (m *spanned) unneigh(link string) {
	m.neigh[""] = slices.DeleteFunc(m.neigh[""], func(n reading.Neighbour) bool { return n.Link == link })
}

func (m *spanned) unfdb(when func(reading.FDBEntry) bool) {
	m.entries = slices.DeleteFunc(m.entries, when)
}

// across is a question over two hosts, and its answer.
type across struct {
	name     string
	from, to string
	harm     func(*spanned)
	code     Code
	says     string // in the sentence
	cure     string // all of it, "advice" or "some"
	step     string // found in a step
}

func acrosses() []across {
	return []across{
		{"overlay", "near", "far:80", nil, OK, "near reaches far on port 80/tcp on host host2 as far as this host goes (through VXLAN)", "", "vxlan by vx-span, packets of up to 1450 bytes: overlay networks"},
		{"by another name of its", "near", "svc-far:80", nil, OK, "through VXLAN", "", ""},
		{"by its address", "near", "192.168.2.1:80", nil, OK, "near reaches far on port 80/tcp on host host2", "", "to host host2, 192.0.2.2"},
		{"encrypted", "shy", "dark:80", nil, OK, "encrypted by WireGuard", "", "last handshake 5s ago"},
		{"routed, the same link", "plain", "level:80", nil, OK, "a direct route", "", "eth0 via 192.0.2.2"},
		{"routed, behind a router", "plain", "remote:80", nil, OK, "through VXLAN", "", "to host host3, 198.51.100.3"},
		{"from the host", "host", "level", nil, OK, "host3|host2", "", ""},

		{"no network in common", "db", "far:80", nil, NoSharedNetwork, "far (on span, on host host2)", "linkspan network connect span db", ""},
		{"forgotten", "near", "far:80", func(m *spanned) { m.underlay = nil }, Forgotten, "forgotten by the mesh", "advice", ""},
		{"no path", "near", "far:80", func(m *spanned) {
			m.peer("host2", func(x *diagnose.Elsewhere) {
				x.Path = cnm.Path{Kind: cnm.PathNone, Reason: "host2 has published no key"}
			})
		}, NoPath, "host2 has published no key", "advice", ""},
		{"silent", "near", "far:80", func(m *spanned) { m.peer("host2", func(x *diagnose.Elsewhere) { x.Peer.Alive = false }) }, PeerSilent, "host host2, where far is, is not heard of", "advice", "is not heard of"},
		{"silent, and something wrong here", "near", "far:80", func(m *spanned) {
			m.peer("host2", func(x *diagnose.Elsewhere) { x.Peer.Alive = false })
			m.unlink("", "vx-span")
		}, LinkMissing, "vx-span", "linkspan reconcile", ""},
		{"the store is away", "near", "far:80", func(m *spanned) { m.away = "etcd at 10.0.0.1:2379 does not answer" }, OK, "reaches", "", "away: etcd"},

		{"tunnel gone", "near", "far:80", func(m *spanned) { m.unlink("", "vx-span") }, LinkMissing, "vx-span (VNI 4980737) is gone", "linkspan reconcile", ""},
		{"tunnel down", "near", "far:80", func(m *spanned) { m.link("", "vx-span").Up = false }, LinkDown, "vx-span", "ip link set vx-span up", ""},
		{"tunnel of no bridge", "near", "far:80", func(m *spanned) { m.link("", "vx-span").Master = "" }, WrongMaster, "not a port of its bridge br-span", "linkspan reconcile", ""},
		{"no tunnel declared", "near", "far:80", func(m *spanned) {
			m.objects = slices.DeleteFunc(m.objects, func(o dataplane.Object) bool { return o.Key() == "link vx-span" })
		}, NoPath, "has no tunnel on this host", "linkspan reconcile", ""},
		{"neighbour gone", "near", "far:80", func(m *spanned) { m.unneigh("br-span") }, TunnelEntry, "nobody answers who asks for far", "linkspan reconcile", ""},
		{"neighbour wrong", "near", "far:80", func(m *spanned) {
			m.unneigh("br-span")
			m.neigh[""] = append(m.neigh[""], reading.Neighbour{Link: "br-span", Addr: addr("192.168.2.1"), MAC: "02:00:00:00:00:99", State: "permanent"})
		},
			TunnelEntry, "says 02:00:00:00:00:99", "ip neigh replace 192.168.2.1 lladdr " + farMAC + " dev br-span nud permanent", ""},
		{"bridge's entry gone", "near", "far:80", func(m *spanned) {
			m.unfdb(func(e reading.FDBEntry) bool { return e.MAC == farMAC && !e.Dst.IsValid() })
		}, TunnelEntry, "behind the tunnel vx-span", "linkspan reconcile", ""},
		{"bridge's entry elsewhere", "near", "far:80", func(m *spanned) {
			m.unfdb(func(e reading.FDBEntry) bool { return e.MAC == farMAC && !e.Dst.IsValid() })
			m.entries = append(m.entries, reading.FDBEntry{MAC: farMAC, Link: "vethnear", Bridge: "br-span"})
		}, FDBWrong, "to port vethnear", "bridge fdb del " + farMAC + " dev vethnear master", ""},
		{"tunnel's entry gone", "near", "far:80", func(m *spanned) { m.unfdb(func(e reading.FDBEntry) bool { return e.MAC == farMAC && e.Dst.IsValid() }) }, TunnelEntry, "does not know that far", "linkspan reconcile", ""},
		{"tunnel's entry to another host", "near", "far:80", func(m *spanned) {
			m.unfdb(func(e reading.FDBEntry) bool { return e.MAC == farMAC && e.Dst.IsValid() })
			m.entries = append(m.entries, reading.FDBEntry{MAC: farMAC, Link: "vx-span", Dst: addr("192.0.2.9")})
		}, FDBWrong, "to 192.0.2.9, and it is on host host2", "bridge fdb replace " + farMAC + " dev vx-span dst 192.0.2.2 self permanent", ""},
		{"tunnel too large", "near", "far:80", func(m *spanned) { m.link("", "eth0").MTU = 1400 }, MTU, "more than 1350 bytes are lost on the way to host host2", "ip link set eth0 mtu 1500", ""},
		{"the way learned a smaller size", "near", "far:80", func(m *spanned) { m.underlay.MTU = 1400; m.link("", "eth0").MTU = 1400 }, MTU, "become 1500", "advice", ""},
		{"the wire is down", "near", "far:80", func(m *spanned) { m.link("", "eth0").Carrier = false }, LinkDown, "eth0", "advice", ""},
		{"the other host does not answer", "near", "far:80", func(m *spanned) {
			m.neigh[""] = append(m.neigh[""], reading.Neighbour{Link: "eth0", Addr: addr("192.0.2.2"), State: "incomplete"})
		},
			GatewayUnreachable, "192.0.2.2", "advice", ""},
		{"a firewall keeps VXLAN in", "near", "far:80", func(m *spanned) {
			m.drop("", "output", "OUTPUT", "udp dport 4789 drop", func(p ruleset.Packet) bool { return p.DstPort == 4789 })
		},
			HostFirewall, "udp dport 4789 drop", "some", ""},
		{"a firewall keeps VXLAN out", "near", "far:80", func(m *spanned) {
			m.drop("", "input", "INPUT", "udp dport 4789 drop", func(p ruleset.Packet) bool { return p.DstPort == 4789 })
		},
			HostFirewall, "udp dport 4789 drop", "some", "VXLAN from host host2"},
		{"a firewall keeps WireGuard out", "shy", "dark:80", func(m *spanned) {
			m.drop("", "input", "INPUT", "udp dport 51871 drop", func(p ruleset.Packet) bool { return p.DstPort == 51871 })
		},
			HostFirewall, "udp dport 51871 drop", "some", "WireGuard from host host2"},

		{"its own firewall drops the answers", "near", "far:80", func(m *spanned) {
			m.drop("/ns/near", "input", "c", "tcp sport 80 drop", func(p ruleset.Packet) bool { return p.SrcPort == 80 })
		}, ContainerFirewall, "a firewall inside near drops the answers of far to near", "some", ""},
		{"what is bridged is filtered", "near", "far:80", func(m *spanned) {
			m.sysctls[" net/bridge/bridge-nf-call-iptables"] = "1"
			m.drop("", "forward", "FORWARD", "policy drop", func(p ruleset.Packet) bool { return p.In == "br-span" && p.DstPort == 80 })
		}, HostFirewall, "chain FORWARD", "some", ""},
		{"containers kept apart", "near", "far:80", func(m *spanned) {
			m.network("span").Options["com.docker.network.bridge.enable_icc"] = "false"
			m.link("", "br-span").CallIPTables = true
			m.rules = append(m.rules, rule{hook: "forward", verdict: "drop", when: func(p ruleset.Packet) bool { return p.In == "br-span" && p.Out == "br-span" },
				hit: ruleset.Hit{Family: "inet", Table: table, Chain: "drop_icc_off"}})
		}, ICCOff, "network span keeps its containers apart (icc=false), on this host and between hosts", "advice", ""},
		{"a wrong resolver", "near", "far:80", func(m *spanned) {
			m.files[m.pid("near")+" /etc/resolv.conf"] = "nameserver 8.8.8.8\n"
		}, DNSWrong, "asks 8.8.8.8, which knows nothing of far", "some", ""},
		{"a wrong resolver, and an address", "near", "192.168.2.1:80", func(m *spanned) {
			m.files[m.pid("near")+" /etc/resolv.conf"] = "nameserver 8.8.8.8\n"
		}, OK, "reaches far", "", ""},

		{"no handshake yet", "shy", "dark:80", func(m *spanned) { m.tunnel.Up, m.tunnel.Handshake = false, time.Time{} }, OK, "encrypted", "", "no handshake yet"},
		{"an old handshake", "shy", "dark:80", func(m *spanned) { m.tunnel.Up, m.tunnel.Handshake = false, time.Now().Add(-time.Hour) }, OK, "encrypted", "", "last handshake 1h0m0s ago"},
		{"no key", "shy", "dark:80", func(m *spanned) { m.tunnel.Key = false }, NoTunnel, "host host2 has published no key", "advice", ""},
		{"an unknown key", "shy", "dark:80", func(m *spanned) { m.tunnel.Known = false }, NoTunnel, "does not know host host2's key", "linkspan reconcile", ""},
		{"no tunnels", "shy", "dark:80", func(m *spanned) { m.tunnel.Err = "UDP port 51871 is taken" }, NoTunnel, "UDP port 51871 is taken", "advice", ""},
		{"the device is down", "shy", "dark:80", func(m *spanned) { m.link("", "ls-w").Up = false }, NoRoute, "fd77::2", "advice", ""},

		{"route gone", "plain", "level:80", func(m *spanned) { m.unroute("10.50.2.0/26") }, NoRoute, "the host's route to level on host host2 is gone: 10.50.2.0/26 by eth0", "linkspan reconcile", ""},
		{"route elsewhere", "plain", "level:80", func(m *spanned) {
			m.routes[""] = append(m.routes[""], reading.Route{Dst: pre("10.50.2.1/32"), Link: "docker0", Table: 254, Type: "unicast"})
		}, WrongRoute, "10.50.2.1/32", "ip route del 10.50.2.1/32 dev docker0", ""},
		{"a firewall keeps answers from being forwarded", "plain", "level:80", func(m *spanned) {
			m.drop("", "forward", "FORWARD", "policy drop", func(p ruleset.Packet) bool { return p.In == "eth0" && p.Src == addr("10.50.2.1") })
		}, HostFirewall, "FORWARD", "some", ""},
		{"the next hop's entry gone", "plain", "remote:80", func(m *spanned) { m.unneigh("ls-r") }, TunnelEntry, "198.51.100.3 on ls-r", "linkspan reconcile", ""},
		{"the routed tunnel's entry gone", "plain", "remote:80", func(m *spanned) { m.unfdb(func(e reading.FDBEntry) bool { return e.Link == "ls-r" }) }, TunnelEntry, "ls-r does not know", "linkspan reconcile", ""},
	}
}

func TestAcross(t *testing.T) {
	for _, c := range acrosses() {
		t.Run(c.name, func(t *testing.T) {
			m := newSpanned()
			if c.harm != nil {
				c.harm(m)
			}
			a, err := m.ask(t, c.from, c.to)
			if err != nil {
				t.Fatal(err)
			}
			said := false
			for part := range strings.SplitSeq(c.says, "|") {
				said = said || strings.Contains(a.Sentence, part)
			}
			if a.Code != c.code || !said {
				t.Errorf("%s: %s\nwant %s: %s", a.Code, a.Sentence, c.code, c.says)
			}
			cures(t, a, c.cure)
			if !slices.ContainsFunc(a.Steps, func(s Step) bool { return strings.Contains(s.Found, c.step) }) {
				t.Errorf("no step has found %q", c.step)
			}
			if t.Failed() {
				for _, s := range a.Steps {
					t.Logf("%-8s %-7s %-28s %s: %s", s.Part, s.State, s.Where, s.Look, s.Found)
				}
				t.Logf("missing: %q", a.Missing)
			}
		})
	}
}

func (m *spanned) pid(name string) string { return fmt.Sprint(m.container(name).PID) }

func (m *spanned) unroute(dst string) {
	m.routes[""] = slices.DeleteFunc(m.routes[""], func(r reading.Route) bool { return r.Dst == pre(dst) })
}

// TestAcrossElsewhere: each host tells its own half only.
func TestAcrossElsewhere(t *testing.T) {
	m := newSpanned()
	for _, c := range [][2]string{{"far", "near:80"}, {"192.168.2.1", "near"}, {"outside", "far:80"}} {
		if _, err := m.ask(t, c[0], c[1]); err == nil || !strings.Contains(err.Error(), "on host host2") || !strings.Contains(err.Error(), "ask there: linkspan why "+c[0]+" "+c[1]) {
			t.Errorf("why %s %s: %v", c[0], c[1], err)
		}
	}
	a, err := m.ask(t, "near", "nobody")
	if err != nil || a.Code != NoSuchName {
		t.Errorf("%+v, %v", a, err)
	}
}

// cures holds an answer's cure to what is wanted: all of it, "some", or "advice" alone.
func cures(t *testing.T, a *Answer, want string) {
	t.Helper()
	switch want {
	case "advice":
		if a.Cure != "" || a.Advice == "" {
			t.Errorf("cure %q, advice %q", a.Cure, a.Advice)
		}
	case "some":
		if a.Cure == "" {
			t.Errorf("no cure; advice %q", a.Advice)
		}
	default:
		if a.Cure != want {
			t.Errorf("cure %q, want %q", a.Cure, want)
		}
	}
}
