package linux_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/netns"
	"linkspan/probe"
)

// sniff keeps every frame that comes in by a host link: those so far are what the
// returned func tells.
func (h *host) sniff(link string) func() [][]byte {
	h.t.Helper()
	var fd int
	err := netns.Do(h.ns, func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	tv := unix.NsecToTimeval((50 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		h.t.Fatal(err)
	}
	var mu sync.Mutex
	var got [][]byte
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		defer unix.Close(fd)
		b := make([]byte, 2048)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, from, err := unix.Recvfrom(fd, b, 0)
			if ll, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && ll.Pkttype != unix.PACKET_OUTGOING {
				mu.Lock()
				got = append(got, bytes.Clone(b[:n]))
				mu.Unlock()
			}
		}
	}()
	h.t.Cleanup(func() { close(stop); <-done })
	return func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}

// TestAdvertise: a new address is told to the wire as often as it was asked for, in
// both families, and one that goes is told no more.
func TestAdvertise(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.IPv6)
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	v4, v6 := netip.MustParsePrefix("172.17.0.9/16"), netip.MustParsePrefix("fd00:17::2/64")
	tell := dataplane.Advertise{Times: 3, Every: 100 * time.Millisecond}
	// The wire is there before, or a busy machine would tell it too early.
	web := h.container("web", 2)
	h.apply(diff.Create(web))
	four := dataplane.Addr{Meta: endpoint, NS: h.pin("web"), Link: "eth0", Prefix: v4, Advertise: tell}
	six := dataplane.Addr{Meta: endpoint, NS: h.pin("web"), Link: "eth0", Prefix: v6, Advertise: tell}
	frames := h.sniff("docker0")
	h.apply(diff.Create([]dataplane.Object{four, six}))
	var arp, na [][]byte
	for end := time.Now().Add(patience); len(arp) < 3 || len(na) < 3; time.Sleep(10 * time.Millisecond) {
		if arp, na = announced(frames(), v4.Addr(), v6.Addr()); time.Now().After(end) {
			t.Fatalf("%d announcements and %d advertisements", len(arp), len(na))
		}
	}
	time.Sleep(3 * tell.Every)
	h.apply(diff.Create([]dataplane.Object{six})) // as wanted: nothing new to tell
	time.Sleep(2 * tell.Every)
	// The kernel's own hook sees each frame on the port and on the bridge.
	if arp, na = announced(frames(), v4.Addr(), v6.Addr()); len(arp) > 6 || len(na) > 6 {
		t.Errorf("%d announcements and %d advertisements", len(arp), len(na))
	}
	for _, f := range arp {
		if !bytes.Equal(f[:6], []byte{255, 255, 255, 255, 255, 255}) || !bytes.Equal(f[22:28], []byte{2, 0x42, 0xac, 0x11, 0, 2}) {
			t.Errorf("announcement % x", f)
		}
	}
	for _, f := range na {
		if f[58] != 0x20 || f[21] != 255 || !bytes.Equal(f[80:86], []byte{2, 0x42, 0xac, 0x11, 0, 2}) {
			t.Errorf("advertisement % x", f)
		}
		if sum := checksum(f); sum != 0 {
			t.Errorf("its checksum is off by %x", sum)
		}
	}

	six.Prefix = netip.MustParsePrefix("fd00:17::3/64")
	six.Advertise.Every = 300 * time.Millisecond
	h.apply(diff.Create([]dataplane.Object{six}))
	time.Sleep(100 * time.Millisecond)
	h.apply(diff.Delete(web))
	start := time.Now()
	if h.k.Close(); time.Since(start) > patience {
		t.Error("closing waits for news")
	}
}

// announced are the announcements of an address of each family.
func announced(frames [][]byte, v4, v6 netip.Addr) (arp, na [][]byte) {
	for _, f := range frames {
		if len(f) < 42 {
			continue
		}
		ethertype := int(f[12])<<8 | int(f[13])
		switch {
		case ethertype == unix.ETH_P_ARP && bytes.Equal(f[28:32], v4.AsSlice()) && bytes.Equal(f[38:42], v4.AsSlice()):
			arp = append(arp, f)
		case ethertype == unix.ETH_P_IPV6 && len(f) == 86 && f[54] == 136 && bytes.Equal(f[62:78], v6.AsSlice()):
			na = append(na, f)
		}
	}
	return arp, na
}

// checksum of an ICMPv6 message in a frame, which is 0 over all of it when right.
func checksum(f []byte) uint16 {
	b := append(append([]byte{}, f[22:54]...), 0, 0, 0, byte(len(f)-54), 0, 0, 0, unix.IPPROTO_ICMPV6)
	b = append(b, f[54:]...)
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// TestLinkLocal: link-local addresses that a person gave are ours to see, the
// kernel's own are not.
func TestLinkLocal(t *testing.T) {
	t.Parallel()
	probe.Require(t, probe.IPv6)
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	web := append(h.container("web", 2),
		dataplane.Addr{Meta: endpoint, NS: h.pin("web"), Link: "eth0", Prefix: netip.MustParsePrefix("169.254.34.68/16")},
		dataplane.Addr{Meta: endpoint, NS: h.pin("web"), Link: "eth0", Prefix: netip.MustParsePrefix("fe80::34:68/64")})
	h.apply(diff.Create(web))
	want := dataplane.NewState(append(bridgeNet(), web...)...)
	p := diff.Compute(want, h.observe(h.pin("web")))
	if len(notSysctl(p.Ops)) > 0 || len(p.Drift) > 0 {
		t.Errorf("not as wanted: %v, %v", p.Ops, p.Drift)
	}
	if out := h.in(h.pin("web"), "ip", "-6", "addr", "show", "eth0"); !strings.Contains(out, "fe80::34:68/64") {
		t.Errorf("addresses:\n%s", out)
	}
}
