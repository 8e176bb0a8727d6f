package driver_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
	"linkspan/driver"
	"linkspan/driver/drivertest"
	"linkspan/driver/overlay"
	"linkspan/driver/routed"
	"linkspan/internal/lab"
	"linkspan/netns"
	"linkspan/probe"
)

// spread is three hosts on which a Spanner's plans are real: host1 and host2 share a
// switch, host3 is behind a router.
type spread struct {
	t     *testing.T
	lab   *lab.Lab
	d     driver.Spanner
	hosts []*spanHost
	boxes []*spanBox
}

type spanHost struct {
	*lab.Host
	id   string
	k    *linux.Kernel
	env  driver.Env
	pins string
	n    *cnm.Network
}

// spanBox is a container on one of them.
type spanBox struct {
	name string
	h    *spanHost
	s    *cnm.Sandbox
}

func (b *spanBox) addr(v4 bool) netip.Addr {
	if v4 {
		return b.s.Endpoints[0].Addr4().Addr()
	}
	return b.s.Endpoints[0].Addr6().Addr()
}

func newSpread(t *testing.T, d driver.Spanner, six bool) *spread {
	t.Helper()
	probe.Require(t, probe.Root, probe.NetNS, probe.NFT, probe.NFTProgram, probe.Conntrack, probe.IPv6)
	w := &spread{t: t, lab: lab.New(t), d: d}
	sw, router := w.lab.Switch("sw"), w.lab.Host("router").Router()
	addrs, near, far, bits := []string{"10.0.0.1", "10.0.0.2", "10.9.0.2"}, "10.0.0.254", "10.9.0.1", "/24"
	if six {
		addrs, near, far, bits = []string{"2001:db8::1", "2001:db8::2", "2001:db8:9::2"}, "2001:db8::254", "2001:db8:9::1", "/64"
	}
	sw.Plug(router, near+bits)
	for i, addr := range addrs {
		h := &spanHost{Host: w.lab.Host(fmt.Sprintf("host%d", i+1)).Router(), id: fmt.Sprintf("h%d", i+1)}
		if i < 2 {
			sw.Plug(h.Host, addr+bits)
			h.Route("default", netip.MustParseAddr(near))
		} else {
			w.lab.Join(h.Host, router, addr+bits, far+bits)
			h.Route("default", netip.MustParseAddr(far))
		}
		id := make([]byte, 3)
		rand.Read(id)
		h.env = driver.Env{Table: "linkspan_" + hex.EncodeToString(id), Underlay: &cnm.Underlay{Host: h.id, Name: h.Name, Addr: netip.MustParseAddr(addr),
			Dev: "wan0", MTU: 1500, VXLANPort: 4789, MAC: fmt.Sprintf("02:4c:00:00:00:0%d", i+1), RoutedVNI: 0x4C0000}}
		h.k, h.pins = drivertest.Kernel(t, h.Host, h.env.Table, func(string, string) error { return nil })
		h.n = &cnm.Network{ID: strings.Repeat("5ea", 22)[:64], Name: "shop", Driver: d.Name(), Scope: cnm.ScopeGlobal, VNIs: []uint32{0x4C0001, 0x4C0001},
			Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("192.168.0.0/16"), Gateway: netip.MustParseAddr("192.168.0.1")},
				{Subnet: netip.MustParsePrefix("fd00:168::/64"), Gateway: netip.MustParseAddr("fd00:168::1")}}}
		w.hosts = append(w.hosts, h)
	}
	for _, h := range w.hosts {
		h.apply(t, diff.Create([]dataplane.Object{dataplane.BasePage(h.env.Table)}))
		var peers []cnm.Peer
		for _, o := range w.hosts {
			if o != h {
				peers = append(peers, w.peer(h, o))
			}
		}
		common, err := driver.UnderlayObjects(h.env, peers)
		if err != nil {
			t.Fatal(err)
		}
		net, err := d.Network(h.env, h.n)
		if err != nil {
			t.Fatal(err)
		}
		h.apply(t, diff.Create(append(common, net...)))
	}
	for i, h := range w.hosts {
		w.box(h, fmt.Sprintf("c%d", i+1), byte(i+1), 10)
	}
	w.box(w.hosts[0], "b1", 1, 11)
	w.introduce()
	return w
}

func (h *spanHost) apply(t *testing.T, ops []dataplane.Op) {
	t.Helper()
	if err := h.k.Apply(t.Context(), ops); err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
}

// peer is what h knows of o.
func (w *spread) peer(h, o *spanHost) cnm.Peer {
	u := o.env.Underlay
	return cnm.Peer{ID: o.id, Name: o.Name, Addr: u.Addr, Alive: true, OnLink: h.id != "h3" && o.id != "h3", Dev: "wan0", MTU: 1500, MAC: u.MAC}
}

// box makes a container: on host i it has addresses of the host's blocks.
func (w *spread) box(h *spanHost, name string, i, last byte) {
	w.t.Helper()
	id := strings.Repeat(hex.EncodeToString([]byte(name)), 32)[:64]
	s := &cnm.Sandbox{ID: id, Owner: id, OwnerName: name, Path: filepath.Join(h.pins, name)}
	four := netip.AddrFrom4([4]byte{192, 168, i, last})
	s.Endpoints = []cnm.Endpoint{{ID: id, NetworkID: h.n.ID, NetworkName: h.n.Name, IfName: "eth0", HostIf: "v" + name, MAC: cnm.MACFor(four),
		Addrs:    []netip.Prefix{netip.PrefixFrom(four, 16), netip.MustParsePrefix(fmt.Sprintf("fd00:168::%d:%d/64", i, last))},
		Gateways: []netip.Addr{h.n.Pools[0].Gateway, h.n.Pools[1].Gateway}}}
	objs, err := w.d.Endpoint(h.env, h.n, s, &s.Endpoints[0], nil)
	if err != nil {
		w.t.Fatal(err)
	}
	owner := dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerSandbox, ID: id, Name: name}}
	h.apply(w.t, diff.Create(append(objs, dataplane.Namespace{Meta: owner, Path: s.Path})))
	w.boxes = append(w.boxes, &spanBox{name, h, s})
	drivertest.Serve(w.t, s.Path, name, 80)
}

// introduce tells each host of the others' containers.
func (w *spread) introduce() {
	w.t.Helper()
	var blocks []cnm.Block
	for i, h := range w.hosts {
		for _, p := range []string{fmt.Sprintf("192.168.%d.0/26", i+1), fmt.Sprintf("fd00:168::%d:0/112", i+1)} {
			blocks = append(blocks, cnm.Block{Prefix: netip.MustParsePrefix(p), Host: h.id})
		}
	}
	for _, h := range w.hosts {
		objs, err := w.d.Home(h.env, h.n, blocks)
		add := func(more []dataplane.Object, err error) {
			if err != nil {
				w.t.Fatal(err)
			}
			objs = append(objs, more...)
		}
		add(nil, err)
		for _, o := range w.hosts {
			if o != h {
				add(w.d.Peer(h.env, h.n, w.peer(h, o), blocks))
			}
		}
		for _, b := range w.boxes {
			if b.h != h {
				e := b.s.Endpoints[0]
				add(w.d.Remote(h.env, h.n, w.peer(h, b.h), blocks, cnm.Remote{ID: e.ID, Host: b.h.id, Container: e.ID, ContainerName: b.name, Addrs: e.Addrs, MAC: e.MAC}))
			}
		}
		h.apply(w.t, diff.Create(objs))
		// What is declared is what is there.
		state, err := h.k.ObserveKeys(w.t.Context(), objs)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, o := range objs {
			if have, ok := state.Get(o.Key()); !ok || have.Spec() != o.Spec() {
				w.t.Errorf("%s: %s is not there as wanted", h.Name, o.Key())
			}
		}
	}
}

func (w *spread) run(b *spanBox, cmd ...string) (string, error) {
	out, err := (&lab.Host{Name: b.name, NS: b.s.Path}).Command(cmd...).CombinedOutput()
	return string(out), err
}

// ask is what the other container answers: its name, and whom it sees.
func (w *spread) ask(from *spanBox, to netip.Addr) string {
	answer := "nothing"
	for range 6 { // IPv6 addresses are tentative for a second
		var c net.Conn
		if err := netns.Do(from.s.Path, func() (err error) {
			c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, 80).String(), time.Second)
			return err
		}); err != nil {
			answer = err.Error()
			time.Sleep(100 * time.Millisecond)
			continue
		}
		c.SetDeadline(time.Now().Add(time.Second))
		b, err := io.ReadAll(c)
		c.Close()
		if err == nil {
			return string(b)
		}
		answer = err.Error()
	}
	return answer
}

// all asks everyone by everyone: the address that is seen is the asker's own.
func (w *spread) all() {
	w.t.Helper()
	var wg sync.WaitGroup
	for _, from := range w.boxes {
		for _, to := range w.boxes {
			for _, v4 := range []bool{true, false} {
				if from == to {
					continue
				}
				wg.Go(func() {
					want := fmt.Sprintf("%s sees %s", to.name, from.addr(v4))
					if got := w.ask(from, to.addr(v4)); got != want {
						w.t.Errorf("%s asks %s: %s, want %s", from.name, to.addr(v4), got, want)
					}
				})
			}
		}
	}
	wg.Wait()
}

// fits pings without taking packets apart: size passes.
func (w *spread) fits(from, to *spanBox, size int, want string) {
	w.t.Helper()
	var out string
	for range 3 { // what is learned of the path is known from the second on
		out, _ = w.run(from, "ping", "-n", "-M", "do", "-c1", "-W1", "-s", fmt.Sprint(size-28), to.addr(true).String())
		if strings.Contains(out, want) {
			return
		}
	}
	w.t.Errorf("%s pings %s with %d bytes: %s, want %q", from.name, to.name, size, out, want)
}

// multicast: what one sends to a group reaches those on other hosts that listen.
func (w *spread) multicast(from *spanBox, to ...*spanBox) {
	w.t.Helper()
	group := &net.UDPAddr{IP: net.IPv4(239, 1, 2, 3), Port: 5353}
	heard := make(chan string, len(to))
	for _, b := range to {
		var l *net.UDPConn
		if err := netns.Do(b.s.Path, func() (err error) { l, err = net.ListenMulticastUDP("udp4", nil, group); return err }); err != nil {
			w.t.Fatal(err)
		}
		defer l.Close()
		go func() {
			buf := make([]byte, 64)
			if n, who, err := l.ReadFromUDPAddrPort(buf); err == nil {
				heard <- fmt.Sprintf("%s hears %s of %s", b.name, buf[:n], who.Addr().Unmap())
			}
		}()
	}
	var c *net.UDPConn
	if err := netns.Do(from.s.Path, func() (err error) { c, err = net.DialUDP("udp4", nil, group); return err }); err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	var got []string
	for end := time.Now().Add(5 * time.Second); len(got) < len(to) && time.Now().Before(end); {
		c.Write([]byte("it"))
		select {
		case h := <-heard:
			got = append(got, h)
		case <-time.After(100 * time.Millisecond):
		}
	}
	slices.Sort(got)
	for i, b := range to {
		if want := fmt.Sprintf("%s hears it of %s", b.name, from.addr(true)); i >= len(got) || got[i] != want {
			w.t.Errorf("sent to a group: %q, want %q", got, want)
		}
	}
}

// both runs a test on an underlay of IPv4 and of IPv6, with what VXLAN leaves of a packet.
func both(t *testing.T, d driver.Spanner, f func(t *testing.T, w *spread, tunnel int)) {
	t.Run("IPv4", func(t *testing.T) { f(t, newSpread(t, d, false), 1450) })
	t.Run("IPv6", func(t *testing.T) { f(t, newSpread(t, d, true), 1430) })
}

func TestOverlayWorld(t *testing.T) {
	both(t, overlay.Driver{}, func(t *testing.T, w *spread, tunnel int) {
		w.all()
		c1, c2, c3 := w.boxes[0], w.boxes[1], w.boxes[2]
		w.fits(c1, c2, tunnel, "1 received")
		w.fits(c1, c3, tunnel, "1 received")
		w.fits(c1, c3, tunnel+1, "too long") // its own interface says so
		w.multicast(c1, c2, c3)
	})
}

func TestRoutedWorld(t *testing.T) {
	both(t, routed.Driver{}, func(t *testing.T, w *spread, tunnel int) {
		w.all()
		c1, c2, c3, b1 := w.boxes[0], w.boxes[1], w.boxes[2], w.boxes[3]
		w.fits(c1, c2, 1500, "1 received")
		w.fits(c1, c3, tunnel, "1 received")
		w.fits(c1, c3, 1500, fmt.Sprintf("mtu = %d", tunnel)) // the host says what fits
		// The hosts that share a link use it bare; the other one is behind the tunnel.
		for _, want := range [][2]string{{c2.addr(true).String(), "dev wan0"}, {c3.addr(true).String(), "dev ls-r"}, {c3.addr(false).String(), "dev ls-r"}} {
			if out := c1.h.Run("ip", "route", "get", want[0]); !strings.Contains(out, want[1]) {
				t.Errorf("the way to %s: %s, want %s", want[0], out, want[1])
			}
		}
		// An address that nobody has is answered at once, as far as the kernel's limit goes (an
		// error a second for each container, redirects and what does not fit among them).
		if out, err := w.run(c2, "ping", "-n", "-c1", "-W5", "192.168.77.7"); err == nil || !strings.Contains(out, "From 192.168.0.1 icmp_seq=1 Destination Host Unreachable") {
			t.Errorf("an address that nobody has: %s", out)
		}
		// Two on one host go on through the host, whatever it tells them.
		for range 3 {
			w.run(c1, "ping", "-n", "-c2", "-i0.2", "-W1", b1.addr(true).String())
		}
		if out, _ := w.run(c1, "ip", "route", "get", b1.addr(true).String()); !strings.Contains(out, "via 192.168.0.1") || strings.Contains(out, "redirected") {
			t.Errorf("the way to a neighbour: %s", out)
		}
	})
}
