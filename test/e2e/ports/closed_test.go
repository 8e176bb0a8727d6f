package ports

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/netns"
)

// witness listens for datagrams in a network namespace and counts all that
// arrive: what stays closed must not even let one packet in.
type witness struct {
	conn  net.PacketConn
	count atomic.Int64
	from  atomic.Value
}

func watch(t *testing.T, at place, addr string) *witness {
	t.Helper()
	w := &witness{}
	if err := netns.Do(at.ns, func() (err error) { w.conn, err = net.ListenPacket("udp4", addr); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.conn.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := w.conn.ReadFrom(buf)
			if err != nil {
				return
			}
			w.from.Store(from.String())
			w.count.Add(1)
		}
	}()
	return w
}

// sent is how many datagrams send sends.
const sent = 3

// send sends some datagrams; that the kernel refuses to is fine.
func send(t *testing.T, from place, local, to string) {
	t.Helper()
	err := netns.Do(from.ns, func() error {
		d := net.Dialer{}
		if local != "" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0))
		}
		c, err := d.Dial("udp4", to)
		if err != nil {
			return err
		}
		defer c.Close()
		for range sent {
			_, _ = c.Write([]byte("x"))
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	if err != nil {
		t.Logf("from %s to %s: %v", from.name, to, err)
	}
}

func (w *witness) silent(t *testing.T, what string) {
	t.Helper()
	time.Sleep(50 * time.Millisecond)
	if n := w.count.Load(); n > 0 {
		t.Errorf("%s: %d datagrams arrived, from %v", what, n, w.from.Load())
	}
}

// pretendLoopback lets a place send to 127.0.0.1 through a gateway, as an
// attacker may set up a machine of his own.
func pretendLoopback(t *testing.T, p place, dev, via string) {
	t.Helper()
	// Else it keeps them to itself: its own routes to lo stay, also while lo is down.
	p.must(t, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	t.Cleanup(func() { p.must(t, "ip", "addr", "add", "127.0.0.1/8", "dev", "lo") })
	p.must(t, "sysctl", "-qw", "net.ipv4.conf."+dev+".route_localnet=1")
	t.Cleanup(func() { p.must(t, "sysctl", "-qw", "net.ipv4.conf."+dev+".route_localnet=0") })
	p.must(t, "ip", "route", "add", "127.0.0.1/32", "via", via, "dev", dev)
	t.Cleanup(func() { p.must(t, "ip", "route", "del", "127.0.0.1/32", "via", via, "dev", dev) })
}

// TestClosedToTheWire: what is published on 127.0.0.1 or [::1], or not at all, is
// not reached from another machine, even by one that adds routes.
func TestClosedToTheWire(t *testing.T) {
	d := daemontest.Shared(t)
	serve(t, d, "server", "-p", "127.0.0.1:9001:9000", "-p", "127.0.0.1:9001:9000/udp", "-p", "[::1]:9002:9000", "-p", "[::1]:9002:9000/udp",
		"-p", "9003:9000", "--expose", "7000/udp")
	ip := address(d, "server")
	m, w := machine(d), watch(t, inside(t, d, "server"), ":7000")
	for _, proto := range []string{"tcp", "udp"} {
		for at, addr := range map[string]string{"127.0.0.1": "127.0.0.1", "::1": "::1"} {
			port := map[string]int{"127.0.0.1": 9001, "::1": 9002}[at]
			if a := dial(t, host(d), target(proto, addr, port)); a.Verdict != "answered" {
				t.Errorf("%s port on %s: the host itself gets %+v", proto, at, a)
			}
			for _, addr := range []string{daemontest.HostAddr, daemontest.HostAddr6} {
				if a := dial(t, m, target(proto, addr, port)); a.Verdict != "refused" {
					t.Errorf("%s port on %s, dialled as %s from the wire: %+v", proto, at, addr, a)
				}
				// Another of the host's own addresses is not the loopback either.
				if a := dial(t, host(d), target(proto, addr, port)); a.Verdict != "refused" {
					t.Errorf("%s port on %s, dialled as %s from the host: %+v", proto, at, addr, a)
				}
			}
		}
	}
	t.Run("a route to the containers", func(t *testing.T) {
		m.must(t, "ip", "route", "add", "172.17.0.0/16", "via", daemontest.HostAddr)
		t.Cleanup(func() { m.must(t, "ip", "route", "del", "172.17.0.0/16") })
		for _, tg := range []string{"tcp", "udp"} {
			// 9000 is published as 9003, but this is not the way.
			for _, port := range []int{9000, 7000} {
				if a := dial(t, m, target(tg, ip, port), "-timeout", "300ms"); a.Verdict != "timeout" {
					t.Errorf("%s %s:%d: %+v", tg, ip, port, a)
				}
			}
			if a := dial(t, m, target(tg, gateway, 9001), "-timeout", "300ms"); a.Verdict == "answered" {
				t.Errorf("%s to the bridge's address: %+v", tg, a)
			}
		}
		send(t, m, "", ip+":7000")
		w.silent(t, "an unpublished port")
		// A neighbour of the container by a forged source address.
		m.must(t, "ip", "addr", "add", "172.17.0.99/32", "dev", "wan0")
		t.Cleanup(func() { m.must(t, "ip", "addr", "del", "172.17.0.99/32", "dev", "wan0") })
		send(t, m, "172.17.0.99", ip+":7000")
		w.silent(t, "an unpublished port, from a forged source")
	})
	t.Run("a route to 127.0.0.1", func(t *testing.T) {
		pretendLoopback(t, m, "wan0", daemontest.HostAddr)
		in := watch(t, host(d), "127.0.0.1:7777")
		try := func(when string) {
			for _, proto := range []string{"tcp", "udp"} {
				if a := dial(t, m, target(proto, "127.0.0.1", 9001), "-timeout", "300ms"); a.Verdict == "answered" {
					t.Errorf("%s, %s: %+v", when, proto, a)
				}
			}
		}
		try("as it is")
		send(t, m, "", "127.0.0.1:7777")
		in.silent(t, "a service on the host's loopback")
		// Someone else on the host (kube-proxy, say) has route_localnet on everywhere:
		// what our containers publish on 127.0.0.1 stays closed all the same.
		d.Host.Sysctl("net.ipv4.conf.wan0.route_localnet", "1")
		defer d.Host.Sysctl("net.ipv4.conf.wan0.route_localnet", "0")
		try("with route_localnet on the wire")
	})
}

// TestHostLoopback: a container does not reach services on the host's loopback,
// not even one that may do with its network stack what it likes.
func TestHostLoopback(t *testing.T) {
	d := daemontest.Shared(t)
	serve(t, d, "server", "-p", "127.0.0.1:9001:9000", "-p", "127.0.0.1:9001:9000/udp", "-p", "[::1]:9002:9000")
	d.Docker("run", "-d", "--name", "client", "--privileged", "netprobe")
	c := inside(t, d, "client")
	tcp := d.Host.Listen("tcp4", "127.0.0.1:7777")
	t.Cleanup(func() { tcp.Close() })
	var accepted atomic.Int64
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			conn.Close()
		}
	}()
	// The witness on every address must not be spoken to by a forged loopback.
	closed, open := watch(t, host(d), "127.0.0.1:7777"), watch(t, host(d), "0.0.0.0:7778")
	for _, addr := range []string{gateway, daemontest.HostAddr} {
		for tg, want := range map[string]string{target("tcp", addr, 7777): "refused", target("udp", addr, 7777): "refused",
			target("tcp", addr, 9001): "refused", target("udp", addr, 9001): "refused", target("tcp", addr, 9002): "refused"} {
			if a := dial(t, c, tg); a.Verdict != want {
				t.Errorf("%s: %+v, want %s", tg, a, want)
			}
		}
	}
	send(t, c, "", gateway+":7778")
	// All of them, so that none comes late; were it not reached, this test would see nothing.
	d.Until(lab.Patience, "a service on all of the host's addresses is reached", func() bool { return open.count.Load() == sent })
	pretendLoopback(t, c, "eth0", gateway)
	for _, port := range []int{7777, 9001} {
		for _, proto := range []string{"tcp", "udp"} {
			if a := dial(t, c, target(proto, "127.0.0.1", port), "-timeout", "300ms"); a.Verdict != "timeout" {
				t.Errorf("%s 127.0.0.1:%d through the gateway: %+v", proto, port, a)
			}
		}
	}
	send(t, c, "", "127.0.0.1:7777")
	send(t, c, "", "127.0.0.1:7778")
	c.must(t, "ip", "addr", "add", "127.0.0.1/32", "dev", "eth0")
	t.Cleanup(func() { c.must(t, "ip", "addr", "del", "127.0.0.1/32", "dev", "eth0") })
	send(t, c, "127.0.0.1", gateway+":7778")
	closed.silent(t, "a service on the host's loopback")
	if open.count.Load() != sent {
		t.Errorf("a container speaks to the host as %v", open.from.Load())
	}
	if n := accepted.Load(); n > 0 {
		t.Errorf("%d connections to a service on the host's loopback", n)
	}
	_, guard, _ := strings.Cut(d.Host.Run("nft", "list", "ruleset"), "chain drop_loopback {")
	if guard, _, _ = strings.Cut(guard, "}"); !strings.Contains(guard, "counter packets") || strings.Contains(guard, "counter packets 0 ") {
		t.Errorf("it was not the page's guard of the loopback that dropped them: %s", guard)
	}
	if _, err := os.Stat(c.ns); err != nil {
		t.Error(err)
	}
}
