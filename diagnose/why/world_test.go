package why

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
)

const table = "linkspan_00000a"

// world is a host with three networks and some containers, whole: web and db on shop,
// other on backend, pub on the default bridge with port 8080, gone does not run.
type world struct {
	nets       []*cnm.Network
	boxes      []*cnm.Sandbox
	containers []diagnose.Container
	objects    []dataplane.Object

	links   map[string][]reading.Interface
	routes  map[string][]reading.Route
	neigh   map[string][]reading.Neighbour
	entries []reading.FDBEntry
	socks   map[string][]reading.Socket
	flows   []reading.Flow
	sysctls map[string]string // "NS NAME"
	files   map[string]string // "PID PATH"
	stopped map[uint64]bool
	rules   []rule
	fails   map[string]error // what cannot be read: "rules ", "sockets NS"
	martian bool             // routes that are asked with In are refused
}

// rule is one of a firewall's: it judges what comes by a hook.
type rule struct {
	ns, family, hook string
	when             func(ruleset.Packet) bool
	hit              ruleset.Hit
	verdict          string
	to, from         netip.AddrPort // DNAT, SNAT
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func addr(s string) netip.Addr   { return netip.MustParseAddr(s) }
func pre(s string) netip.Prefix  { return netip.MustParsePrefix(s) }

func newWorld() *world {
	w := &world{links: map[string][]reading.Interface{}, routes: map[string][]reading.Route{}, neigh: map[string][]reading.Neighbour{}, socks: map[string][]reading.Socket{},
		sysctls: map[string]string{" net/ipv4/ip_forward": "1", " net/ipv4/conf/docker0/forwarding": "1", " net/ipv4/conf/br-shop/forwarding": "1", " net/ipv4/conf/eth0/forwarding": "1"},
		files:   map[string]string{}, stopped: map[uint64]bool{}, fails: map[string]error{}}
	w.links[""] = []reading.Interface{{Index: 1, Name: "lo", MTU: 65536, Up: true, Addrs: []netip.Prefix{pre("127.0.0.1/8"), pre("::1/128")}},
		{Index: 2, Name: "eth0", MAC: "52:54:00:00:00:02", MTU: 1500, Up: true, Carrier: true, Addrs: []netip.Prefix{pre("192.0.2.10/24")}}}
	w.routes[""] = []reading.Route{{Dst: pre("0.0.0.0/0"), Gateway: addr("192.0.2.1"), Link: "eth0", Table: 254, Type: "unicast"},
		{Dst: pre("192.0.2.0/24"), Link: "eth0", Src: addr("192.0.2.10"), Table: 254, Type: "unicast"}}
	w.net("bridge", "docker0", "172.17.0.0/16", "172.17.0.1").Predefined = true
	w.net("shop", "br-shop", "172.20.0.0/16", "172.20.0.1")
	w.net("backend", "br-back", "172.21.0.0/16", "172.21.0.1")
	w.box("web", "shop", "172.20.0.2")
	w.box("db", "shop", "172.20.0.3", "tcp 0.0.0.0:5432")
	w.box("other", "backend", "172.21.0.2", "tcp 0.0.0.0:80")
	w.box("pub", "bridge", "172.17.0.2", "tcp 0.0.0.0:80").Ports = []cnm.PublishedPort{{Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80},
		{Proto: "tcp", HostIP: addr("127.0.0.1"), HostPort: 8081, HostPortEnd: 8081, Port: 80}}
	w.containers = append(w.containers, diagnose.Container{ID: strings.Repeat("9", 64), Name: "gone", State: "exited", ExitCode: 137, Networks: []string{"shop"}})
	w.page()
	return w
}

func (w *world) net(name, device, subnet, gateway string) *cnm.Network {
	n := &cnm.Network{ID: name + "-id", Name: name, Driver: "bridge", Pools: []cnm.Pool{{Subnet: pre(subnet), Gateway: addr(gateway)}},
		Options: map[string]string{"com.docker.network.bridge.name": device}}
	w.nets = append(w.nets, n)
	bits := pre(subnet).Bits()
	w.links[""] = append(w.links[""], reading.Interface{Index: 10 + len(w.nets), Name: device, Kind: "bridge", MAC: cnm.MACFor(addr(gateway)), MTU: 1500, Up: true, Carrier: true,
		Addrs: []netip.Prefix{netip.PrefixFrom(addr(gateway), bits)}})
	w.routes[""] = append(w.routes[""], reading.Route{Dst: pre(subnet), Link: device, Src: addr(gateway), Table: 254, Type: "unicast"})
	o := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerNetwork, ID: n.ID}}
	w.objects = append(w.objects, dataplane.Bridge{Meta: o, Name: device}, dataplane.Addr{Meta: o, Link: device, Prefix: netip.PrefixFrom(addr(gateway), bits)},
		dataplane.MasqueradeElement(o, table, pre(subnet)), dataplane.Sysctl{Meta: o, Name: "net/ipv4/conf/" + device + "/route_localnet", Value: "1"})
	w.sysctls[" net/ipv4/conf/"+device+"/route_localnet"] = "1"
	return n
}

// box makes a running container; socks are "tcp 0.0.0.0:80".
func (w *world) box(name, network, ip string, socks ...string) *cnm.Sandbox {
	i := len(w.boxes) + 1
	n := w.network(network)
	id := strings.Repeat(fmt.Sprint(i), 64)
	a := netip.PrefixFrom(addr(ip), n.Pools[0].Subnet.Bits())
	host, ns := "veth"+name, "/ns/"+name
	e := cnm.Endpoint{ID: "e" + name, NetworkID: n.ID, NetworkName: n.Name, IfName: "eth0", HostIf: host, MAC: cnm.MACFor(addr(ip)),
		Addrs: []netip.Prefix{a}, Gateways: []netip.Addr{n.Pools[0].Gateway}}
	s := &cnm.Sandbox{ID: "s" + name, Owner: id, OwnerName: name, Members: []string{id}, Path: ns}
	if !n.Predefined {
		e.Names, s.Resolver = []string{name, id[:12]}, true
		w.socks[ns] = append(w.socks[ns], reading.Socket{Proto: "udp", Addr: resolverAddr, Port: 11053})
	}
	s.Endpoints = []cnm.Endpoint{e}
	w.boxes = append(w.boxes, s)
	w.containers = append(w.containers, diagnose.Container{ID: id, Name: name, State: "running", PID: 100 + i, Mode: network, Networks: []string{network}})
	w.links[""] = append(w.links[""], reading.Interface{Index: 100 + i, Name: host, Kind: "veth", MTU: 1500, Up: true, Carrier: true, Master: device(n), Peer: 2,
		Port: &reading.BridgePort{State: "forwarding"}})
	w.links[ns] = []reading.Interface{{Index: 1, Name: "lo", MTU: 65536, Up: true, Addrs: []netip.Prefix{pre("127.0.0.1/8")}},
		{Index: 2, Name: "eth0", Kind: "veth", MAC: e.MAC, MTU: 1500, Up: true, Carrier: true, Peer: 100 + i, Addrs: []netip.Prefix{a}}}
	w.routes[ns] = []reading.Route{{Dst: pre("0.0.0.0/0"), Gateway: n.Pools[0].Gateway, Link: "eth0", Table: 254, Type: "unicast"},
		{Dst: a.Masked(), Link: "eth0", Src: a.Addr(), Table: 254, Type: "unicast"}}
	w.entries = append(w.entries, reading.FDBEntry{MAC: e.MAC, Link: host, Bridge: device(n)})
	w.files[fmt.Sprint(100+i, " /etc/resolv.conf")] = "nameserver 127.0.0.11\noptions ndots:0\n"
	w.files[fmt.Sprint(100+i, " /etc/hosts")] = "127.0.0.1 localhost\n" + ip + " " + name + "\n"
	for j, text := range socks {
		w.listen(name, text, uint64(1000*i+j))
	}
	o := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerEndpoint, ID: e.ID}}
	w.objects = append(w.objects, dataplane.Veth{Meta: o, Name: host, Master: device(n), PeerNS: ns, PeerName: "eth0"}, dataplane.Addr{Meta: o, NS: ns, Link: "eth0", Prefix: a},
		dataplane.Route{Meta: o, NS: ns, Dst: pre("0.0.0.0/0"), Via: n.Pools[0].Gateway, Link: "eth0"})
	return s
}

func (w *world) network(name string) *cnm.Network {
	for _, n := range w.nets {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (w *world) sandbox(name string) *cnm.Sandbox {
	for _, s := range w.boxes {
		if s.OwnerName == name {
			return s
		}
	}
	return nil
}

func (w *world) container(name string) *diagnose.Container {
	for i := range w.containers {
		if w.containers[i].Name == name {
			return &w.containers[i]
		}
	}
	return nil
}

func (w *world) link(ns, name string) *reading.Interface {
	for i := range w.links[ns] {
		if w.links[ns][i].Name == name {
			return &w.links[ns][i]
		}
	}
	return nil
}

func (w *world) unlink(ns, name string) {
	w.links[ns] = slices.DeleteFunc(w.links[ns], func(l reading.Interface) bool { return l.Name == name })
}

// deaf takes a container's sockets but the resolver's.
func (w *world) deaf(name string) {
	ns := "/ns/" + name
	w.socks[ns] = slices.DeleteFunc(w.socks[ns], func(s reading.Socket) bool { return s.Port != 11053 })
}

func (w *world) listen(name, text string, inode uint64) {
	proto, at, _ := strings.Cut(text, " ")
	ns := "/ns/" + name
	if name == "" {
		ns = ""
	}
	w.socks[ns] = append(w.socks[ns], reading.Socket{Proto: proto, Addr: ap(at).Addr(), Port: ap(at).Port(), Backlog: 128, Inode: inode})
}

// page are the rules of ours that matter here.
func (w *world) page() {
	own := ruleset.Hit{Family: "inet", Table: table}
	chain := func(name, text string) ruleset.Hit { h := own; h.Chain, h.Text, h.Handle = name, text, 7; return h }
	publish := func(p ruleset.Packet) bool {
		return p.State == "new" && p.DstPort == 8080 && (p.Dst == addr("192.0.2.10") || p.Dst == addr("127.0.0.1") || p.Dst == addr("172.20.0.1"))
	}
	loop := func(p ruleset.Packet) bool {
		return p.State == "new" && p.DstPort == 8081 && p.Dst == addr("127.0.0.1")
	}
	bridges := []string{"docker0", "br-shop", "br-back"}
	w.rules = append(w.rules,
		rule{hook: "prerouting", when: publish, hit: chain("publish", "dnat …"), to: ap("172.17.0.2:80")},
		rule{hook: "output", when: func(p ruleset.Packet) bool { return publish(p) || loop(p) }, hit: chain("publish", "dnat …"), to: ap("172.17.0.2:80")},
		rule{hook: "postrouting", when: func(p ruleset.Packet) bool { return p.State == "new" && p.Src.IsLoopback() && p.Out == "docker0" }, hit: chain("returning", "masquerade"), from: ap("172.17.0.1:49152")},
		rule{hook: "postrouting", when: func(p ruleset.Packet) bool {
			return p.State == "new" && p.Src.Is4() && p.Src.As4()[0] == 172 && p.Out == "eth0"
		}, hit: chain("leaving", "masquerade"), from: ap("192.0.2.10:49152")},
		rule{hook: "forward", when: func(p ruleset.Packet) bool {
			return p.State == "new" && slices.Contains(bridges, p.In) && slices.Contains(bridges, p.Out) && p.In != p.Out && (p.CT == nil || !p.CT.DNAT)
		}, hit: chain("drop_isolated", "counter drop"), verdict: "drop"},
		rule{hook: "forward", when: func(p ruleset.Packet) bool {
			return p.State == "new" && p.In == "eth0" && slices.Contains(bridges, p.Out) && (p.CT == nil || !p.CT.DNAT)
		}, hit: chain("drop_unpublished", "counter drop"), verdict: "drop"})
}

// drop adds a rule of somebody else's.
func (w *world) drop(ns, hook, chain, text string, when func(ruleset.Packet) bool) {
	w.rules = append(w.rules, rule{ns: ns, hook: hook, when: when, verdict: "drop", hit: ruleset.Hit{Family: "ip", Table: "filter", Chain: chain, Text: text, Handle: 5}})
}

// What follows is the World, the Reader and the rest that a walk asks.

func (w *world) Networks() []*cnm.Network                            { return w.nets }
func (w *world) Sandboxes() []*cnm.Sandbox                           { return w.boxes }
func (w *world) Containers() []diagnose.Container                    { return w.containers }
func (w *world) Objects(context.Context) ([]dataplane.Object, error) { return w.objects, nil }

func (w *world) Interfaces(_ context.Context, ns string) ([]reading.Interface, error) {
	if _, there := w.links[ns]; !there {
		return nil, fmt.Errorf("%s: %w", ns, fs.ErrNotExist)
	}
	return w.links[ns], w.fails["links "+ns]
}
func (w *world) Routes(_ context.Context, ns string) ([]reading.Route, error) {
	return w.routes[ns], nil
}
func (w *world) Neighbours(_ context.Context, ns string) ([]reading.Neighbour, error) {
	return w.neigh[ns], w.fails["neighbours "+ns]
}
func (w *world) FDB(context.Context, string) ([]reading.FDBEntry, error) { return w.entries, nil }
func (w *world) Sockets(_ context.Context, ns string) ([]reading.Socket, error) {
	return w.socks[ns], w.fails["sockets "+ns]
}
func (w *world) Flows(context.Context, string, reading.FlowFilter) ([]reading.Flow, error) {
	return w.flows, nil
}
func (w *world) Ruleset(context.Context, string) (*ruleset.Ruleset, error) {
	return &ruleset.Ruleset{}, nil
}
func (w *world) Sysctl(_ context.Context, ns, name string) (string, error) {
	if v, ok := w.sysctls[ns+" "+name]; ok {
		return v, nil
	}
	return "", fs.ErrNotExist
}

// Route is the longest prefix, as of a kernel without policy rules.
func (w *world) Route(_ context.Context, ns string, q reading.RouteQuery) (reading.RouteAnswer, error) {
	for _, l := range w.links[ns] {
		for _, p := range l.Addrs {
			if p.Addr() == q.Dst || l.Name == "lo" && p.Contains(q.Dst) {
				src := q.Dst
				return reading.RouteAnswer{Type: "local", Link: "lo", Src: src}, nil
			}
		}
	}
	if q.In != "" && w.martian {
		return reading.RouteAnswer{Err: "invalid cross-device link"}, nil
	}
	if q.In != "" && w.sysctls[ns+" net/ipv4/conf/"+q.In+"/forwarding"] == "0" {
		return reading.RouteAnswer{Err: "no route to host"}, nil
	}
	var best *reading.Route
	for i, r := range w.routes[ns] {
		l := w.link(ns, r.Link)
		if r.Dst.Contains(q.Dst) && (best == nil || r.Dst.Bits() > best.Dst.Bits()) && (r.Link == "" || l != nil && l.Up) {
			best = &w.routes[ns][i]
		}
	}
	switch {
	case best == nil:
		return reading.RouteAnswer{Err: "network is unreachable"}, nil
	case best.Type != "unicast":
		return reading.RouteAnswer{Type: best.Type, Err: "invalid argument"}, nil
	}
	a := reading.RouteAnswer{Type: "unicast", Link: best.Link, Gateway: best.Gateway, Src: best.Src, Table: 254}
	if l := w.link(ns, best.Link); !a.Src.IsValid() && len(l.Addrs) > 0 {
		a.Src = l.Addrs[0].Addr()
	}
	return a, nil
}

func (w *world) ReadFile(pid int, path string) ([]byte, error) {
	if v, ok := w.files[fmt.Sprint(pid, " ", path)]; ok {
		return []byte(v), nil
	}
	return nil, fs.ErrNotExist
}
func (w *world) Holders(inode uint64, _ int) ([]Process, error) {
	if inode == 0 {
		return nil, errors.New("none")
	}
	return []Process{{PID: int(inode), Name: "server", Stopped: w.stopped[inode]}}, nil
}
func (w *world) Process(pid int) (Process, error) { return Process{PID: pid, Name: "server"}, nil }

// fakeRules judges by w.rules, and rewrites what is translated, both ways.
type fakeRules struct {
	w  *world
	ns string
}

func (f fakeRules) hasTable(family, name string) bool {
	return f.w.sysctls[f.ns+" no redirect"] == ""
}
func (f fakeRules) chains(string, string) []string { return nil }

func (f fakeRules) walk(family, hook string, p ruleset.Packet) ruleset.Trace {
	t := ruleset.Trace{Verdict: ruleset.Accept, Hook: hook, Packet: p}
	if p.CT == nil && p.State == "new" && family == "" {
		orig := ruleset.Tuple{Src: netip.AddrPortFrom(p.Src, p.SrcPort), Dst: netip.AddrPortFrom(p.Dst, p.DstPort)}
		t.Packet.CT = &ruleset.Conntrack{Original: orig, Reply: ruleset.Tuple{Src: orig.Dst, Dst: orig.Src}}
	}
	if ct := p.CT; ct != nil && p.Reply {
		switch hook {
		case "prerouting", "output":
			t.Packet.Dst, t.Packet.DstPort = ct.Original.Src.Addr(), ct.Original.Src.Port()
		case "postrouting", "input":
			t.Packet.Src, t.Packet.SrcPort = ct.Original.Dst.Addr(), ct.Original.Dst.Port()
		}
	}
	for _, r := range f.w.rules {
		if r.ns != f.ns || r.family != family || r.hook != hook || !r.when(t.Packet) {
			continue
		}
		h := r.hit
		h.Hook = hook
		ct := t.Packet.CT
		switch {
		case r.to.IsValid():
			t.Packet.Dst, t.Packet.DstPort = r.to.Addr(), r.to.Port()
			c := *ct
			c.DNAT, c.Reply.Src = true, r.to
			t.Packet.CT = &c
		case r.from.IsValid():
			t.Packet.Src, t.Packet.SrcPort = r.from.Addr(), r.from.Port()
			c := *ct
			c.SNAT, c.Reply.Dst = true, r.from
			t.Packet.CT = &c
		case r.verdict != "":
			t.Verdict, t.Rule = r.verdict, &h
			return t
		}
		h.Changed = &ruleset.Tuple{Src: netip.AddrPortFrom(t.Packet.Src, t.Packet.SrcPort), Dst: netip.AddrPortFrom(t.Packet.Dst, t.Packet.DstPort)}
		t.Hits = append(t.Hits, h)
	}
	return t
}

// ask asks why.
func (w *world) ask(t *testing.T, from, to string, more ...func(*Options)) *Answer {
	t.Helper()
	o := Options{Processes: w, Firewall: func(ns string) (firewall, error) { return fakeRules{w, ns}, w.fails["rules "+ns] }}
	for _, f := range more {
		f(&o)
	}
	a, err := Ask(t.Context(), &diagnose.World{Declared: w, Kernel: w, Table: table}, from, to, o)
	if err != nil {
		t.Fatalf("why %s %s: %v", from, to, err)
	}
	return a
}

// World is it as a walk is given it.
func (w *world) World() *diagnose.World { return &diagnose.World{Declared: w, Kernel: w, Table: table} }
