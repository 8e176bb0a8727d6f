package bridge_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/drivertest"
	"linkspan/internal/lab"
	"linkspan/netns"
	"linkspan/probe"
)

// world is a host on which the driver's plans are real, and another machine on a
// wire. The host has several addresses, as in R32: it leaves as .105 unless told.
type world struct {
	t       *testing.T
	env     driver.Env
	lab     *lab.Lab
	host    *lab.Host
	machine *lab.Host
	k       *linux.Kernel
	pins    string
	boxes   map[string]*box
	shared  map[string]string
}

const (
	hostAddr, machineAddr   = "192.168.99.31", "192.168.99.50"
	hostAddr6, machineAddr6 = "fd99::31", "fd99::50"
)

func newWorld(t *testing.T, env ...func(*driver.Env)) *world {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.NFT, probe.NFTProgram, probe.Conntrack, probe.IPv6)
	w := &world{t: t, env: driver.Env{Table: table}, lab: lab.New(t), boxes: map[string]*box{}, shared: map[string]string{}}
	for _, f := range env {
		f(&w.env)
	}
	w.host, w.machine = w.lab.Host("host").Router(), w.lab.Host("machine")
	for _, f := range []string{"iptables", "ip6tables"} { // a new namespace has it on
		if _, err := w.host.Try("sysctl", "-qw", fmt.Sprintf("net.bridge.bridge-nf-call-%s=%d", f, map[bool]int{true: 1}[w.env.BridgeNF])); err != nil && w.env.BridgeNF {
			t.Fatal(err)
		}
	}
	wire := w.lab.Wire(w.host, w.machine)
	w.host.Addr(wire.DevA, prefixes(hostAddr+"/24", hostAddr6+"/64", "60.191.82.105/24", "60.191.82.106/24", "60.191.82.107/24",
		"2001:db8::105/64", "2001:db8::106/64", "2001:db8::107/64")...)
	w.machine.Addr(wire.DevB, prefixes(machineAddr+"/24", machineAddr6+"/64", "60.191.82.1/24", "2001:db8::1/64")...)

	w.k, w.pins = drivertest.Kernel(t, w.host, table, func(name, prior string) error { w.shared[name] = prior; return nil })
	w.apply(diff.Create([]dataplane.Object{dataplane.BasePage(table)}))
	serve(t, w.host.NS, "host")
	serve(t, w.machine.NS, "machine")
	return w
}

func prefixes(ss ...string) (out []netip.Prefix) {
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (w *world) apply(ops []dataplane.Op) {
	w.t.Helper()
	if err := w.k.Apply(w.t.Context(), ops); err != nil {
		w.t.Fatal(err)
	}
}

// net makes a network: name, subnets, then changes.
func (w *world) net(name string, subnets []string, change ...func(*cnm.Network)) *cnm.Network {
	w.t.Helper()
	n := &cnm.Network{ID: strings.Repeat(hex.EncodeToString([]byte(name)), 32)[:64], Name: name, Driver: "bridge", Options: map[string]string{
		"com.docker.network.bridge.name": "br-" + name}}
	for _, s := range subnets {
		p := netip.MustParsePrefix(s)
		n.Pools = append(n.Pools, cnm.Pool{Subnet: p, Gateway: p.Masked().Addr().Next()})
	}
	for _, f := range change {
		f(n)
	}
	if err := (bridge.Driver{}).Check(n); err != nil {
		w.t.Fatal(err)
	}
	objs, err := bridge.Driver{}.Network(w.env, n)
	if err != nil {
		w.t.Fatal(err)
	}
	w.apply(diff.Create(objs))
	return n
}

// box is a container's network stack.
type box struct {
	name string
	s    *cnm.Sandbox
	n    *cnm.Network
}

// box makes a sandbox on a network, with the host part of its addresses.
func (w *world) box(n *cnm.Network, name string, last byte, change ...func(*cnm.Sandbox)) *box {
	w.t.Helper()
	id := strings.Repeat(hex.EncodeToString(append([]byte(name), last)), 32)[:64]
	s := &cnm.Sandbox{ID: id, Owner: id, OwnerName: name, Path: filepath.Join(w.pins, name)}
	e := cnm.Endpoint{ID: id, NetworkID: n.ID, NetworkName: n.Name, IfName: "eth0", HostIf: "v" + name, MAC: fmt.Sprintf("02:42:00:00:%02x:%02x", name[0], last)}
	for _, p := range n.Pools {
		a := p.Subnet.Masked().Addr()
		for range last {
			a = a.Next()
		}
		e.Addrs = append(e.Addrs, netip.PrefixFrom(a, p.Subnet.Bits()))
		if !n.Internal {
			e.Gateways = append(e.Gateways, n.RouterOf(p))
		}
	}
	s.Endpoints = []cnm.Endpoint{e}
	for _, f := range change {
		f(s)
	}
	b := &box{name, s, n}
	w.apply(diff.Create(append(w.plan(b), dataplane.Namespace{Meta: dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerSandbox, ID: id, Name: name}}, Path: s.Path})))
	w.boxes[name] = b
	serve(w.t, s.Path, name)
	return b
}

func (w *world) plan(b *box) []dataplane.Object {
	w.t.Helper()
	objs, err := bridge.Driver{}.Endpoint(w.env, b.n, b.s, &b.s.Endpoints[0], b.s.Ports)
	if err != nil {
		w.t.Fatal(err)
	}
	return objs
}

func (b *box) addr(v4 bool) string {
	if v4 {
		return b.s.Endpoints[0].Addr4().Addr().String()
	}
	return b.s.Endpoints[0].Addr6().Addr().String()
}

func (w *world) run(ns string, cmd ...string) string {
	w.t.Helper()
	h := &lab.Host{Name: ns, NS: ns}
	out, err := h.Command(cmd...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// ns is the namespace of "host", "machine" or a box.
func (w *world) ns(who string) string {
	switch who {
	case "host":
		return w.host.NS
	case "machine":
		return w.machine.NS
	}
	if b := w.boxes[who]; b != nil {
		return b.s.Path
	}
	w.t.Fatalf("nobody is called %s", who)
	return ""
}

// servedPorts are where everyone answers, by both protocols and families.
var servedPorts = []int{80, 90}

// serve answers "NAME sees ADDRESS" to whoever asks on these ports, or servedPorts.
func serve(t *testing.T, ns, name string, ports ...int) {
	t.Helper()
	if ports == nil {
		ports = servedPorts
	}
	for _, port := range ports {
		drivertest.Serve(t, ns, name, port)
	}
}

// wait is how long an answer may take; nothing here is further than a veth away.
const wait = 400 * time.Millisecond

// ask returns what was answered, or "closed".
func (w *world) ask(from, proto, target string) string {
	var c net.Conn
	err := netns.Do(w.ns(from), func() (err error) { c, err = net.DialTimeout(proto, target, wait); return err })
	if err != nil {
		return "closed"
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	if proto == "udp" {
		c.Write([]byte("?"))
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil && err != io.EOF || n == 0 {
		return "closed"
	}
	return string(b[:n])
}

// way is one thing to try: who asks whom, and what comes of it: "closed", a name, or
// a name and the address it must see.
type way struct{ from, to, want string }

// ways tries all at once, by TCP and UDP.
func (w *world) ways(when string, all ...way) {
	w.t.Helper()
	var wg sync.WaitGroup
	got := make([][2]string, len(all))
	for i, y := range all {
		for j, proto := range []string{"tcp", "udp"} {
			if y.want == "host" && proto == "udp" {
				got[i][j] = "host" // one socket for all of its addresses answers from another one
				continue
			}
			wg.Go(func() {
				// A port that just came up may lose the first ARP request, which is repeated
				// after a second.
				for range 5 {
					if got[i][j] = w.ask(y.from, proto, y.to); y.want == "closed" || got[i][j] != "closed" {
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for i, y := range all {
		for j, proto := range []string{"tcp", "udp"} {
			answer := got[i][j]
			name, _, _ := strings.Cut(answer, " ")
			if answer != y.want && name != y.want {
				w.t.Errorf("%s: %s asks %s by %s: %s, want %s", when, y.from, y.to, proto, answer, y.want)
			}
		}
	}
}

func at(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
