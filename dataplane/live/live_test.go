package live_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane/live"
	"linkspan/dataplane/reading"
	"linkspan/internal/lab"
	"linkspan/probe"
)

func kernel() *live.Kernel { return live.New(slog.New(slog.DiscardHandler)) }

// load loads a ruleset.
func load(h *lab.Host, rules string) error {
	c := h.Command("nft", "-f", "-")
	// nft 1.0 wants a line's end where a block ends.
	c.Stdin = strings.NewReader(strings.ReplaceAll(strings.ReplaceAll(rules, "; }", ";\n}"), "} }", "}\n}"))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft on %s: %w\n%s", h.Name, err, out)
	}
	return nil
}

// nft is load for what must load.
func nft(h *lab.Host, rules string) {
	if err := load(h, rules); err != nil {
		panic(err)
	}
}

func find[T any](all []T, ok func(T) bool) (one T, found bool) {
	if i := slices.IndexFunc(all, ok); i >= 0 {
		return all[i], true
	}
	return one, false
}

func TestInterfaces(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Join(a, b, "10.9.0.1/24", "10.9.0.2/24")
	a.Run("ip", "link", "add", "br0", "type", "bridge")
	a.Run("ip", "link", "set", "br0", "up", "mtu", "1400")
	a.Run("ip", "link", "add", "p1", "type", "veth", "peer", "name", "p2")
	a.Run("ip", "link", "set", "p1", "master", "br0", "up", "group", "77")
	a.Run("bridge", "link", "set", "dev", "p1", "isolated", "on", "hairpin", "on", "learning", "off")
	a.Run("ip", "addr", "add", "10.8.0.1/16", "dev", "br0")
	a.Run("tc", "qdisc", "add", "dev", "p2", "clsact")
	a.Run("tc", "qdisc", "add", "dev", "br0", "clsact")
	a.Run("tc", "filter", "add", "dev", "br0", "egress", "protocol", "ip", "u32", "match", "u32", "0", "0", "classid", "1:1")
	a.Run("tc", "qdisc", "add", "dev", "p1", "ingress")
	a.Run("tc", "filter", "add", "dev", "p1", "ingress", "protocol", "ip", "u32", "match", "u32", "0", "0", "classid", "1:1")
	k := kernel()
	all, err := k.Interfaces(t.Context(), a.NS)
	if err != nil {
		t.Fatal(err)
	}
	name := func(n string) reading.Interface {
		i, ok := find(all, func(i reading.Interface) bool { return i.Name == n })
		if !ok {
			t.Fatalf("no %s among %+v", n, all)
		}
		return i
	}
	if br := name("br0"); br.Kind != "bridge" || !br.Up || br.MTU != 1400 || br.MAC == "" || !slices.Contains(br.Addrs, netip.MustParsePrefix("10.8.0.1/16")) {
		t.Errorf("br0 is %+v", br)
	}
	p1, p2 := name("p1"), name("p2")
	if p1.Master != "br0" || p1.Peer != p2.Index || p1.Kind != "veth" || p1.Group != 77 || p1.Carrier || !p1.Up || p2.Up {
		t.Errorf("p1 is %+v", p1)
	}
	if p := p1.Port; p == nil || !p.Isolated || !p.Hairpin || p.Learning || p2.Port != nil {
		t.Errorf("as a port: %+v", p)
	}
	for dev, want := range map[string]string{"br0": "tc egress", "p1": "tc ingress", "p2": "", "lo": ""} {
		if got := strings.Join(name(dev).Filters, ", "); got != want {
			t.Errorf("%s has filters %q, not %q", dev, got, want)
		}
	}
	if lo := name("lo"); lo.Index != 1 || !lo.Up || !lo.Carrier || !slices.Contains(lo.Addrs, netip.MustParsePrefix("127.0.0.1/8")) {
		t.Errorf("lo is %+v", lo)
	}
	if _, err := k.Interfaces(t.Context(), "/run/netns/there-is-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a namespace that is not there: %v", err)
	}
	if own, err := k.Interfaces(t.Context(), ""); err != nil || len(own) == 0 {
		t.Errorf("the own namespace: %v, %v", own, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Interfaces(gone, a.NS); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRoute(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	wa := l.Join(a, b, "10.9.0.1/24", "10.9.0.2/24")
	_ = wa
	dev := ""
	k := kernel()
	links, err := k.Interfaces(t.Context(), a.NS)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range links {
		if i.Kind == "veth" {
			dev = i.Name
		}
	}
	a.Run("ip", "route", "add", "192.0.2.0/24", "via", "10.9.0.2", "mtu", "1300")
	a.Run("ip", "route", "add", "blackhole", "192.0.2.64/26")
	a.Run("ip", "route", "add", "prohibit", "192.0.2.128/26")
	a.Run("ip", "route", "add", "unreachable", "192.0.2.192/26")
	a.Run("ip", "route", "add", "198.51.100.0/24", "via", "10.9.0.2", "table", "100", "metric", "5")
	a.Run("ip", "rule", "add", "fwmark", "7", "lookup", "100")
	a.Run("ip", "rule", "add", "ipproto", "tcp", "dport", "443", "lookup", "100")
	a.Run("ip", "rule", "add", "uidrange", "1234-1234", "lookup", "100")
	a.Run("ip", "-6", "addr", "add", "fd00:9::1/64", "dev", dev, "nodad")
	a.Run("ip", "-6", "route", "add", "fd00:a::/64", "via", "fd00:9::2")
	a.Run("ip", "-6", "route", "add", "prohibit", "fd00:b::/64")
	a.Sysctl("net.ipv4.ip_forward", "1")
	a.Sysctl("net.ipv4.conf.all.rp_filter", "1")
	ip := netip.MustParseAddr
	for name, c := range map[string]struct {
		q    reading.RouteQuery
		want reading.RouteAnswer
	}{
		"neighbour":  {reading.RouteQuery{Dst: ip("10.9.0.2")}, reading.RouteAnswer{Type: "unicast", Link: dev, Src: ip("10.9.0.1"), Table: 254}},
		"gateway":    {reading.RouteQuery{Dst: ip("192.0.2.1")}, reading.RouteAnswer{Type: "unicast", Link: dev, Src: ip("10.9.0.1"), Table: 254, Gateway: ip("10.9.0.2"), MTU: 1300}},
		"own":        {reading.RouteQuery{Dst: ip("10.9.0.1")}, reading.RouteAnswer{Type: "local", Link: "lo", Src: ip("10.9.0.1"), Table: 255}},
		"none":       {reading.RouteQuery{Dst: ip("203.0.113.1")}, reading.RouteAnswer{Err: "network is unreachable"}},
		"blackhole":  {reading.RouteQuery{Dst: ip("192.0.2.65")}, reading.RouteAnswer{Type: "blackhole", Err: "invalid argument"}},
		"prohibit":   {reading.RouteQuery{Dst: ip("192.0.2.129")}, reading.RouteAnswer{Type: "prohibit", Err: "permission denied"}},
		"refused":    {reading.RouteQuery{Dst: ip("192.0.2.193")}, reading.RouteAnswer{Type: "unreachable", Err: "no route to host"}},
		"mark":       {reading.RouteQuery{Dst: ip("198.51.100.1"), Mark: 7}, reading.RouteAnswer{Type: "unicast", Link: dev, Src: ip("10.9.0.1"), Table: 100, Gateway: ip("10.9.0.2")}},
		"port":       {reading.RouteQuery{Dst: ip("198.51.100.1"), Proto: "tcp", DstPort: 443}, reading.RouteAnswer{Type: "unicast", Link: dev, Src: ip("10.9.0.1"), Table: 100, Gateway: ip("10.9.0.2")}},
		"user":       {reading.RouteQuery{Dst: ip("198.51.100.1"), UID: 1234}, reading.RouteAnswer{Type: "unicast", Link: dev, Src: ip("10.9.0.1"), Table: 100, Gateway: ip("10.9.0.2")}},
		"no mark":    {reading.RouteQuery{Dst: ip("198.51.100.1")}, reading.RouteAnswer{Err: "network is unreachable"}},
		"forwarded":  {reading.RouteQuery{Dst: ip("192.0.2.1"), Src: ip("10.9.0.7"), In: dev}, reading.RouteAnswer{Type: "unicast", Link: dev, Table: 254, Gateway: ip("10.9.0.2"), MTU: 1300}},
		"spoofed":    {reading.RouteQuery{Dst: ip("192.0.2.1"), Src: ip("203.0.113.1"), In: dev}, reading.RouteAnswer{Err: "invalid cross-device link"}},
		"black hole": {reading.RouteQuery{Dst: ip("192.0.2.65"), Src: ip("10.9.0.7"), In: dev}, reading.RouteAnswer{Type: "blackhole", Err: "invalid argument"}},
		"prohibited": {reading.RouteQuery{Dst: ip("192.0.2.129"), Src: ip("10.9.0.7"), In: dev}, reading.RouteAnswer{Type: "prohibit", Err: "permission denied"}},
		"own source": {reading.RouteQuery{Dst: ip("192.0.2.1"), Src: ip("10.9.0.1"), In: dev}, reading.RouteAnswer{Err: "invalid argument"}},
		"loopback":   {reading.RouteQuery{Dst: ip("10.9.0.2"), Src: ip("127.0.0.1")}, reading.RouteAnswer{Err: "invalid argument"}},
		"v6":         {reading.RouteQuery{Dst: ip("fd00:a::1")}, reading.RouteAnswer{Type: "unicast", Link: dev, Src: ip("fd00:9::1"), Table: 254, Gateway: ip("fd00:9::2")}},
		"v6 refused": {reading.RouteQuery{Dst: ip("fd00:b::1")}, reading.RouteAnswer{Type: "prohibit", Err: "permission denied"}},
		"v6 none":    {reading.RouteQuery{Dst: ip("2001:db8::1")}, reading.RouteAnswer{Err: "network is unreachable"}},
	} {
		got, err := k.Route(t.Context(), a.NS, c.q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
	if _, err := k.Route(t.Context(), a.NS, reading.RouteQuery{Dst: ip("10.9.0.2"), In: "nosuch"}); err == nil {
		t.Error("a route through no interface")
	}
	a.Run("ip", "rule", "add", "to", "203.0.113.0/24", "iif", dev, "priority", "77", "prohibit")
	routes, err := k.Routes(t.Context(), a.NS)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []reading.Route{
		{Dst: netip.MustParsePrefix("10.9.0.0/24"), Link: dev, Src: ip("10.9.0.1"), Table: 254, Proto: 2, Type: "unicast"},
		{Dst: netip.MustParsePrefix("198.51.100.0/24"), Link: dev, Gateway: ip("10.9.0.2"), Table: 100, Proto: 3, Type: "unicast", Metric: 5},
		{Dst: netip.MustParsePrefix("203.0.113.0/24"), Link: dev, Metric: 77, Type: "rule prohibit"},
		{Dst: netip.MustParsePrefix("192.0.2.64/26"), Table: 254, Proto: 3, Type: "blackhole"},
		{Dst: netip.MustParsePrefix("fd00:a::/64"), Link: dev, Gateway: ip("fd00:9::2"), Table: 254, Proto: 3, Type: "unicast", Metric: 1024},
	} {
		if !slices.Contains(routes, want) {
			t.Errorf("%+v is not among\n%+v", want, routes)
		}
	}
}

func TestNeighbours(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Join(a, b, "10.9.0.1/24", "10.9.0.2/24")
	a.Run("ip", "link", "add", "br0", "type", "bridge")
	a.Run("ip", "link", "add", "p1", "type", "veth", "peer", "name", "p2")
	a.Run("ip", "link", "set", "p1", "master", "br0", "up")
	a.Run("bridge", "fdb", "add", "02:00:00:00:00:09", "dev", "p1", "master", "static")
	a.Run("ip", "neigh", "add", "10.9.0.9", "lladdr", "02:00:00:00:00:08", "dev", "br0", "nud", "permanent")
	k := kernel()
	n, err := k.Neighbours(t.Context(), a.NS)
	for i := range n {
		n[i].Updated = 0
	}
	if want := (reading.Neighbour{Link: "br0", Addr: netip.MustParseAddr("10.9.0.9"), MAC: "02:00:00:00:00:08", State: "permanent"}); err != nil || !slices.Contains(n, want) {
		t.Errorf("%v; neighbours %+v", err, n)
	}
	f, err := k.FDB(t.Context(), a.NS)
	if want := (reading.FDBEntry{MAC: "02:00:00:00:00:09", Link: "p1", Bridge: "br0", Static: true}); err != nil || !slices.Contains(f, want) {
		t.Errorf("%v; fdb %+v", err, f)
	}
	if _, ok := find(f, func(e reading.FDBEntry) bool { return e.Local && e.Link == "p1" && e.Bridge == "br0" }); !ok {
		t.Errorf("the port's own address is missing: %+v", f)
	}
}

func TestSockets(t *testing.T) {
	l := lab.New(t)
	a := l.Host("a")
	t4 := a.Listen("tcp4", "127.0.0.1:0")
	defer t4.Close()
	t6 := a.Listen("tcp6", "[::]:0")
	defer t6.Close()
	dual := a.Listen("tcp", ":0")
	defer dual.Close()
	u := a.ListenPacket("udp4", "0.0.0.0:0")
	defer u.Close()
	all, err := kernel().Sockets(t.Context(), a.NS)
	if err != nil {
		t.Fatal(err)
	}
	port := func(x net.Addr) uint16 { return netip.MustParseAddrPort(x.String()).Port() }
	for _, want := range []reading.Socket{
		{Proto: "tcp", Addr: netip.MustParseAddr("127.0.0.1"), Port: port(t4.Addr())},
		{Proto: "tcp", Addr: netip.MustParseAddr("::"), Port: port(t6.Addr()), V6Only: true},
		{Proto: "tcp", Addr: netip.MustParseAddr("::"), Port: port(dual.Addr())},
		{Proto: "udp", Addr: netip.MustParseAddr("0.0.0.0"), Port: port(u.LocalAddr())},
	} {
		got, ok := find(all, func(s reading.Socket) bool { return s.Proto == want.Proto && s.Port == want.Port })
		if !ok || got.Addr != want.Addr || got.V6Only != want.V6Only || got.Inode == 0 || want.Proto == "tcp" && got.Backlog == 0 {
			t.Errorf("want %+v, got %+v of %+v", want, got, all)
		}
	}
	if len(all) != 4 {
		t.Errorf("four sockets wait, these are told: %+v", all)
	}
}

func TestFlows(t *testing.T) {
	probe.Require(t, probe.Conntrack, probe.NFTProgram)
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Join(a, b, "10.9.0.1/24", "10.9.0.2/24")
	nft(b, `table ip n {
		chain p { type nat hook prerouting priority -100; tcp dport 80 ct mark set 5 dnat to 10.9.0.2:8080; }
		chain i { type filter hook input priority 0; ct state new counter; }
	}`)
	b.Sysctl("net.netfilter.nf_conntrack_acct", "1")
	ln := b.Listen("tcp4", "0.0.0.0:8080")
	defer ln.Close()
	u := b.ListenPacket("udp4", "0.0.0.0:53")
	defer u.Close()
	c, err := a.Dial("tcp4", "10.9.0.2:80", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q, err := a.Dial("udp4", "10.9.0.2:53", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	k := kernel()
	all, err := k.Flows(t.Context(), b.NS, reading.FlowFilter{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%v; %+v", err, all)
	}
	tcp, err := k.Flows(t.Context(), b.NS, reading.FlowFilter{Proto: "tcp"})
	if err != nil || len(tcp) != 1 {
		t.Fatalf("%v; tcp %+v", err, tcp)
	}
	src := netip.MustParseAddrPort(c.LocalAddr().String())
	f := tcp[0]
	if f.Original != (reading.Tuple{Src: src, Dst: netip.MustParseAddrPort("10.9.0.2:80")}) ||
		f.Reply != (reading.Tuple{Src: netip.MustParseAddrPort("10.9.0.2:8080"), Dst: src}) ||
		f.State != "ESTABLISHED" || !f.Assured || f.Unreplied || !f.DNAT || f.SNAT || f.Mark != 5 || !f.Counted || f.OutPackets < 2 || f.OutBytes == 0 || f.Timeout == 0 || f.ID == 0 {
		t.Errorf("the flow is %+v", f)
	}
	for name, c := range map[string]struct {
		f    reading.FlowFilter
		want int
	}{
		"udp":        {reading.FlowFilter{Proto: "udp"}, 1},
		"other":      {reading.FlowFilter{Proto: "sctp"}, 0},
		"port":       {reading.FlowFilter{Port: 80}, 1},
		"translated": {reading.FlowFilter{Port: 8080}, 1},
		"address":    {reading.FlowFilter{Addr: netip.MustParseAddr("10.9.0.1")}, 2},
		"both":       {reading.FlowFilter{Addr: netip.MustParseAddr("10.9.0.1"), Port: 53}, 1},
		"nobody":     {reading.FlowFilter{Addr: netip.MustParseAddr("10.9.0.3")}, 0},
		"v6":         {reading.FlowFilter{Addr: netip.MustParseAddr("::1")}, 0},
	} {
		if got, err := k.Flows(t.Context(), b.NS, c.f); err != nil || len(got) != c.want {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
	udp, _ := find(all, func(f reading.Flow) bool { return f.Proto == "udp" })
	if !udp.Unreplied || udp.State != "" {
		t.Errorf("udp is %+v", udp)
	}
}

func TestSysctl(t *testing.T) {
	l := lab.New(t)
	a := l.Host("a")
	a.Sysctl("net.ipv4.ip_forward", "1")
	k := kernel()
	if v, err := k.Sysctl(t.Context(), a.NS, "net/ipv4/ip_forward"); err != nil || v != "1" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := k.Sysctl(t.Context(), a.NS, "net/ipv4/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	for _, bad := range []string{"", "../etc/passwd", "/etc/passwd", "net/../../etc/passwd", "net//ipv4"} {
		if v, err := k.Sysctl(t.Context(), a.NS, bad); err == nil {
			t.Errorf("%q was read: %q", bad, v)
		}
	}
}
