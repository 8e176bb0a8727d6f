package live_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"linkspan/dataplane/live"
	"linkspan/dataplane/ruleset"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// watch is a table that notes what the kernel did with packets: where they came in, and
// where and with which addresses they left or were delivered.
const watch = `table inet watch {
	set pre { typeof ip saddr . ip daddr . meta l4proto . th sport . th dport; flags dynamic; }
	set in { typeof ip saddr . ip daddr . meta l4proto . th sport . th dport; flags dynamic; }
	set post { typeof ip saddr . ip daddr . meta l4proto . th sport . th dport; flags dynamic; }
	set pre6 { typeof ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport; flags dynamic; }
	set in6 { typeof ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport; flags dynamic; }
	set post6 { typeof ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport; flags dynamic; }
	chain pre { type filter hook prerouting priority -500; iifname "lo" return; jump notepre; }
	chain out { type filter hook output priority -500; jump notepre; }
	chain notepre {
		update @pre { ip saddr . ip daddr . meta l4proto . th sport . th dport }
		update @pre6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }
	}
	chain in { type filter hook input priority 500
		update @in { ip saddr . ip daddr . meta l4proto . th sport . th dport }
		update @in6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }
	}
	chain post { type filter hook postrouting priority 500; oifname "lo" return
		update @post { ip saddr . ip daddr . meta l4proto . th sport . th dport }
		update @post6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }
	}
}`

// world is a client, a router whose rules are tested, and a server.
type world struct {
	t          *testing.T
	c, r, s    *lab.Host
	k          *live.Kernel
	port       uint16 // the next source port
	wild       bool   // the rules may stop refusals on their way as well
	cDev, sDev string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	probe.Require(t, probe.NFT, probe.NFTProgram, probe.Conntrack)
	l := lab.New(t)
	w := &world{t: t, c: l.Host("c"), r: l.Host("r"), s: l.Host("s"), k: kernel(), port: 20000}
	l.Join(w.c, w.r, "10.1.0.2/24", "10.1.0.1/24")
	l.Join(w.r, w.s, "10.2.0.1/24", "10.2.0.2/24")
	links, err := w.k.Interfaces(t.Context(), w.r.NS)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range links {
		for _, a := range i.Addrs {
			switch a.String() {
			case "10.1.0.1/24":
				w.cDev = i.Name
			case "10.2.0.1/24":
				w.sDev = i.Name
			}
		}
	}
	w.r.Router()
	// A refusal is waited for: the kernel would send one a second to each host, and fifty at
	// once to all (icmp(7)).
	for name, value := range map[string]string{"net.ipv4.icmp_ratelimit": "0", "net.ipv6.icmp.ratelimit": "0", "net.ipv4.icmp_msgs_per_sec": "100000", "net.ipv4.icmp_msgs_burst": "10000"} {
		_, _ = w.r.Try("sysctl", "-qw", name+"="+value) // the last two: kernels before 6.12 have them for all namespaces
	}
	cDev, sDev := only(t, w.k, w.c), only(t, w.k, w.s)
	w.c.Run("ip", "route", "add", "default", "via", "10.1.0.1")
	w.s.Run("ip", "route", "add", "default", "via", "10.2.0.1")
	for _, a := range []struct {
		h    *lab.Host
		addr string
		dev  string
	}{{w.c, "fd00:1::2/64", cDev}, {w.r, "fd00:1::1/64", w.cDev}, {w.r, "fd00:2::1/64", w.sDev}, {w.s, "fd00:2::2/64", sDev},
		// The kernel's own link-local addresses are tentative for a second or two.
		{w.c, "fe80::2/64", cDev}, {w.r, "fe80::1/64", w.cDev}, {w.r, "fe80::1/64", w.sDev}, {w.s, "fe80::2/64", sDev}} {
		a.h.Run("ip", "addr", "add", a.addr, "dev", a.dev, "nodad")
	}
	w.c.Run("ip", "route", "add", "default", "via", "fd00:1::1")
	w.s.Run("ip", "route", "add", "default", "via", "fd00:2::1")
	for _, a := range []string{"10.2.0.3", "10.2.0.4"} {
		w.s.Run("ip", "addr", "add", a+"/24", "dev", sDev)
	}
	// Nothing is listening: what is refused by a host says nothing of the rules.
	return w
}

func only(t *testing.T, k *live.Kernel, h *lab.Host) string {
	links, err := k.Interfaces(t.Context(), h.NS)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range links {
		if i.Name != "lo" {
			return i.Name
		}
	}
	t.Fatalf("no interface in %s", h.Name)
	return ""
}

// named puts the interfaces' names into a ruleset.
func (w *world) named(rules string) string {
	return strings.NewReplacer("SDEV", w.sDev, "CDEV", w.cDev).Replace(rules)
}

// shot is one packet to send.
type shot struct {
	from  string // "c", "r", "s"
	proto string
	dst   string // address:port
	want  string // what a person expects of it, besides that the kernel and we agree
}

// send sends one packet and returns its source, and the socket for its error.
func (w *world) send(x shot) (src netip.AddrPort, sock int) {
	h := map[string]*lab.Host{"c": w.c, "r": w.r, "s": w.s}[x.from]
	dst := netip.MustParseAddrPort(x.dst)
	w.port++
	err := h.Do(func() (err error) {
		typ, fam := unix.SOCK_DGRAM, unix.AF_INET
		if x.proto == "tcp" {
			typ = unix.SOCK_STREAM
		}
		if dst.Addr().Is6() {
			fam = unix.AF_INET6
		}
		if sock, err = unix.Socket(fam, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err = unix.Bind(sock, address(netip.AddrPortFrom(unspecified(dst.Addr()), w.port))); err != nil {
			return err
		}
		err = unix.Connect(sock, address(dst))
		if err == unix.EINPROGRESS {
			err = nil
		}
		if err == nil && x.proto == "udp" {
			_, err = unix.Write(sock, []byte("hello"))
		}
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) {
			err = nil // the sender's own rules: the evaluation has to know
		}
		return err
	})
	if err != nil {
		w.t.Fatalf("send %+v: %v", x, err)
	}
	local, err := unix.Getsockname(sock)
	if err != nil {
		w.t.Fatal(err)
	}
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), sock
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), sock
	}
	w.t.Fatal("no address")
	return src, sock
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func address(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// noted reads one of watch's sets.
func (w *world) noted(set string) []string {
	rs, err := w.k.Ruleset(w.t.Context(), w.r.NS)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, name := range []string{set, set + "6"} {
		n := 4
		if name != set {
			n = 16
		}
		for _, e := range rs.Table("inet", "watch").Set(name).Elements {
			src, _ := netip.AddrFromSlice(e.Key[:n])
			dst, _ := netip.AddrFromSlice(e.Key[n : 2*n])
			rest := e.Key[2*n:]
			all = append(all, fmt.Sprintf("%s > %s", netip.AddrPortFrom(src, uint16(rest[4])<<8|uint16(rest[5])), netip.AddrPortFrom(dst, uint16(rest[8])<<8|uint16(rest[9]))))
		}
	}
	return all
}

func has(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// check sends a packet and compares the kernel's deed with the evaluation's word.
func (w *world) check(x shot) {
	t := w.t
	t.Helper()
	rs, err := w.k.Ruleset(t.Context(), w.r.NS)
	if err != nil {
		t.Fatal(err)
	}
	env, err := w.k.Env(t.Context(), w.r.NS)
	if err != nil {
		t.Fatal(err)
	}
	src, sock := w.send(x)
	defer unix.Close(sock)
	dst := netip.MustParseAddrPort(x.dst)
	uid := uint32(0)
	p := ruleset.Packet{Src: src.Addr(), SrcPort: src.Port(), Dst: dst.Addr(), DstPort: dst.Port(), Proto: x.proto, UID: &uid, GID: &uid}
	var tr ruleset.Trace
	switch x.from {
	case "c":
		p.In = w.cDev
		tr = rs.Forwarded(p, env)
	case "s":
		p.In = w.sDev
		tr = rs.Forwarded(p, env)
	default:
		tr = rs.Sent(p, env)
	}
	line := fmt.Sprintf("%s > %s", netip.AddrPortFrom(tr.Packet.Src, tr.Packet.SrcPort), netip.AddrPortFrom(tr.Packet.Dst, tr.Packet.DstPort))
	said := tr.Verdict
	if tr.Passed() {
		said = tr.Hook + " " + line
	}
	if x.want != "" && !strings.HasPrefix(said, x.want) {
		t.Errorf("%+v: said %q (%s), not %q\n%s", x, said, tr.Reason, x.want, hits(tr))
	}
	first := fmt.Sprintf("%s > %s", src, dst)
	if tr.Hook != "ingress" { // that is before anything is noted
		until(t, fmt.Sprintf("%+v to come in", x), func() bool { return has(w.noted("pre"), first) })
	}
	where := map[string]string{"input": "in", "postrouting": "post", "egress": "post"}[tr.Hook]
	if tr.Passed() {
		until(t, fmt.Sprintf("%+v as %s\n%s", x, said, hits(tr)), func() bool { return has(w.noted(where), line) })
		// A sender that is led to itself does not answer.
		if x.proto == "tcp" && where == "post" && tr.Packet.Out != p.In {
			w.back(x, rs, env, tr)
		}
		return
	}
	// The kernel goes through all hooks in one run: what is to be seen is there soon.
	time.Sleep(30 * time.Millisecond)
	for _, set := range []string{"in", "post"} {
		for _, got := range w.noted(set) {
			if strings.Contains(got, fmt.Sprintf(":%d >", src.Port())) {
				t.Errorf("%+v: said %q (%s), but the kernel let it pass: %s %s\n%s", x, said, tr.Reason, set, got, hits(tr))
			}
		}
	}
	if tr.Verdict == ruleset.Rejected && x.from != "r" && !w.wild {
		until(t, fmt.Sprintf("a refusal of %+v", x), func() bool {
			no, _ := unix.GetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_ERROR)
			return no != 0
		})
	}
}

// back compares the way of the answer: nobody listens, so it is a reset.
func (w *world) back(x shot, rs *ruleset.Ruleset, env ruleset.Env, there ruleset.Trace) {
	t := w.t
	t.Helper()
	in := w.sDev
	if x.from == "s" {
		in = w.cDev
	}
	p := there.Packet.Answer(in)
	p.TCPFlags = 0x14 // RST, ACK
	tr := rs.Forwarded(p, env)
	line := fmt.Sprintf("%s > %s", netip.AddrPortFrom(tr.Packet.Src, tr.Packet.SrcPort), netip.AddrPortFrom(tr.Packet.Dst, tr.Packet.DstPort))
	set := map[string]string{"input": "in", "postrouting": "post"}[tr.Hook]
	if tr.Passed() {
		until(t, fmt.Sprintf("the answer to %+v: %s %s\n%s", x, tr.Hook, line, hits(tr)), func() bool { return has(w.noted(set), line) })
		return
	}
	time.Sleep(30 * time.Millisecond)
	for _, set := range []string{"in", "post"} {
		for _, got := range w.noted(set) {
			if strings.HasSuffix(got, fmt.Sprintf(":%d", there.Packet.CT.Original.Src.Port())) {
				t.Errorf("the answer to %+v: said %s (%s), but the kernel let it pass: %s %s\n%s", x, tr.Verdict, tr.Reason, set, got, hits(tr))
			}
		}
	}
}

func hits(tr ruleset.Trace) string {
	var b strings.Builder
	for _, h := range tr.Hits {
		if h.Table != "watch" {
			fmt.Fprintf(&b, "  %s: %s -> %s\n", h.Hook, h, h.Verdict)
		}
	}
	return b.String()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("waited in vain for %s", what)
}
