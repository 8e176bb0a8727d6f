package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
)

// TestGlobalHistories: hosts, containers, restarts, partitions, forgetting and coming
// back in any order. At no time does an address exist twice; when all is healed, every
// host knows exactly what there is, and its kernel holds exactly what is declared.
func TestGlobalHistories(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { globalHistory(t, rand.New(rand.NewPCG(uint64(seed), 9))) })
	}
}

type historian struct {
	t      *testing.T
	r      *rand.Rand
	x      *truth
	worlds []*world
	hosts  []*member
	nets   []string
	log    []string
}

func globalHistory(t *testing.T, r *rand.Rand) {
	h := &historian{t: t, r: r, x: newTruth()}
	for range 3 {
		w, m := h.x.enter(t)
		h.worlds, h.hosts = append(h.worlds, w), append(h.hosts, m)
	}
	for i, wish := range []NetworkWish{
		{Name: "over", Driver: "overlay", Pools: []cnm.Pool{{Subnet: pfx("192.168.0.0/24")}}},
		{Name: "flat", Driver: "routed", IPv6: truth2(true)},
		{Name: "secret", Driver: "overlay", Options: map[string]string{"encrypted": ""}},
	} {
		if _, _, err := h.worlds[i].CreateNetwork(t.Context(), wish); err != nil {
			t.Fatal(err)
		}
		h.nets = append(h.nets, wish.Name)
		h.x.settle()
	}
	for step := range 120 {
		h.step(step)
		h.unique()
		if t.Failed() {
			t.Fatalf("after\n%s", strings.Join(h.log, "\n"))
		}
	}
	h.heal()
	if t.Failed() {
		t.Fatalf("after\n%s", strings.Join(h.log, "\n"))
	}
}

func (h *historian) step(step int) {
	i := h.r.IntN(3)
	w, m := h.worlds[i], h.hosts[i]
	say := func(format string, args ...any) {
		h.log = append(h.log, fmt.Sprintf("%d host%d ", step, i+1)+fmt.Sprintf(format, args...))
	}
	bad := func(err error) {
		if err != nil && !errors.Is(err, cnm.ErrConflict) && !errors.Is(err, cnm.ErrUnavailable) && !errors.Is(err, cnm.ErrExhausted) && !errors.Is(err, cnm.ErrInvalid) {
			h.t.Errorf("%v", err)
		}
	}
	switch op := h.r.IntN(20); {
	case op < 8:
		r := on(fmt.Sprintf("c%d-%d", i, step), h.nets[h.r.IntN(3)])
		r.ContainerName = r.ContainerID
		r.Endpoints[0].Names = []string{r.ContainerID}
		if h.r.IntN(3) == 0 {
			r.Endpoints[0].Network, r.Endpoints[0].IPv4 = "over", netip.AddrFrom4([4]byte{192, 168, 0, byte(h.r.IntN(256))})
		}
		_, err := w.Join(h.t.Context(), r)
		say("join %s %s %s: %v", r.ContainerID, r.Endpoints[0].Network, r.Endpoints[0].IPv4, err)
		bad(err)
	case op < 13:
		if all := w.Sandboxes(); len(all) > 0 {
			s := all[h.r.IntN(len(all))]
			say("leave %s", s.Owner)
			bad(w.Leave(h.t.Context(), s.Owner, false))
		}
	case op < 14:
		if all := w.Sandboxes(); len(all) > 0 {
			s := all[h.r.IntN(len(all))]
			r := on(s.Owner, h.nets[0])
			r.ContainerName = s.Owner
			r.Endpoints[0].Names = []string{s.Owner, "alias"}
			r.Endpoints = append(r.Endpoints, EndpointWish{Network: h.nets[1], Number: 1, Names: []string{s.Owner}})
			err := w.Update(h.t.Context(), r)
			say("update %s: %v", s.Owner, err)
			bad(err)
		}
	case op < 15:
		say("restarts")
		h.x.settle()
		m.back(w)
	case op < 16:
		m.away.Store(!m.away.Load())
		say("away %v", m.away.Load())
		if !m.away.Load() {
			h.catchUp(m)
		}
	case op < 17:
		m.out.Store(!m.out.Load())
		say("out %v", m.out.Load())
		h.x.peers()
		if !m.out.Load() {
			h.catchUp(m)
		}
	case op < 18:
		m.mtu.Store([]int64{1500, 9000, 1400}[h.r.IntN(3)])
		m.secure.Store(h.r.IntN(2) == 0)
		m.routed.Store(h.r.IntN(2) == 0)
		say("mtu %d, secure %v, routed %v", m.mtu.Load(), m.secure.Load(), m.routed.Load())
		h.x.peers()
	case op < 19:
		m.dead.Store(!m.dead.Load())
		say("dead %v", m.dead.Load())
		h.x.peers()
	default:
		say("settled")
		h.x.settle()
		w.settled(h.t, "in between")
	}
}

// catchUp is what a mesh does when it is back.
func (h *historian) catchUp(m *member) {
	m.tell(func() { m.sink().Networks(h.t.Context(), h.x.all()) })
	m.tell(func() {
		m.mu.Lock()
		var nets []string
		for n := range m.follows {
			nets = append(nets, n)
		}
		m.mu.Unlock()
		for _, n := range nets {
			m.whole(n)
		}
	})
}

func (h *historian) unique() {
	seen := map[netip.Addr]string{}
	for i, w := range h.worlds {
		for _, s := range w.Sandboxes() {
			for _, e := range s.Endpoints {
				for _, a := range addresses(&e) {
					if n, err := w.Network(e.NetworkID); err != nil || !n.Global() {
						continue
					}
					if other, twice := seen[a]; twice {
						h.t.Errorf("%s is at %s and at %s on host%d", a, other, s.Owner, i+1)
					}
					seen[a] = fmt.Sprintf("%s on host%d", s.Owner, i+1)
				}
			}
		}
	}
}

func (h *historian) heal() {
	for _, m := range h.hosts {
		m.away.Store(false)
		m.out.Store(false)
		m.dead.Store(false)
		m.secure.Store(true)
	}
	h.x.peers()
	for _, m := range h.hosts {
		h.catchUp(m)
	}
	h.x.settle()
	for i, w := range h.worlds {
		w.settled(h.t, "healed", i+1)
		var want []string
		for _, name := range h.nets {
			n, err := w.Network(name)
			if err != nil {
				h.t.Errorf("%v", err)
				continue
			}
			if !w.used(n.ID) {
				continue
			}
			for _, o := range h.worlds {
				for _, s := range o.Sandboxes() {
					if e := endpointOn(s, n.ID); e != nil {
						want = append(want, fmt.Sprintf("%v = %v %v", e.Names, addresses(e), s.Exposed))
					}
				}
			}
		}
		slices.Sort(want)
		if got := w.knows(); !slices.Equal(got, want) {
			h.t.Errorf("host%d knows\n%s\nthere is\n%s", i+1, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for i, w := range h.worlds {
		for _, s := range w.Sandboxes() {
			if err := w.Leave(h.t.Context(), s.Owner, false); err != nil {
				h.t.Errorf("%v", err)
			}
		}
		h.x.settle()
		w.settled(h.t, "all gone", i+1)
		if got := w.knows(); len(got) > 0 {
			h.t.Errorf("host%d knows %v", i+1, got)
		}
	}
}
