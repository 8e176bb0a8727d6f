package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

func TestOverlap(t *testing.T) {
	var s Space
	s.Add(prefix("172.20.0.0/16"), "network shop")
	s.Add(prefix("10.8.0.0/24"), "route via dev tun0")
	s.Add(prefix("::ffff:192.0.2.0/120"), "mapped")
	s.Add(prefix("fd00:1::/64"), "network six")
	for _, c := range []struct{ ask, with, who string }{
		{"172.20.0.0/16", "172.20.0.0/16", "network shop"},
		{"172.20.5.0/24", "172.20.0.0/16", "network shop"},
		{"172.16.0.0/12", "172.20.0.0/16", "network shop"},
		{"172.21.0.0/16", "", ""},
		{"10.0.0.0/8", "10.8.0.0/24", "route via dev tun0"},
		{"10.8.1.0/24", "", ""},
		{"192.0.2.128/25", "192.0.2.0/24", "mapped"},
		{"fd00:1::/48", "fd00:1::/64", "network six"},
		{"fd00:2::/48", "", ""},
		{"0.0.0.0/0", "10.8.0.0/24", "route via dev tun0"},
	} {
		with, who, ok := s.Overlap(prefix(c.ask))
		if ok != (c.with != "") || ok && (with != prefix(c.with) || who != c.who) {
			t.Errorf("%s: %s, %q, %v", c.ask, with, who, ok)
		}
	}
	s.Remove(prefix("172.20.0.0/16"))
	s.Remove(prefix("172.20.0.0/16"))
	s.Remove(prefix("10.0.0.0/8"))
	if with, who, ok := s.Overlap(prefix("172.16.0.0/12")); ok {
		t.Errorf("removed: %s, %s", with, who)
	}
	if _, _, ok := s.Overlap(prefix("10.8.0.5/32")); !ok {
		t.Error("removing a larger one took the smaller")
	}
}

// naive is the plainest Space.
type naive map[netip.Prefix]bool

func (n naive) overlaps(p netip.Prefix) bool {
	for u := range n {
		if u.Overlaps(p) {
			return true
		}
	}
	return false
}

// TestSpaceHistories runs random histories against the plainest model.
func TestSpaceHistories(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		var ours, host Space
		here, there := naive{}, naive{}
		base := prefix("10.0.0.0/24")
		any := func() netip.Prefix {
			bits := 24 + r.IntN(9)
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(256))}), bits).Masked()
		}
		for i := range 400 {
			p := any()
			switch r.IntN(6) {
			case 0:
				ours.Add(p, "x")
				here[p] = true
			case 1:
				host.Add(p, "y")
				there[p] = true
			case 2, 3:
				for q := range here {
					p = q
					break
				}
				ours.Remove(p)
				delete(here, p)
			case 4:
				host.Remove(p)
				delete(there, p)
			}
			ask := any()
			if with, _, ok := ours.Overlap(ask); ok != here.overlaps(ask) || ok && (!here[with] || !with.Overlaps(ask)) {
				t.Fatalf("seed %d, step %d: overlap of %s: %s, %v", seed, i, ask, with, ok)
			}
			size := 24 + r.IntN(9)
			want := netip.Prefix{}
			for a := base.Addr(); base.Contains(a); a = last(netip.PrefixFrom(a, size)).Next() {
				if q := netip.PrefixFrom(a, size); !here.overlaps(q) && !there.overlaps(q) {
					want = q
					break
				}
			}
			if got, ok := ours.FirstFree(base, size, &host); ok != want.IsValid() || got != want {
				t.Fatalf("seed %d, step %d: first free /%d: %s, want %s", seed, i, size, got, want)
			}
		}
	}
}

// Choosing and giving back costs the same with thousands of networks as with none.
func TestManyNetworks(t *testing.T) {
	var used, host Space
	seen := map[netip.Prefix]bool{}
	start := time.Now()
	const many = 20000
	for i := range many {
		p, err := Choose(DefaultBases(), true, &used, &host)
		if err != nil {
			t.Fatal(err)
		}
		if seen[p] {
			t.Fatalf("%s was chosen twice", p)
		}
		seen[p] = true
		used.Add(p, fmt.Sprint("network ", i))
	}
	t.Logf("%d networks took %s", many, time.Since(start))
	for p := range seen {
		used.Remove(p)
	}
	if used.four != nil {
		t.Error("something is left of an empty space")
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name       string
		bases      []Base
		used, host string
		want, err  string
	}{
		{name: "the default bridge", want: "172.17.0.0/16"},
		{name: "the first network", used: "172.17.0.0/16", want: "172.18.0.0/16"},
		{name: "a VPN's halves are no overlap", used: "172.17.0.0/16", want: "172.18.0.0/16"},
		{name: "after the sixteens", used: "172.16.0.0/13", want: "172.24.0.0/24"},
		{name: "a corporate route", host: "172.16.0.0/12", want: "192.168.0.0/24"},
		{name: "and a home", host: "172.16.0.0/12 192.168.0.0/24 192.168.2.0/23", want: "192.168.1.0/24"},
		{name: "all of the first two", host: "172.16.0.0/12 192.168.0.0/16", used: "10.0.0.0/24", want: "10.0.1.0/24"},
		{name: "nothing left", host: "172.16.0.0/12 192.168.0.0/16 10.0.0.0/8", err: "all predefined address pools have been fully subnetted"},
		{name: "of the daemon", bases: []Base{{prefix("10.10.0.0/16"), 24}, {prefix("fd00::/48"), 64}}, used: "10.10.0.0/24", want: "10.10.1.0/24"},
		{name: "of another family", bases: []Base{{prefix("fd00::/48"), 64}}, err: "there is no default pool of that family"},
	} {
		var used, host Space
		for _, p := range strings.Fields(c.used) {
			used.Add(prefix(p), "used")
		}
		for _, p := range strings.Fields(c.host) {
			host.Add(prefix(p), "host")
		}
		bases := c.bases
		if bases == nil {
			bases = DefaultBases()
		}
		got, err := Choose(bases, true, &used, &host)
		if c.err != "" {
			if !errors.Is(err, cnm.ErrExhausted) || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "--default-address-pool") {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if err != nil || got != prefix(c.want) {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestULA(t *testing.T) {
	a, b := ULA("one"), ULA("two")
	if a != ULA("one") || a == b {
		t.Errorf("%v, %v", a, b)
	}
	if !prefix("fd00::/8").Contains(a.Prefix.Addr()) || a.Prefix.Bits() != 48 || a.Bits != 64 || a.Prefix != a.Prefix.Masked() {
		t.Errorf("%v", a)
	}
	var used Space
	p, err := Choose([]Base{a}, false, &used, nil)
	if err != nil || p.Addr() != a.Prefix.Addr() || p.Bits() != 64 {
		t.Errorf("%s, %v", p, err)
	}
}

func TestBaseCheck(t *testing.T) {
	for _, c := range []struct {
		base string
		bits int
		want string
	}{
		{"10.10.0.0/16", 24, ""},
		{"10.10.0.0/16", 16, ""},
		{"fd00::/48", 64, ""},
		{"", 24, "write base="},
		{"10.10.0.1/16", 24, "it should be 10.10.0.0/16"},
		{"10.10.0.0/16", 8, "larger than its base"},
		{"10.10.0.0/16", 31, "no room"},
		{"10.10.0.0/16", 64, "no room"},
	} {
		err := Base{prefix(c.base), c.bits}.Check()
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %d: %v", c.base, c.bits, err)
		}
	}
	for _, b := range append(DefaultBases(), ULA("x")) {
		if err := b.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestDefaultRoute(t *testing.T) {
	for p, want := range map[string]bool{"0.0.0.0/0": true, "128.0.0.0/1": true, "64.0.0.0/2": true, "::ffff:0.0.0.0/96": true, "32.0.0.0/3": false, "10.0.0.0/8": false, "::/0": true, "2000::/3": false} {
		if got := DefaultRoute(prefix(p)); got != want {
			t.Errorf("%s: %v", p, got)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	var used, host Space
	for i := range 5000 {
		p, err := Choose(DefaultBases(), true, &used, &host)
		if err != nil {
			b.Fatal(i, err)
		}
		used.Add(p, "x")
	}
	for b.Loop() {
		p, _ := Choose(DefaultBases(), true, &used, &host)
		used.Add(p, "x")
		used.Remove(p)
	}
}
