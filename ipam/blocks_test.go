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

func prefixes(words string) (out []netip.Prefix) {
	for _, w := range strings.Fields(words) {
		out = append(out, prefix(w))
	}
	return out
}

func blocked(t testing.TB, subnet, gateway, rng, blocks string, o Options) (*Pool, *clock) {
	t.Helper()
	p, c := newPool(t, subnet, gateway, rng, o)
	if err := p.SetBlocks(prefixes(blocks)); err != nil {
		t.Fatal(err)
	}
	return p, c
}

func TestBlocksHandOutTheirOwn(t *testing.T) {
	for _, c := range []struct{ subnet, gateway, rng, blocks, want string }{
		{"10.0.0.0/24", "10.0.0.1", "", "", ""},
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.0/29", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7"},
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.248/29", "10.0.0.248 10.0.0.249 10.0.0.250 10.0.0.251 10.0.0.252 10.0.0.253 10.0.0.254"},
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.16/30 10.0.0.8/30", "10.0.0.8 10.0.0.9 10.0.0.10 10.0.0.11 10.0.0.16 10.0.0.17 10.0.0.18 10.0.0.19"},
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.77/32", "10.0.0.77"},
		// One inside of the other counts once.
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.8/30 10.0.0.9/32", "10.0.0.8 10.0.0.9 10.0.0.10 10.0.0.11"},
		// With a range only what is in both.
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.64/27", "10.0.0.64/28", "10.0.0.64 10.0.0.65 10.0.0.66 10.0.0.67 10.0.0.68 10.0.0.69 10.0.0.70 10.0.0.71 10.0.0.72 10.0.0.73 10.0.0.74 10.0.0.75 10.0.0.76 10.0.0.77 10.0.0.78 10.0.0.79"},
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.64/30", "10.0.0.0/25", "10.0.0.64 10.0.0.65 10.0.0.66 10.0.0.67"},
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.64/30", "10.0.0.128/25", ""},
		{"fd00::/64", "fd00::1", "", "fd00::4:0/126", "fd00::4:0 fd00::4:1 fd00::4:2 fd00::4:3"},
	} {
		p, _ := blocked(t, c.subnet, c.gateway, c.rng, c.blocks, Options{})
		want := strings.Fields(c.want)
		if used, free := p.Count(); used != 0 || free != uint64(len(want)) {
			t.Errorf("%+v: %d used, %d free, want %d", c, used, free, len(want))
		}
		if len(want) > 0 {
			if a, err := p.Peek(); err != nil || a.String() != want[0] {
				t.Errorf("%+v: Peek = %s, %v", c, a, err)
			}
		}
		take(t, p, want...)
		_, err := p.Allocate("c")
		if full := (*FullError)(nil); !errors.As(err, &full) || !errors.Is(err, cnm.ErrExhausted) || full.Subnet != prefix(c.subnet) {
			t.Errorf("%+v: one too many: %v", c, err)
		}
		if _, err := p.Peek(); !errors.Is(err, cnm.ErrExhausted) {
			t.Errorf("%+v: Peek of none: %v", c, err)
		}
	}
}

func TestBlockHuge(t *testing.T) {
	p, _ := blocked(t, "fd00::/64", "fd00::1", "", "fd00::/64", Options{})
	take(t, p, "fd00::2", "fd00::3")
	if _, free := p.Count(); free != 1<<63-4 { // ::0, ::1 and the two
		t.Errorf("%d free", free)
	}
}

func TestElsewhere(t *testing.T) {
	p, _ := blocked(t, "10.0.0.0/24", "10.0.0.1", "", "10.0.0.64/26", Options{Network: "shop"})
	for name, try := range map[string]func(netip.Addr) error{
		"AllocateSpecific": func(a netip.Addr) error { return p.AllocateSpecific(a, "c") },
		"Hold":             func(a netip.Addr) error { return p.Hold(a, "c", "") },
		"Available":        func(a netip.Addr) error { return p.Available(a, "c", "") },
		"Grant":            func(a netip.Addr) error { return p.Grant(a, "host2") },
	} {
		err := try(addr("10.0.0.200"))
		if e := (*ElsewhereError)(nil); !errors.As(err, &e) || e.Addr != addr("10.0.0.200") || e.Network != "shop" {
			t.Errorf("%s: %v", name, err)
		}
		// What can never be had is said first.
		if err := try(addr("10.0.0.1")); !errors.Is(err, cnm.ErrConflict) {
			t.Errorf("%s of the gateway: %v", name, err)
		}
		if err := try(addr("10.0.1.1")); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s outside: %v", name, err)
		}
	}
	// What runs when the daemon comes back has its address in whosever block it is, and
	// its holder comes back to it.
	if err := p.MarkUsed(addr("10.0.0.200"), "c"); err != nil {
		t.Fatal(err)
	}
	if err := p.AllocateSpecific(addr("10.0.0.200"), "c"); err != nil {
		t.Error(err)
	}
	if err := p.AllocateSpecific(addr("10.0.0.200"), "d"); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("another's: %v", err)
	}
	if used, free := p.Count(); used != 1 || free != 64 {
		t.Errorf("%d used, %d free", used, free)
	}
	p.Release(addr("10.0.0.200"))
	if _, free := p.Count(); free != 64 {
		t.Errorf("%d free", free)
	}
	for range 64 {
		if a, err := p.Allocate("c"); err != nil || !prefix("10.0.0.64/26").Contains(a) {
			t.Fatalf("%s, %v", a, err)
		}
	}
	if a, err := p.Allocate("c"); err == nil {
		t.Errorf("%s, which rests in another host's block, was handed out", a)
	}
}

func TestAddRemoveBlock(t *testing.T) {
	p, _ := blocked(t, "10.0.0.0/24", "10.0.0.1", "", "", Options{Rest: -1})
	for _, bad := range []string{"10.0.1.0/26", "10.0.0.0/16", "10.0.0.5/26", "fd00::/120"} {
		if err := p.AddBlock(netip.MustParsePrefix(bad)); !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for range 2 {
		if err := p.AddBlock(prefix("10.0.0.8/30")); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AddBlock(prefix("10.0.0.77/32")); err != nil {
		t.Fatal(err)
	}
	if bs, ok := p.Blocks(); !ok || fmt.Sprint(bs) != "[10.0.0.8/30 10.0.0.77/32]" {
		t.Errorf("%v %v", bs, ok)
	}
	if idle := p.Idle(); fmt.Sprint(idle) != "[10.0.0.77/32]" {
		t.Errorf("idle %v", idle)
	}
	if err := p.Hold(addr("10.0.0.77"), "c", ""); err != nil {
		t.Fatal(err)
	}
	take(t, p, "10.0.0.8")
	if p.RemoveBlock(prefix("10.0.0.8/30")) || p.RemoveBlock(prefix("10.0.0.77/32")) || len(p.Idle()) > 0 {
		t.Error("a block in use went")
	}
	p.Release(addr("10.0.0.8"))
	p.Unhold(addr("10.0.0.77"), "c")
	if !p.RemoveBlock(prefix("10.0.0.8/30")) || !p.RemoveBlock(prefix("10.0.0.77/32")) || !p.RemoveBlock(prefix("10.0.0.128/30")) {
		t.Error("a block that nobody uses stayed")
	}
	if bs, ok := p.Blocks(); !ok || len(bs) > 0 {
		t.Errorf("%v %v", bs, ok)
	}
	local, _ := newPool(t, "10.0.0.0/24", "10.0.0.1", "", Options{})
	if bs, ok := local.Blocks(); ok || len(bs) > 0 {
		t.Errorf("a local pool: %v %v", bs, ok)
	}
}

func TestGrant(t *testing.T) {
	p, c := blocked(t, "10.0.0.0/24", "10.0.0.1", "", "10.0.0.8/30", Options{Network: "shop", Rest: time.Minute, Describe: func(h string) string { return "container " + h }})
	take(t, p, "10.0.0.8")
	if err := p.Grant(addr("10.0.0.8"), "host2"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "held by container c (running") {
		t.Errorf("in use: %v", err)
	}
	if err := p.Hold(addr("10.0.0.11"), "db", ""); err != nil {
		t.Fatal(err)
	}
	if err := p.Grant(addr("10.0.0.11"), "host2"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "held by container db (not running") {
		t.Errorf("held: %v", err)
	}
	for range 2 {
		if err := p.Grant(addr("::ffff:10.0.0.9"), "host2"); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{p.Grant(addr("10.0.0.9"), "host3"), p.AllocateSpecific(addr("10.0.0.9"), "c"), p.Hold(addr("10.0.0.9"), "c", "")} {
		if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "given to host host2") {
			t.Errorf("granted: %v", err)
		}
	}
	if used, free := p.Count(); used != 1 || free != 1 {
		t.Errorf("%d used, %d free", used, free)
	}
	take(t, p, "10.0.0.10")
	if a, err := p.Allocate("c"); err == nil {
		t.Errorf("%s was handed out", a)
	}
	if got := p.GrantedTo(addr("10.0.0.9")); got != "host2" || p.GrantedTo(addr("10.0.0.10")) != "" {
		t.Errorf("granted to %q", got)
	}
	p.Ungrant(addr("10.0.0.9"))
	p.Ungrant(addr("10.0.0.9"))
	p.Ungrant(addr("10.0.0.200"))
	c.pass(time.Hour)
	take(t, p, "10.0.0.9")
}

// TestBlocksNeverTwice: hosts share a subnet; blocks come from one table, single
// addresses are asked of their owner, hosts restart. Whatever happens, no address is at
// two hosts, nor twice at one.
func TestBlocksNeverTwice(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		sharedHistory(t, r)
	}
}

type sharedHost struct {
	pool    *Pool
	blocks  []netip.Prefix
	has     map[netip.Addr]string
	granted map[netip.Addr]string
}

func sharedHistory(t *testing.T, r *rand.Rand) {
	subnet := prefix("10.0.0.0/24")
	owners := map[netip.Prefix]int{} // the table
	hosts := make([]*sharedHost, 3)
	start := func(h *sharedHost) {
		p, _ := newPool(t, subnet.String(), "10.0.0.1", "", Options{Rest: -1})
		if err := p.SetBlocks(h.blocks); err != nil {
			t.Fatal(err)
		}
		for a, who := range h.has {
			if err := p.MarkUsed(a, who); err != nil {
				t.Fatal(err)
			}
		}
		for a, who := range h.granted {
			if err := p.Grant(a, who); err != nil {
				t.Fatal(err)
			}
		}
		h.pool = p
	}
	for i := range hosts {
		hosts[i] = &sharedHost{has: map[netip.Addr]string{}, granted: map[netip.Addr]string{}}
		start(hosts[i])
	}
	// claim is what the hosts' common truth does.
	claim := func(i int, a netip.Addr) bool {
		for k := range 16 {
			b := netip.PrefixFrom(windowOf(subnet).at(uint64(k*16)), 28)
			if a.IsValid() && !b.Contains(a) {
				continue
			}
			o, taken := owners[b]
			switch {
			case !taken:
				owners[b] = i
				hosts[i].blocks = append(hosts[i].blocks, b)
				return hosts[i].pool.AddBlock(b) == nil
			case a.IsValid() && o != i:
				if hosts[o].pool.Grant(a, fmt.Sprint("host", i)) != nil {
					return false
				}
				hosts[o].granted[a] = fmt.Sprint("host", i)
				hosts[i].blocks = append(hosts[i].blocks, netip.PrefixFrom(a, 32))
				return hosts[i].pool.AddBlock(netip.PrefixFrom(a, 32)) == nil
			}
		}
		return false
	}
	for step := range 600 {
		i := r.IntN(len(hosts))
		h := hosts[i]
		who := fmt.Sprintf("c%d-%d", i, step)
		got := func(a netip.Addr) {
			for j, o := range hosts {
				if w, twice := o.has[a]; twice {
					t.Fatalf("step %d: host %d was given %s, which host %d has (%s)", step, i, a, j, w)
				}
			}
			h.has[a] = who
		}
		switch op := r.IntN(10); {
		case op < 4:
			a, err := h.pool.Allocate(who)
			if errors.Is(err, cnm.ErrExhausted) && claim(i, netip.Addr{}) {
				a, err = h.pool.Allocate(who)
			}
			if err == nil {
				got(a)
			} else if !errors.Is(err, cnm.ErrExhausted) {
				t.Fatal(err)
			}
		case op < 6:
			a := windowOf(subnet).at(uint64(r.IntN(256)))
			err := h.pool.AllocateSpecific(a, who)
			if e := (*ElsewhereError)(nil); errors.As(err, &e) && claim(i, a) {
				err = h.pool.AllocateSpecific(a, who)
			}
			if err == nil {
				got(a)
			}
		case op < 9:
			for a := range h.has {
				delete(h.has, a)
				h.pool.Release(a)
				break
			}
			for _, single := range h.pool.Idle() { // given back
				for o, other := range hosts {
					if other.granted[single.Addr()] == fmt.Sprint("host", i) && o != i {
						if !h.pool.RemoveBlock(single) {
							t.Fatal("an idle address could not be given back")
						}
						h.blocks = deleteOne(h.blocks, single)
						delete(other.granted, single.Addr())
						other.pool.Ungrant(single.Addr())
					}
				}
			}
		default:
			start(h)
		}
		if used, _ := h.pool.Count(); used != len(h.has) {
			t.Fatalf("step %d: %d used, want %d", step, used, len(h.has))
		}
	}
}

func deleteOne(ps []netip.Prefix, p netip.Prefix) []netip.Prefix {
	for i := range ps {
		if ps[i] == p {
			return append(ps[:i], ps[i+1:]...)
		}
	}
	return ps
}

func TestCountIn(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var b bitmap
	in := map[uint64]bool{}
	for range 3000 {
		off := r.Uint64N(4 * chunkBits)
		b.set(off)
		in[off] = true
	}
	for range 300 {
		from, to := r.Uint64N(4*chunkBits), r.Uint64N(5*chunkBits)
		want := uint64(0)
		for o := range in {
			if from <= o && o < to {
				want++
			}
		}
		if got := b.countIn(from, to); got != want {
			t.Fatalf("[%d, %d): %d, want %d", from, to, got, want)
		}
	}
	if got := b.countIn(0, 1<<63); got != uint64(len(in)) {
		t.Errorf("all: %d, want %d", got, len(in))
	}
}
