package linux_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane/diff"
	"linkspan/netns"
)

// stream sends n bytes from one namespace to another and says how long it took.
func stream(t testing.TB, from, to string, at netip.AddrPort, n int64) time.Duration {
	t.Helper()
	var l net.Listener
	if err := netns.Do(to, func() (err error) { l, err = net.Listen("tcp", at.String()); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- -1
			return
		}
		defer c.Close()
		got, _ := io.Copy(io.Discard, c)
		done <- got
	}()
	var c net.Conn
	if err := netns.Do(from, func() (err error) { c, err = net.DialTimeout("tcp", at.String(), 5*time.Second); return err }); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	buf := make([]byte, 1<<17)
	for left := n; left > 0; left -= int64(len(buf)) {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if got := <-done; got != n {
		t.Fatalf("%d of %d bytes", got, n)
	}
	return time.Since(start)
}

// BenchmarkTunnel is TCP through our tunnel, beside one that a person made by hand.
func BenchmarkTunnel(b *testing.B) {
	ours, hand := newWire(b, 2, false), newWire(b, 2, false)
	for i := range 2 {
		ours.hosts[i].run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
		hand.hosts[i].run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")
		ours.hosts[i].apply(diff.Create(append(ours.network(i, ourVNI, 4789, "", 1-i), ours.box(i)...)))
		h := hand.hosts[i]
		if err := netns.Create(h.pin("box")); err != nil {
			b.Fatal(err)
		}
		for _, cmd := range []string{
			"ip link add br-x type bridge", fmt.Sprintf("ip link add vx-x mtu 1450 type vxlan id 7 local %s remote %s dev u0 dstport 4789", hand.at(i), hand.at(1-i)),
			"ip link set vx-x master br-x", "ip link set vx-x up", "ip link set br-x up",
			"ip link add vb type veth peer name eth0 netns " + h.pin("box"), "ip link set vb mtu 1450 master br-x up",
		} {
			h.run(strings.Fields(cmd)...)
		}
		h.in(h.pin("box"), "ip", "link", "set", "eth0", "mtu", "1450", "up")
		h.in(h.pin("box"), "ip", "addr", "add", box4(i).String()+"/16", "dev", "eth0")
	}
	for _, w := range []*wire{ours, hand} {
		if err := pings(w.hosts[0].pin("box"), box4(1)); err != nil {
			b.Fatal(err)
		}
	}
	const n = 1 << 28
	var took [2]time.Duration
	for b.Loop() {
		for i, w := range []*wire{ours, hand, hand, ours} {
			took[[]int{0, 1, 1, 0}[i]] += stream(b, w.hosts[0].pin("box"), w.hosts[1].pin("box"), netip.AddrPortFrom(box4(1), 7000), n)
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "of-by-hand")
	b.ReportMetric(float64(2*n*b.N)/took[0].Seconds()/1e6, "MB/s")
}
