package mesh

import (
	"net/netip"
	"testing"

	"linkspan/cnm"
	"linkspan/ipam"
)

func TestBlockBits(t *testing.T) {
	for subnet, want := range map[string]int{
		"10.0.0.0/8": 26, "10.0.0.0/16": 26, "10.0.0.0/20": 26, "10.0.0.0/21": 27, "10.0.0.0/22": 28, "10.0.0.0/24": 28, "10.0.0.0/26": 28,
		"10.0.0.0/27": 29, "10.0.0.0/28": 30, "10.0.0.0/29": 30, "10.0.0.0/30": 30, "10.0.0.0/31": 31, "10.0.0.0/32": 32,
		"fd00::/48": 112, "fd00::/64": 112, "fd00::/108": 112, "fd00::/112": 116, "fd00::/120": 124, "fd00::/124": 126, "fd00::/127": 127, "fd00::/128": 128,
	} {
		p := netip.MustParsePrefix(subnet)
		if got := BlockBits(p); got != want {
			t.Errorf("%s has blocks of /%d, want /%d", subnet, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	pool := func(subnet, gateway, rng string, aux ...string) cnm.Pool {
		p := cnm.Pool{Subnet: netip.MustParsePrefix(subnet), Aux: map[string]netip.Addr{}}
		if gateway != "" {
			p.Gateway = netip.MustParseAddr(gateway)
		}
		if rng != "" {
			p.Range = netip.MustParsePrefix(rng)
		}
		for _, a := range aux {
			p.Aux[a] = netip.MustParseAddr(a)
		}
		return p
	}
	for _, c := range []struct {
		name string
		pool cnm.Pool
		used []string
		want string // "" for none
	}{
		{"the first", pool("10.0.0.0/16", "10.0.0.1", ""), nil, "10.0.0.0/26"},
		{"the next", pool("10.0.0.0/16", "10.0.0.1", ""), []string{"10.0.0.0/26", "10.0.0.128/26"}, "10.0.0.64/26"},
		{"none left", pool("10.0.0.0/31", "", ""), []string{"10.0.0.0/31"}, ""},
		{"in the range only", pool("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25"), nil, "10.0.0.128/28"},
		{"a range of one block's part", pool("10.0.0.0/24", "10.0.0.1", "10.0.0.40/30"), nil, "10.0.0.32/28"},
		{"that block taken", pool("10.0.0.0/24", "10.0.0.1", "10.0.0.40/30"), []string{"10.0.0.32/28"}, ""},
		{"a block of reserved addresses is none", pool("10.0.0.0/28", "10.0.0.1", "", "10.0.0.2", "10.0.0.3"), nil, "10.0.0.4/30"},
		{"nor the last", pool("10.0.0.0/28", "10.0.0.14", "", "10.0.0.12", "10.0.0.13"), []string{"10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30"}, ""},
		{"IPv6", pool("fd00::/64", "fd00::1", ""), []string{"fd00::/112"}, "fd00::1:0/112"},
	} {
		var used ipam.Space
		for _, u := range c.used {
			used.Add(netip.MustParsePrefix(u), "")
		}
		got, ok := choose(c.pool, &used, 0)
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: %s, %v; want %q", c.name, got, ok, c.want)
		}
	}
	// Who was not first takes another than the others who were not.
	seen := map[netip.Prefix]bool{}
	for range 50 {
		var used ipam.Space
		p, ok := choose(pool("10.0.0.0/16", "10.0.0.1", ""), &used, 3)
		if !ok {
			t.Fatal("none")
		}
		seen[p] = true
	}
	if len(seen) < 3 {
		t.Errorf("only %d different blocks at the third attempt", len(seen))
	}
}

// Blocks of one subnet never overlap, whichever way they are come by.
func FuzzBlocks(f *testing.F) {
	f.Add("10.0.0.0/20", "10.0.3.7")
	f.Add("fd00::/64", "fd00::9:1")
	f.Fuzz(func(t *testing.T, subnet, addr string) {
		s, err := netip.ParsePrefix(subnet)
		a, err2 := netip.ParseAddr(addr)
		if err != nil || err2 != nil || s != s.Masked() || s.Addr().Is4In6() || !s.Contains(a) || a.Zone() != "" {
			return
		}
		mine := blockOf(s, a)
		if !mine.Contains(a) || mine.Bits() < s.Bits() || !s.Contains(mine.Addr()) {
			t.Fatalf("block %s of %s for %s", mine, s, a)
		}
		var used ipam.Space
		used.Add(mine, "")
		if other, ok := choose(cnm.Pool{Subnet: s}, &used, 0); ok && other.Overlaps(mine) {
			t.Fatalf("%s and %s", mine, other)
		}
		key := blockKey("net", mine)
		if n, p, ok := splitBlock(key); !ok || n != "net" || p != mine {
			t.Fatalf("%s is %s %s %v", key, n, p, ok)
		}
	})
}
