package live_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
	"linkspan/internal/lab"
	"linkspan/probe"
)

// TestBridge compares the evaluation with what a bridge does to packets that it switches.
func TestBridge(t *testing.T) {
	probe.Require(t, probe.NFT, probe.NFTProgram, probe.Bridge)
	l := lab.New(t)
	a, r, b := l.Host("a"), l.Host("r"), l.Host("b")
	l.Join(a, r, "10.7.0.1/24", "192.0.2.1/30")
	l.Join(r, b, "192.0.2.5/30", "10.7.0.2/24")
	k := kernel()
	links, err := k.Interfaces(t.Context(), r.NS)
	if err != nil {
		t.Fatal(err)
	}
	r.Run("ip", "link", "add", "br0", "type", "bridge")
	r.Run("ip", "link", "set", "br0", "up")
	pa, pb := "", ""
	for _, i := range links {
		if i.Name == "lo" {
			continue
		}
		if pa == "" {
			pa = i.Name
		} else {
			pb = i.Name
		}
		r.Run("ip", "addr", "flush", "dev", i.Name)
		r.Run("ip", "link", "set", i.Name, "master", "br0")
	}
	mac := func(h *lab.Host) (reading.Interface, string) {
		all, err := k.Interfaces(t.Context(), h.NS)
		if err != nil {
			t.Fatal(err)
		}
		i, _ := find(all, func(i reading.Interface) bool { return i.Name != "lo" })
		return i, i.MAC
	}
	ai, amac := mac(a)
	bi, bmac := mac(b)
	// Neighbours are known, so that ARP is not in the way.
	a.Run("ip", "neigh", "add", "10.7.0.2", "lladdr", bmac, "dev", ai.Name, "nud", "permanent")
	b.Run("ip", "neigh", "add", "10.7.0.1", "lladdr", amac, "dev", bi.Name, "nud", "permanent")
	nft(b, `table ip got {
		set ports { type inet_service; flags dynamic; }
		chain pre { type filter hook prerouting priority -500; update @ports { udp dport }; }
	}`)
	got := func(port uint16) bool {
		rs, err := k.Ruleset(t.Context(), b.NS)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := rs.Table("ip", "got").Set("ports").Find([]byte{byte(port >> 8), byte(port), 0, 0}[:2])
		return ok
	}
	send := func(port uint16) {
		c, err := a.Dial("udp4", fmt.Sprintf("10.7.0.2:%d", port), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the bridge to switch", func() bool { send(1); return got(1) })
	port := uint16(100)
	for _, c := range []struct{ rules, want string }{
		{"ether saddr AMAC drop", "drop"}, {"ether daddr AMAC drop", "accept"}, {`iifname "PA" drop`, "drop"}, {`iifname "br0" drop`, "accept"},
		{`oifname "PB" drop`, "drop"}, {"ip daddr 10.7.0.2 udp dport 100-200 drop", "drop"},
		{"ip6 nexthdr udp drop", "accept"}, {"meta protocol ip ip saddr != 10.7.0.0/24 drop", "accept"}, {"ether type arp drop", "accept"}, {"meta pkttype multicast drop", "accept"},
		{"udp dport vmap { 100-200 : jump d }", "drop"}, {"tcp dport 1-65535 drop", "accept"}, {"ip protocol udp ip ttl 64 drop", "drop"},
	} {
		r.Run("nft", "flush", "ruleset")
		nft(r, strings.NewReplacer("AMAC", amac, "PA", pa, "PB", pb, "BMAC", bmac).Replace(`table bridge f {
			chain d { drop; }
			chain f { type filter hook forward priority filter; policy accept; `+c.rules+"\n}\n}"))
		rs, err := k.Ruleset(t.Context(), r.NS)
		if err != nil {
			t.Fatal(err)
		}
		env, err := k.Env(t.Context(), r.NS)
		if err != nil {
			t.Fatal(err)
		}
		port++
		p := ruleset.Packet{In: "br0", Out: "br0", PhysIn: pa, PhysOut: pb, SrcMAC: amac, DstMAC: bmac,
			Src: netip.MustParseAddr("10.7.0.1"), Dst: netip.MustParseAddr("10.7.0.2"), Proto: "udp", DstPort: port}
		tr := rs.WalkIn("bridge", p, "forward", env)
		if tr.Verdict != c.want {
			t.Errorf("%s: %s (%s), not %s", c.rules, tr.Verdict, tr.Reason, c.want)
		}
		send(port)
		if tr.Passed() {
			until(t, "what "+c.rules+" lets through", func() bool { return got(port) })
			continue
		}
		time.Sleep(30 * time.Millisecond)
		if got(port) {
			t.Errorf("%s: it came through", c.rules)
		}
	}
	// ARP itself is a packet too.
	r.Run("nft", "flush", "ruleset")
	nft(r, "table bridge f {\nchain f { type filter hook forward priority filter; policy accept; arp operation request arp daddr ip 10.7.0.2 drop\n}\n}")
	rs, err := k.Ruleset(t.Context(), r.NS)
	if err != nil {
		t.Fatal(err)
	}
	who := ruleset.Packet{In: "br0", Out: "br0", PhysIn: pa, PhysOut: pb, SrcMAC: amac, DstMAC: "ff:ff:ff:ff:ff:ff", Proto: "arp", Src: netip.MustParseAddr("10.7.0.1"), Dst: netip.MustParseAddr("10.7.0.2")}
	if tr := rs.WalkIn("bridge", who, "forward", ruleset.Env{}); tr.Verdict != ruleset.Drop {
		t.Errorf("a question: %s (%s) %s", tr.Verdict, tr.Reason, hits(tr))
	}
	who.Reply, who.Src, who.Dst = true, who.Dst, who.Src
	if tr := rs.WalkIn("bridge", who, "forward", ruleset.Env{}); tr.Verdict != ruleset.Accept {
		t.Errorf("an answer: %s (%s)", tr.Verdict, tr.Reason)
	}
	a.Sysctl("net.ipv4.neigh."+ai.Name+".retrans_time_ms", "100")
	a.Run("ip", "neigh", "del", "10.7.0.2", "dev", ai.Name)
	send(999)
	until(t, "ARP to fail", func() bool {
		all, err := k.Neighbours(t.Context(), a.NS)
		if err != nil {
			t.Fatal(err)
		}
		n, ok := find(all, func(n reading.Neighbour) bool { return n.Addr == netip.MustParseAddr("10.7.0.2") })
		return ok && n.State == "failed"
	})
}
