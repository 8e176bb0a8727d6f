package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"linkspan/cnm"
)

func prefix(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// clock is a clock that stands still until it is told.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newPool(t testing.TB, subnet, gateway, rng string, o Options) (*Pool, *clock) {
	t.Helper()
	c := &clock{time.Unix(1e9, 0)}
	if o.Now == nil {
		o.Now = func() time.Time { return c.now }
	}
	p, err := New(cnm.Pool{Subnet: prefix(subnet), Gateway: addr(gateway), Range: prefix(rng)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

func take(t testing.TB, p *Pool, want ...string) {
	t.Helper()
	for _, w := range want {
		got, err := p.Allocate("c")
		if err != nil {
			t.Fatalf("Allocate: %v, want %s", err, w)
		}
		if got.String() != w {
			t.Fatalf("Allocate = %s, want %s", got, w)
		}
	}
}

func TestDockerOrder(t *testing.T) {
	p, _ := newPool(t, "172.17.0.0/16", "172.17.0.1", "", Options{})
	take(t, p, "172.17.0.2", "172.17.0.3")
	if !p.Release(addr("172.17.0.3")) {
		t.Fatal("not released")
	}
	take(t, p, "172.17.0.4")
	if used, free := p.Count(); used != 2 || free != 65536-3-2 {
		t.Errorf("Count = %d, %d", used, free)
	}
}

func TestWhereAddressesComeFrom(t *testing.T) {
	for _, c := range []struct {
		subnet, gateway, rng string
		want                 string // all of them, in order
	}{
		{"10.0.0.0/29", "10.0.0.1", "", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{"10.0.0.0/29", "10.0.0.6", "", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5"},
		{"10.0.0.0/29", "", "", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"},
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.8/30", "10.0.0.8 10.0.0.9 10.0.0.10 10.0.0.11"},
		{"10.0.0.0/24", "10.0.0.9", "10.0.0.8/30", "10.0.0.8 10.0.0.10 10.0.0.11"},
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.252/30", "10.0.0.252 10.0.0.253 10.0.0.254"},
		{"10.0.0.0/30", "10.0.0.1", "", "10.0.0.2"},
		{"10.0.0.0/31", "", "", "10.0.0.0 10.0.0.1"},
		{"10.0.0.0/31", "10.0.0.0", "", "10.0.0.1"},
		{"10.0.0.7/32", "", "", "10.0.0.7"},
		{"255.255.255.248/29", "255.255.255.249", "", "255.255.255.250 255.255.255.251 255.255.255.252 255.255.255.253 255.255.255.254"},
		{"fd00::/126", "fd00::1", "", "fd00::2 fd00::3"},
		{"fd00::/127", "", "", "fd00:: fd00::1"},
		{"fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:fffe/127", "fd00::ffff:ffff:ffff:fffe fd00::ffff:ffff:ffff:ffff"},
	} {
		p, _ := newPool(t, c.subnet, c.gateway, c.rng, Options{})
		want := strings.Fields(c.want)
		if _, free := p.Count(); free != uint64(len(want)) {
			t.Errorf("%s %s %s: %d free, want %d", c.subnet, c.gateway, c.rng, free, len(want))
		}
		take(t, p, want...)
		if a, err := p.Allocate("c"); !errors.Is(err, cnm.ErrExhausted) {
			t.Errorf("%s: one too many: %s, %v", c.subnet, a, err)
		}
	}
}

func TestHugePools(t *testing.T) {
	for _, c := range []struct{ subnet, gateway, first, far string }{
		{"fd00::/64", "fd00::1", "fd00::2", "fd00::dead:beef:1:2"},
		{"fd00::/8", "fd00::1", "fd00::2", "fdff:ffff::1"},
		{"::/0", "", "::1", "ffff::"},
		{"10.0.0.0/8", "10.0.0.1", "10.0.0.2", "10.255.255.254"},
		{"0.0.0.0/0", "", "0.0.0.1", "200.1.2.3"},
	} {
		p, _ := newPool(t, c.subnet, c.gateway, "", Options{})
		take(t, p, c.first)
		for range 2 {
			if err := p.AllocateSpecific(addr(c.far), "far"); err != nil {
				t.Errorf("%s: %v", c.subnet, err)
			}
		}
		if h, _, ok := p.Holder(addr(c.far)); !ok || h != "far" {
			t.Errorf("%s: holder %q, %v", c.subnet, h, ok)
		}
		if !p.Release(addr(c.far)) || p.Release(addr(c.far)) {
			t.Errorf("%s: Release", c.subnet)
		}
	}
}

func TestGoesRound(t *testing.T) {
	p, c := newPool(t, "10.0.0.0/29", "10.0.0.1", "", Options{Rest: 10 * time.Second})
	take(t, p, "10.0.0.2", "10.0.0.3", "10.0.0.4")
	p.Release(addr("10.0.0.3"))
	c.pass(time.Second)
	p.Release(addr("10.0.0.2"))
	// First what was never used, then what rests longest, whatever its number.
	take(t, p, "10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2")

	// Rested long enough, the order is that of the round again.
	for _, a := range []string{"10.0.0.6", "10.0.0.4", "10.0.0.5"} {
		p.Release(addr(a))
	}
	c.pass(10 * time.Second)
	take(t, p, "10.0.0.4", "10.0.0.5", "10.0.0.6")

	// Asked for by name, an address does not wait for its rest, and then is not
	// handed out when its rest would have been over.
	p.Release(addr("10.0.0.2"))
	if err := p.AllocateSpecific(addr("10.0.0.2"), "static"); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Hour)
	if a, err := p.Allocate("c"); err == nil {
		t.Fatalf("%s was handed out twice", a)
	}
}

func TestNoRest(t *testing.T) {
	p, _ := newPool(t, "10.0.0.0/30", "10.0.0.1", "", Options{Rest: -1})
	for range 3 {
		take(t, p, "10.0.0.2")
		p.Release(addr("10.0.0.2"))
	}
}

func TestMarkUsed(t *testing.T) {
	p, _ := newPool(t, "10.0.0.0/24", "10.0.0.1", "", Options{})
	for _, a := range []string{"10.0.0.5", "10.0.0.2", "10.0.0.9"} {
		if err := p.MarkUsed(addr(a), "old "+a); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.MarkUsed(addr("10.0.0.5"), "old 10.0.0.5"); err != nil {
		t.Errorf("marking again: %v", err)
	}
	if err := p.MarkUsed(addr("10.0.0.5"), "other"); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("marking another's: %v", err)
	}
	take(t, p, "10.0.0.10")
}

func TestSpecificErrors(t *testing.T) {
	now := time.Unix(1e9, 0)
	p, err := New(cnm.Pool{
		Subnet: prefix("172.27.0.0/24"), Gateway: addr("172.27.0.1"),
		Aux: map[string]netip.Addr{"router": addr("172.27.0.9")},
	}, Options{
		Network: "shop", NetworkID: "4f1c", Now: func() time.Time { return now },
		Describe: func(h string) string { return "container " + h },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AllocateSpecific(addr("172.27.0.3"), "relay"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(12 * time.Second)
	for _, c := range []struct {
		addr  string
		class error
		want  string
	}{
		{"172.27.0.3", cnm.ErrConflict, "Address already in use: 172.27.0.3 on network shop is held by container relay (running, for 12 s); choose another address, or remove its holder"},
		{"::ffff:172.27.0.3", cnm.ErrConflict, "Address already in use: 172.27.0.3 on network shop is held by container relay (running, for 12 s); choose another address, or remove its holder"},
		{"172.27.0.1", cnm.ErrConflict, "Address already in use: 172.27.0.1 is the gateway of network shop; choose another address"},
		{"172.27.0.9", cnm.ErrConflict, "Address already in use: 172.27.0.9 is the auxiliary address router of network shop; choose another address"},
		{"172.27.0.0", cnm.ErrInvalid, "Invalid address 172.27.0.0: it is the network address of 172.27.0.0/24; choose another address"},
		{"172.27.0.255", cnm.ErrInvalid, "Invalid address 172.27.0.255: it is the broadcast address of 172.27.0.0/24; choose another address"},
		{"172.28.0.3", cnm.ErrInvalid, "Invalid address 172.28.0.3: It does not belong to any of this network's subnets; network shop has 172.27.0.0/24"},
		{"fd00::1", cnm.ErrInvalid, "Invalid address fd00::1: It does not belong to any of this network's subnets; network shop has 172.27.0.0/24"},
		{"", cnm.ErrInvalid, "Invalid address invalid IP: It does not belong to any of this network's subnets; network shop has 172.27.0.0/24"},
	} {
		if err := p.AllocateSpecific(addr(c.addr), "other"); !errors.Is(err, c.class) || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.addr, err, c.want)
		}
	}
	if used, _ := p.Count(); used != 1 {
		t.Errorf("%d used after errors", used)
	}
}

func TestExhausted(t *testing.T) {
	p, err := New(cnm.Pool{Subnet: prefix("10.9.0.0/30"), Gateway: addr("10.9.0.1")}, Options{Network: "bridge", NetworkID: "0123456789ab"})
	if err != nil {
		t.Fatal(err)
	}
	take(t, p, "10.9.0.2")
	_, err = p.Allocate("c")
	const want = "no available IPv4 addresses on this network's address pools: bridge (0123456789ab): " +
		"all of 10.9.0.0/30 are taken, 1 by containers; remove some that are not needed, or use a network with a larger subnet"
	if !errors.Is(err, cnm.ErrExhausted) || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	p.Release(addr("10.9.0.2"))
	take(t, p, "10.9.0.2")
}

func TestNewBad(t *testing.T) {
	for _, c := range []struct {
		pool cnm.Pool
		want string
	}{
		{cnm.Pool{}, "has no subnet"},
		{cnm.Pool{Subnet: prefix("10.0.0.1/24")}, "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"},
		{cnm.Pool{Subnet: netip.PrefixFrom(addr("::ffff:10.0.0.0"), 120)}, "write it as IPv4"},
		{cnm.Pool{Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.1.1")}, "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address; choose one of its addresses, like 10.0.0.1"},
		{cnm.Pool{Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.1.0/25")}, "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range"},
		{cnm.Pool{Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.0.0/16")}, "ip-range"},
		{cnm.Pool{Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.0.5/25")}, "ip-range"},
		{cnm.Pool{Subnet: prefix("10.0.0.0/24"), Aux: map[string]netip.Addr{"x": addr("10.0.1.1")}}, "auxiliary address x=10.0.1.1"},
	} {
		if _, err := New(c.pool, Options{}); !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.pool, err, c.want)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "less than a second", 12 * time.Second: "12 s", 5 * time.Minute: "5 min", 3 * time.Hour: "3 h", 72 * time.Hour: "3 days",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
}

// TestHistories runs random histories against the plainest model of a pool.
func TestHistories(t *testing.T) {
	for _, c := range []struct{ subnet, gateway, rng string }{
		{"10.0.0.0/28", "10.0.0.1", ""},
		{"10.0.0.0/27", "10.0.0.30", "10.0.0.8/29"},
		{"10.0.0.0/30", "10.0.0.1", ""},
		{"10.0.0.0/31", "", ""},
		{"fd00::/124", "fd00::1", ""},
		{"fd00::/64", "fd00::1", "fd00::f0/124"},
		{"10.0.0.0/19", "10.0.0.1", ""}, // more than one chunk
	} {
		for seed := range uint64(6) {
			r := rand.New(rand.NewPCG(seed, 1))
			steps := make([]byte, 4000)
			for i := range steps {
				steps[i] = byte(r.Uint32())
			}
			history(t, c.subnet, c.gateway, c.rng, steps)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte("aaaabbbbccccddddeeee\x00\x01\x02\x03\xff\xfe"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		history(t, "10.0.0.0/28", "10.0.0.1", "", steps)
		history(t, "fd00::/120", "fd00::1", "fd00::10/125", steps)
	})
}

func history(t *testing.T, subnet, gateway, rng string, steps []byte) {
	t.Helper()
	const rested = 100 * time.Second
	p, c := newPool(t, subnet, gateway, rng, Options{Rest: rested})
	dynamic := prefix(subnet)
	if rng != "" {
		dynamic = prefix(rng)
	}
	_, total := p.Count()
	held := map[netip.Addr]string{}
	var order []netip.Addr // what is held, oldest first
	released := map[netip.Addr]time.Time{}
	inRange := func() (n uint64) {
		for a := range held {
			if dynamic.Contains(a) {
				n++
			}
		}
		return n
	}
	give := func(a netip.Addr, holder string) {
		if h, ok := held[a]; ok && h != holder {
			t.Fatalf("%s was given to %s and %s", a, h, holder)
		}
		if _, ok := held[a]; !ok {
			order = append(order, a)
		}
		held[a] = holder
		delete(released, a)
	}
	for i, b := range steps {
		holder := fmt.Sprint("h", i)
		switch op, arg := b>>5, int(b&31); {
		case op < 4:
			a, err := p.Allocate(holder)
			if err != nil {
				if n := inRange(); n != total {
					t.Fatalf("step %d: exhausted with %d of %d in use", i, n, total)
				}
				break
			}
			if _, reserved := p.reserved[a]; reserved || !dynamic.Contains(a) {
				t.Fatalf("step %d: %s was given", i, a)
			}
			if at, ok := released[a]; ok && c.now.Sub(at) < rested {
				// Only because nothing else was free that was released earlier or never.
				if n := inRange() + uint64(len(released)); n != total {
					t.Fatalf("step %d: %s was given after %s, with %d others free", i, a, c.now.Sub(at), total-n)
				}
				for other, when := range released {
					if when.Before(at) {
						t.Fatalf("step %d: %s was given, %s rests longer", i, a, other)
					}
				}
			}
			give(a, holder)
		case op < 6 && len(order) > 0:
			k := arg % len(order)
			a := order[k]
			order = append(order[:k], order[k+1:]...)
			delete(held, a)
			if !p.Release(a) {
				t.Fatalf("step %d: %s was not held", i, a)
			}
			if p.Release(a) {
				t.Fatalf("step %d: %s was released twice", i, a)
			}
			if dynamic.Contains(a) {
				released[a] = c.now
			}
		case op == 6:
			a := windowOf(prefix(subnet)).at(uint64(arg))
			err := p.AllocateSpecific(a, holder)
			_, taken := held[a]
			_, reserved := p.reserved[a]
			if wantErr := taken || reserved || !prefix(subnet).Contains(a); wantErr != (err != nil) {
				t.Fatalf("step %d: %s: %v (taken %v, reserved %v)", i, a, err, taken, reserved)
			}
			if err == nil {
				give(a, holder)
			}
		default:
			c.pass(time.Duration(arg+1) * time.Second)
			for a, at := range released {
				if c.now.Sub(at) >= rested {
					delete(released, a)
				}
			}
		}
		if used, free := p.Count(); used != len(held) || free != total-inRange() {
			t.Fatalf("step %d: Count = %d, %d; want %d, %d", i, used, free, len(held), total-inRange())
		}
	}
}

func TestConcurrent(t *testing.T) {
	p, _ := newPool(t, "10.0.0.0/22", "10.0.0.1", "", Options{Rest: -1})
	var mu sync.Mutex
	held := map[netip.Addr]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				a, err := p.Allocate("c")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if held[a] {
					t.Errorf("%s was given twice", a)
				}
				held[a] = true
				mu.Unlock()
				mu.Lock()
				delete(held, a)
				mu.Unlock()
				p.Release(a)
			}
		})
	}
	wg.Wait()
}

// BenchmarkAllocate: the cost must not grow with how full the pool is.
func BenchmarkAllocate(b *testing.B) {
	for _, full := range []int{0, 1000, 65000} {
		b.Run(fmt.Sprint(full), func(b *testing.B) {
			p, _ := newPool(b, "172.17.0.0/16", "172.17.0.1", "", Options{Rest: -1})
			for range full {
				if _, err := p.Allocate("c"); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				a, err := p.Allocate("c")
				if err != nil {
					b.Fatal(err)
				}
				p.Release(a)
			}
		})
	}
}
