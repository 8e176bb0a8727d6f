package check

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/cnm"
)

// TestWell: hosts between which nothing is wrong; all pairs, from one of them.
func TestWell(t *testing.T) {
	w := start(t, 3, 4)
	all, err := w.hosts[0].c.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 12 {
		t.Errorf("%d ways between three hosts, want 6 pairs by 2", len(all))
	}
	for _, r := range all {
		w.finds(r)
		want := 1500
		if r.Kind == cnm.PathVXLAN {
			want = 1450
		}
		if r.MTU != want || r.Expected != want || r.Loss != 0 || r.RTT <= 0 || r.RTT > time.Second || r.TCP <= 0 || r.Spoilt {
			t.Errorf("%+v", r)
		}
	}
	for _, n := range w.hosts {
		w.until("the path MTU is told", func() string {
			if m := n.told(); !slices.Equal(m, []int{0}) {
				return "told another than that the device's fits"
			}
			return ""
		})
	}
}

// TestBlackHole: large packets vanish without a word; the networks are told what fits,
// and when it is over.
func TestBlackHole(t *testing.T) {
	w := start(t, 2, 3)
	one, two := w.hosts[0], w.hosts[1]
	w.sw.BlackHole(two.Host, 1400)
	found := w.own(one)
	r := found["host2 direct"]
	w.finds(r, "packets over 1400 bytes vanish", "a router on the way drops them silently", "stands still", "lower the MTU of wan0 to 1400")
	if r.MTU != 1400 || r.Loss != 0 {
		t.Errorf("%+v", r)
	}
	if in := found["host2 vxlan"]; in.Well() || in.MTU != 1400-50 {
		t.Errorf("the tunnel: %+v", in)
	}
	for _, n := range []*node{one, two} {
		w.until(n.Name+" sizes its networks for it", func() string {
			if m := n.told(); !slices.Equal(m, []int{0, 1400}) {
				return fmt.Sprint(m)
			}
			return ""
		})
	}
	one.mu.Lock()
	if got := one.found["id2"]; got != 1400 {
		t.Errorf("%d bytes are remembered", got)
	}
	one.mu.Unlock()
	w.sw.Heal(two.Host)
	w.until("it is over", func() string {
		if m := one.told(); !slices.Equal(m, []int{0, 1400, 0}) {
			return fmt.Sprint(m)
		}
		return ""
	})
}

// TestRouterSays: a router tells what fits, and is named.
func TestRouterSays(t *testing.T) {
	w := start(t, 2, 2)
	// The router's end toward host2 takes less.
	router := w.lab.Hosts()[1]
	router.Run("ip", "link", "set", "wan1", "mtu", "1300")
	found := w.own(w.hosts[0])
	r := found["host2 direct"]
	w.finds(r, "packets over 1300 bytes are refused by router 10.0.0.254, which says that 1300 fit")
	if r.MTU != 1300 {
		t.Errorf("%+v", r)
	}
}

// TestLoss: a fifth of all packets is lost each way; it is counted, and not taken for a limit of
// size.
func TestLoss(t *testing.T) {
	w := start(t, 2, 3)
	w.sw.Lose(w.hosts[1].Host, 20)
	r := w.own(w.hosts[0])["host2 direct"]
	w.finds(r, "% of packets are lost", "bad cable")
	if r.Loss < 0.1 || r.Loss > 0.95 || r.MTU != 1500 {
		t.Errorf("%+v", r)
	}
	w.until("the light probes see it", func() string {
		if p := w.hosts[0].c.Status()["id2"][0]; p.Loss < 0.1 {
			return "no loss"
		}
		return ""
	})
}

// TestOneWay: what host2 sends is lost, and said to be so.
func TestOneWay(t *testing.T) {
	w := start(t, 2, 3)
	one, two := w.hosts[0], w.hosts[1]
	w.sw.Silence(two.Host)
	r := w.own(one)["host2 direct"]
	w.finds(r, "host2 does not answer at 10.0.0.2:2382", "open TCP and UDP port 2382")
	w.until("the light probes see it", func() string {
		if p := one.c.Status()["id2"][0]; p.Loss < 0.2 {
			return "no loss"
		}
		return ""
	})
	w.sw.Heal(two.Host)
	w.until("it is over", func() string {
		for _, p := range one.c.Status()["id2"] {
			if p.Loss > 0.9 || p.Error != "" {
				return p.Error
			}
		}
		return ""
	})
}

// TestClosed: a firewall lets a part through.
func TestClosed(t *testing.T) {
	w := start(t, 2, 3)
	one, two := w.hosts[0], w.hosts[1]
	deny := func(rule ...string) {
		two.Run("nft", "add", "table", "inet", "wall")
		two.Run("nft", "add", "chain", "inet", "wall", "in", "{ type filter hook input priority 0; }")
		two.Run(append([]string{"nft", "add", "rule", "inet", "wall", "in"}, rule...)...)
	}
	open := func() { two.Run("nft", "delete", "table", "inet", "wall") }
	deny("udp", "dport", "4789", "drop")
	found := w.own(one)
	w.finds(found["host2 direct"])
	w.finds(found["host2 vxlan"], "nothing passes VXLAN (UDP port 4789, VNI 4980736) although the hosts reach each other", "open UDP port 4789")
	open()
	deny("ip", "saddr", "10.0.0.1", "udp", "dport", "2382", "drop")
	w.finds(w.own(one)["host2 direct"], "UDP packets of host1 do not reach host2, and TCP does: open UDP port 2382")
	open()
}

// TestNobody: a host whose daemon does not run.
func TestNobody(t *testing.T) {
	w := start(t, 1, 2)
	n := w.lab.Host("dark")
	w.sw.Plug(n, "10.0.0.9/24")
	peer := cnm.Peer{ID: "id9", Name: "host9", Addr: w.hosts[0].u.Addr.Next().Next().Next().Next().Next().Next().Next().Next()}
	found := w.hosts[0].c.peer(t.Context(), w.hosts[0].u, peer)
	if len(found) != 1 {
		t.Fatalf("%+v", found)
	}
	w.finds(found[0], "host9 answers no probes at 10.0.0.9:2382: its daemon does not run")
}

// TestSpoilt: what goes into the tunnel has its checksum spoilt on the way; the peer's kernel
// counts it, and it is told.
func TestSpoilt(t *testing.T) {
	w := start(t, 2, 3)
	one := w.hosts[0]
	var told atomic.Int32
	one.c.cfg.Spoilt = func() { told.Add(1) }
	// A packet between namespaces has no checksum that anyone looks at, unless it was computed
	// before: then a switch can spoil the inner one (after UDP's 8 bytes, VXLAN's 8, Ethernet's
	// 14 and IPv6's 40 it is at 6 of UDP).
	one.Run("ethtool", "-K", "ls-r", "tx", "off")
	sw := w.lab.Hosts()[0]
	sw.Run("nft", "add", "table", "bridge", "spoil")
	sw.Run("nft", "add", "chain", "bridge", "spoil", "passing", "{ type filter hook forward priority 0; }")
	sw.Run("nft", "add", "rule", "bridge", "spoil", "passing", "ip", "saddr", "10.0.0.1", "udp", "dport", "4789", "@th,608,16", "set", "0xdead")
	found := w.own(one)
	w.finds(found["host2 direct"])
	r := found["host2 vxlan"]
	w.finds(r, "nothing passes VXLAN", "broken checksum", "From now on host1 computes them before, for its tunnels alone")
	if !r.Spoilt || told.Load() != 1 {
		t.Errorf("spoilt %v, told %d times", r.Spoilt, told.Load())
	}
	if back := w.own(w.hosts[1])["host1 vxlan"]; back.Spoilt {
		t.Errorf("the other way: %+v", back)
	}
}
