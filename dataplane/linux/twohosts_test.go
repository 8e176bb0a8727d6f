package linux_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/netns"
	"linkspan/probe"
)

const (
	ourVNI     = 0x4C0001
	securedVNI = 0x4C0002
)

// wire is a LAN of hosts: each has u0 on a switch of the test's own.
type wire struct {
	t     testing.TB
	six   bool
	hosts []*host
}

func newWire(t testing.TB, n int, six bool) *wire {
	t.Helper()
	probe.Require(t, probe.VXLAN, probe.Tcpdump)
	w := &wire{t: t, six: six}
	sw := filepath.Join(t.TempDir(), "switch")
	if err := netns.Create(sw); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Dismantle(filepath.Dir(sw)) })
	must := func(cmd string) {
		t.Helper()
		if out, err := command(sw, strings.Fields(cmd)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	must("ip link add lan type bridge mcast_snooping 0")
	must("ip link set lan up")
	for i := range n {
		h := newHost(t)
		must(fmt.Sprintf("ip link add p%d type veth peer name u0 netns %s", i, h.ns))
		must(fmt.Sprintf("ip link set p%d master lan up", i))
		if six {
			h.run("ip", "addr", "add", w.at(i).String()+"/64", "dev", "u0", "nodad")
		} else {
			h.run("ip", "addr", "add", w.at(i).String()+"/24", "dev", "u0")
		}
		h.run("ip", "link", "set", "u0", "up")
		h.run("ip", "link", "set", "lo", "up")
		w.hosts = append(w.hosts, h)
	}
	return w
}

// at is a host's address on the LAN.
func (w *wire) at(i int) netip.Addr {
	if w.six {
		return addr(fmt.Sprintf("fd00:99::%d", i+1))
	}
	return addr(fmt.Sprintf("10.99.0.%d", i+1))
}

func (w *wire) mtu() int {
	if w.six {
		return 1430
	}
	return 1450
}

// network is what host i has of a network on which it and the peers are.
func (w *wire) network(i int, vni uint32, port uint16, secure string, peers ...int) []dataplane.Object {
	objs := []dataplane.Object{
		dataplane.BasePage(table), dataplane.TunnelPage(table),
		dataplane.BridgeElement(network, table, "br-x"),
		dataplane.ICCElement(network, table, "br-x"),
		dataplane.EgressElement(network, table, "br-x"),
		dataplane.SpanElement(network, table, "br-x"),
		dataplane.TunnelElement(network, table, "vx-x"),
		dataplane.VNIElement(network, table, port, vni, secure),
		dataplane.Bridge{Meta: network, Name: "br-x", MTU: w.mtu(), MAC: "02:42:0a:58:00:01"},
		dataplane.VXLAN{Meta: network, Name: "vx-x", VNI: vni, Local: w.at(i), Dev: "u0", Port: port, MTU: w.mtu(), Master: "br-x"},
		dataplane.Sysctl{Meta: network, Name: "net/ipv6/conf/vx-x/disable_ipv6", Value: "1", Optional: true},
		dataplane.Addr{Meta: network, Link: "br-x", Prefix: prefix("10.88.0.1/16")},
		dataplane.Addr{Meta: network, Link: "br-x", Prefix: prefix("fd00:88::1/64")},
		dataplane.Up{Meta: network, Link: "br-x"},
		dataplane.Up{Meta: network, Link: "vx-x"},
	}
	for _, p := range peers {
		objs = append(objs, dataplane.PeerElement(network, table, w.at(p)),
			dataplane.FDB{Meta: network, Dev: "vx-x", MAC: dataplane.FDBDefault, Dst: w.at(p)})
		for _, ip := range []netip.Addr{box4(p), box6(p)} {
			objs = append(objs, dataplane.Neighbour{Meta: network, Link: "br-x", Addr: ip, MAC: boxMAC(p)})
		}
		objs = append(objs, dataplane.FDB{Meta: network, Dev: "vx-x", MAC: boxMAC(p), Dst: w.at(p)}, dataplane.FDB{Meta: network, Dev: "vx-x", MAC: boxMAC(p)})
	}
	return objs
}

func box4(i int) netip.Addr { return addr(fmt.Sprintf("10.88.%d.2", i)) }
func box6(i int) netip.Addr { return addr(fmt.Sprintf("fd00:88::%d:2", i+1)) }
func boxMAC(i int) string   { return fmt.Sprintf("02:42:0a:58:%02x:02", i) }

// box is a container on host i.
func (w *wire) box(i int) []dataplane.Object {
	ns := w.hosts[i].pin("box")
	return []dataplane.Object{
		dataplane.Namespace{Meta: endpoint, Path: ns},
		dataplane.Veth{Meta: endpoint, Name: "vethbox", Master: "br-x", MTU: w.mtu(), PeerNS: ns, PeerName: "eth0", PeerMAC: boxMAC(i)},
		dataplane.Up{Meta: endpoint, NS: ns, Link: "lo"},
		dataplane.Addr{Meta: endpoint, NS: ns, Link: "eth0", Prefix: netip.PrefixFrom(box4(i), 16)},
		dataplane.Addr{Meta: endpoint, NS: ns, Link: "eth0", Prefix: netip.PrefixFrom(box6(i), 64)},
		dataplane.Up{Meta: endpoint, NS: ns, Link: "eth0"},
		dataplane.Up{Meta: endpoint, Link: "vethbox", Wire: true},
	}
}

// capture records what passes a device, until it is asked.
func (h *host) capture(dev, filter string) (read func() string) {
	h.t.Helper()
	cmd := command(h.ns, "tcpdump", "-i", dev, "-nn", "-U", "--immediate-mode", "-l", "-e", filter)
	var b strings.Builder
	cmd.Stdout = &b
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	buf := make([]byte, 256)
	_, _ = said.Read(buf) // "listening on": it is
	go io.Copy(io.Discard, said)
	done := false
	stop := func() {
		if !done {
			done = true
			time.Sleep(50 * time.Millisecond)
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		}
	}
	h.t.Cleanup(stop)
	return func() string { stop(); return strings.TrimSpace(b.String()) }
}

// transfer sends a megabyte from one container to the other by TCP.
func transfer(t testing.TB, from, to string, at netip.AddrPort) {
	t.Helper()
	const size = 1 << 20
	var l net.Listener
	if err := netns.Do(to, func() (err error) { l, err = net.Listen("tcp", at.String()); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	err := netns.Do(from, func() error {
		fd, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer fd.Close()
		_ = fd.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = fd.Write(make([]byte, size))
		return err
	})
	if err != nil {
		t.Fatalf("to %s: %v", at, err)
	}
	if n := <-got; n != size {
		t.Errorf("%s got %d bytes", at, n)
	}
}

func pings(ns string, to netip.Addr, more ...string) error {
	// What is lost while ports come up is repeated after a second.
	args := append([]string{"ping", "-c1", "-w5"}, more...)
	out, err := command(ns, append(args, to.String())...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// TestTwoHosts: containers of two hosts reach each other, full-sized packets included;
// nobody asks for an address on the wire, and broadcasts go where they are told to.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	for name, six := range map[string]bool{"IPv4 underlay": false, "IPv6 underlay": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, 3, six)
			a, b := w.hosts[0], w.hosts[1]
			seen := a.capture("u0", "udp port 4789")
			third := w.hosts[2].capture("u0", "udp port 4789 and dst host "+w.at(2).String())
			for i := range 2 {
				w.hosts[i].apply(diff.Create(append(w.network(i, ourVNI, 4789, "", 1-i), w.box(i)...)))
			}
			for _, to := range []netip.Addr{box4(1), box6(1)} {
				if err := pings(a.pin("box"), to); err != nil {
					t.Error(err)
				}
				if err := pings(a.pin("box"), to, "-M", "do", "-s", fmt.Sprint(w.mtu()-28-20*b2i(to.Is6()))); err != nil {
					t.Errorf("full-sized: %v", err)
				}
				transfer(t, a.pin("box"), b.pin("box"), netip.AddrPortFrom(to, 7000))
			}
			// An unknown neighbour is asked for by nobody outside of the host.
			_ = pings(a.pin("box"), addr("10.88.7.7"), "-w1")
			_ = pings(a.pin("box"), addr("fd00:88::7:7"), "-w1")
			// A broadcast reaches the other host's containers.
			heard := b.capture("br-x", "udp port 9")
			err := netns.Do(a.pin("box"), func() error {
				c, err := (&net.ListenConfig{Control: func(_, _ string, r syscall.RawConn) error {
					return r.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1) })
				}}).ListenPacket(t.Context(), "udp4", ":0")
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.WriteTo([]byte("all"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.88.255.255:9")))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if out := heard(); !strings.Contains(out, "10.88.255.255.9") {
				t.Errorf("the broadcast was not replicated:\n%s", out)
			}
			out := seen()
			if !strings.Contains(out, fmt.Sprintf("vni %d", ourVNI)) || !strings.Contains(out, "ICMP echo request") {
				t.Errorf("no such packets on the wire:\n%.3000s", out)
			}
			for _, no := range []string{"ARP,", "neighbor solicitation", "neighbor advertisement", "router solicitation"} {
				if i := strings.Index(out, no); i >= 0 {
					t.Errorf("%s on the wire:\n%s", no, out[max(0, i-400):min(len(out), i+100)])
				}
			}
			if out := third(); out != "" {
				t.Errorf("a host without members got packets:\n%.1000s", out)
			}
			if out := a.run("bridge", "fdb", "show", "dev", "vx-x"); strings.Count(out, "\n") > 4 {
				t.Logf("forwarding database:\n%s", out)
			}
			for i := range 2 {
				want := dataplane.NewState(append(w.network(i, ourVNI, 4789, "", 1-i), w.box(i)...)...)
				have := w.hosts[i].observe()
				for _, op := range diff.Compute(want, have).Ops {
					if _, sys := op.Object.(dataplane.Sysctl); !sys && dataplane.InSandbox(op.Object) == "" {
						t.Errorf("host %d: traffic is taken for drift: %s %s %s", i, op.Verb, op.Object.Key(), op.Object.Spec())
					}
				}
				w.hosts[i].apply(diff.Delete(want.All()))
				if err := w.hosts[i].k.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if s := w.hosts[i].observe(); s.Len() != 0 {
					t.Errorf("left behind:\n%s", dataplane.Text(s.All()))
				}
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// dropped is how many packets a rule of the page has dropped.
func (h *host) dropped(rule string) string {
	h.t.Helper()
	out := h.run("nft", "list", "chain", "inet", table, "drop_"+rule)
	_, n, _ := strings.Cut(out, "counter packets ")
	n, _, _ = strings.Cut(n, " ")
	return n
}

// TestStrangersTunnels: our VNIs are taken from hosts of the mesh only; what another
// engine has on the same port is its own.
func TestStrangersTunnels(t *testing.T) {
	t.Parallel()
	w := newWire(t, 3, false)
	a, c := w.hosts[0], w.hosts[2]
	a.apply(diff.Create(append(w.network(0, ourVNI, 4789, "", 1), w.box(0)...)))
	// The third host is not of the mesh: it has a VXLAN with our number, and one of its own.
	foreign := func(h *host, name string, vni, to int, ip string) {
		h.run(strings.Fields(fmt.Sprintf("ip link add %s type vxlan id %d local %s remote %s dstport 4789 dev u0", name, vni, strings.Fields(h.run("ip", "-4", "-br", "addr", "show", "u0"))[2][:9], w.at(to)))...)
		h.run("ip", "addr", "add", ip, "dev", name)
		h.run("ip", "link", "set", name, "up")
	}
	foreign(c, "evil", ourVNI, 0, "10.88.9.9/16")
	foreign(c, "other", 42, 0, "10.42.0.3/24")
	foreign(a, "other", 42, 2, "10.42.0.1/24")
	if err := pings(c.ns, addr("10.42.0.1")); err != nil {
		t.Errorf("another engine's VXLAN is disturbed: %v", err)
	}
	c.run("ip", "neigh", "add", box4(0).String(), "lladdr", boxMAC(0), "dev", "evil")
	heard := a.capture("br-x", "src host 10.88.9.9")
	if err := pings(c.ns, box4(0), "-w1", "-I", "evil"); err == nil {
		t.Error("a host that is not of the mesh reaches a container")
	}
	if out := heard(); out != "" {
		t.Errorf("its packets came in:\n%s", out)
	}
	if n := a.dropped("not_a_peer"); n == "0" || n == "" {
		t.Errorf("dropped: %q", n)
	}
	// Once it is a peer it is let in.
	a.apply(diff.Create([]dataplane.Object{dataplane.PeerElement(network, table, w.at(2))}))
	heard = a.capture("br-x", "src host 10.88.9.9")
	_ = pings(c.ns, box4(0), "-w1", "-I", "evil")
	if out := heard(); !strings.Contains(out, "echo request") {
		t.Errorf("a peer's packets do not come in:\n%s", out)
	}
}

// TestFailClosed: what is encrypted never leaves in plain text, and is never taken so.
func TestFailClosed(t *testing.T) {
	t.Parallel()
	w := newWire(t, 2, false)
	a, b := w.hosts[0], w.hosts[1]
	seen := b.capture("u0", "udp port 4790")
	a.apply(diff.Create(append(w.network(0, securedVNI, 4790, "wg0", 1), w.box(0)...)))
	if err := pings(a.pin("box"), box4(1), "-w1"); err == nil {
		t.Error("it came through")
	}
	if out := seen(); out != "" {
		t.Errorf("plain text on the wire:\n%s", out)
	}
	if n := a.dropped("plain_text"); n == "0" || n == "" {
		t.Errorf("dropped on the way out: %q", n)
	}
	// Host b has no page: it sends plain text with that number.
	b.run(strings.Fields(fmt.Sprintf("ip link add evil type vxlan id %d local %s remote %s dstport 4790 dev u0", securedVNI, w.at(1), w.at(0)))...)
	b.run("ip", "addr", "add", box4(1).String()+"/16", "dev", "evil")
	b.run("ip", "link", "set", "evil", "up")
	b.run("ip", "neigh", "add", box4(0).String(), "lladdr", boxMAC(0), "dev", "evil")
	before := a.dropped("plain_text")
	heard := a.capture("br-x", "src host "+box4(1).String())
	_ = pings(b.ns, box4(0), "-w1", "-I", "evil")
	if out := heard(); out != "" {
		t.Errorf("plain text was taken:\n%s", out)
	}
	if n := a.dropped("plain_text"); n == before {
		t.Errorf("dropped on the way in: %s, as before", n)
	}
	// Named as the device that encrypts, the way is open: u0 plays it.
	for _, o := range []dataplane.Object{dataplane.SecureElement(network, table, "u0")} {
		a.apply(diff.Create([]dataplane.Object{o}))
	}
	b.run("ip", "link", "set", "evil", "address", boxMAC(1))
	b.run("ip", "neigh", "replace", box4(0).String(), "lladdr", boxMAC(0), "dev", "evil")
	if err := pings(b.ns, box4(0), "-w5", "-I", "evil"); err != nil {
		t.Error(err)
	}
}

// TestPortTaken: who holds the UDP port is named. It runs alone: programs that other
// tests start have our sockets open, too, until they are executed.
func TestPortTaken(t *testing.T) {
	h := newHost(t)
	var c net.PacketConn
	if err := netns.Do(h.ns, func() (err error) { c, err = net.ListenPacket("udp", ":4789"); return err }); err != nil {
		t.Fatal(err)
	}
	v := dataplane.VXLAN{Meta: network, Name: "vx0", VNI: 7, Local: addr("10.99.0.1")}
	err := h.k.Apply(t.Context(), diff.Create([]dataplane.Object{v, dataplane.Up{Meta: network, Link: "vx0"}}))
	for _, want := range []string{"UDP port 4789", "vx0", fmt.Sprintf("process %d", os.Getpid()), "another port"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: no %q", err, want)
		}
	}
	c.Close()
	h.apply(diff.Create([]dataplane.Object{v, dataplane.Up{Meta: network, Link: "vx0"}}))
	h.apply(diff.Delete([]dataplane.Object{v}))

	// A VXLAN of another kind has a socket of its own.
	h.run(strings.Fields("ip link add flow0 type vxlan external dstport 4789")...)
	h.run("ip", "link", "set", "flow0", "up")
	err = h.k.Apply(t.Context(), diff.Create([]dataplane.Object{v, dataplane.Up{Meta: network, Link: "vx0"}}))
	if err == nil || !strings.Contains(err.Error(), "flow0") {
		t.Errorf("beside another kind: %v", err)
	}
}
