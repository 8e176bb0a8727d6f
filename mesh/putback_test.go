package mesh

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/mem"
)

// TestRemovedWhileCutOff: two hosts that are cut off start containers on a network, from
// blocks that they have, and it is removed meanwhile. The first one back puts it back; the
// other's block is still the other's. (TestHistories, seed 3079197245560061027, with
// -mesh.steps=160.)
func TestRemovedWhileCutOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join("host1"), w.join("host2"), w.join("host3")
		net := a.create("shop", "10.1.0.0/24")
		w.settle()
		had := b.mustRun(net, "b1", "")
		lent := netip.MustParseAddr("10.1.0.10") // of a's
		a.mustRun(net, "a1", "10.1.0.9")
		c.mustRun(net, "c1", "")
		c.mustRun(net, "c2", lent.String())
		w.settle()
		b.ctl.stop(net, had)
		a.ctl.stop(net, netip.MustParseAddr("10.1.0.9"))
		for _, addr := range c.ctl.addrs(net.ID) {
			if addr != lent {
				c.ctl.stop(net, addr)
			}
		}
		w.settle()
		b.view.Cut(false)
		c.view.Cut(false)
		held := b.mustRun(net, "b2", "") // of its own block, asking nobody
		w.settle()
		// c alone is known to be there: as if it had left in time.
		for _, k := range w.keys(presentKeys) {
			if _, err := w.common.Commit(t.Context(), store.Op{Key: k}); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Remove(t.Context(), net); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if b := a.Blocks(net.ID); len(b) > 0 {
			t.Errorf("of a network that is no more there are %v", b)
		}
		for _, k := range w.keys(blockKeys) {
			if e, _, _ := w.common.Get(t.Context(), k); string(e.Value) == a.h.ID {
				t.Errorf("who knows that it is no more keeps %s", k)
			}
		}
		c.view.Heal()
		w.settle()
		if a.ctl.networks[net.ID] == nil {
			t.Fatal("the network was not put back")
		}
		var got []netip.Addr
		for range 100 {
			addr, err := a.ctl.run(t.Context(), a.ctl.networks[net.ID], "a"+string(rune('a'+len(got)%26))+time.Now().Format("150405.000000000"), netip.Addr{})
			if err != nil {
				break
			}
			got = append(got, addr)
		}
		if len(got) < 50 {
			t.Errorf("only %d addresses could be had", len(got))
		}
		if slices.Contains(got, held) || slices.Contains(got, lent) {
			t.Errorf("%s or %s is had twice", held, lent)
		}
		b.view.Heal()
		w.settle()
		if addrs := b.ctl.addrs(net.ID); !slices.Equal(addrs, []netip.Addr{held}) || len(b.Status().Stuck) > 0 {
			t.Errorf("host2 has %v, stuck %v", addrs, b.Status().Stuck)
		}
		all := map[netip.Prefix]string{}
		for _, n := range w.hosts {
			for _, x := range n.Blocks(net.ID) {
				for p, other := range all {
					if p.Overlaps(x.Prefix) && !p.IsSingleIP() && !x.Prefix.IsSingleIP() {
						t.Errorf("%s of %s and %s of %s", x.Prefix, n.h.Name, p, other)
					}
				}
				all[x.Prefix] = n.h.Name
			}
		}
	})
}

// TestGivenBack: a host that was away while a network went gives its blocks of it back
// when it learns of that, after a restart as well; of one that is forgotten they go.
func TestGivenBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c, d := w.join("host1"), w.join("host2"), w.join("host3"), w.join("host4")
		net := a.create("shop", "10.1.0.0/24")
		w.settle()
		for _, n := range []*node{a, b, c, d} {
			x := n.mustRun(net, n.h.Name, "")
			n.ctl.stop(net, x)
		}
		w.settle()
		b.view.Cut(false)
		c.crash()
		d.crash()
		time.Sleep(time.Minute)
		if err := a.Remove(t.Context(), net); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if k := w.keys(blockKeys); len(k) != 3 {
			t.Errorf("blocks: %q", k)
		}
		b.view.Heal()
		c.start()
		if err := a.Forget(t.Context(), "host4", false); err != nil {
			t.Fatal(err)
		}
		w.settle()
		for _, prefix := range []string{blockKeys, askKeys, presentKeys, memberKeys, sweepKeys, endpointKeys} {
			if k := w.keys(prefix); len(k) > 0 {
				t.Errorf("left: %q", k)
			}
		}
		for _, n := range []*node{a, b, c} {
			if x := n.Blocks(net.ID); len(x) > 0 {
				t.Errorf("%s has %v", n.h.Name, x)
			}
		}
	})
}

// slow is a way to the store whose answers take long, for who reads which hosts are
// present longer than for who writes.
type slow struct {
	*mem.View
	on atomic.Bool
}

func (s *slow) Get(ctx context.Context, key string) (store.Entry, bool, error) {
	e, ok, err := s.View.Get(ctx, key)
	if s.on.Load() && strings.HasPrefix(key, presentKeys) {
		time.Sleep(50 * time.Millisecond)
	}
	return e, ok, err
}

func (s *slow) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	rev, err := s.View.Commit(ctx, ops...)
	if s.on.Load() {
		time.Sleep(20 * time.Millisecond)
	}
	return rev, err
}

// TestPresenceReadLate: an audit reads that this host is present on a network; before it
// says so the last container there ends, and one more is about to come. That one makes
// the host present again: nobody removes the network below it.
func TestPresenceReadLate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var way *slow
		a := w.join("host1", func(c *Config) {
			way = &slow{View: c.Store.(*mem.View)}
			c.Store = way
		})
		b := w.join("host2")
		net := a.create("shop", "10.1.0.0/24")
		w.settle()
		addr := a.mustRun(net, "a1", "")
		w.settle()
		way.on.Store(true)
		a.mu.Lock()
		a.auditAll = true
		a.checkBell.ring()
		a.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		a.ctl.stop(net, addr)
		time.Sleep(10 * time.Millisecond) // written, and the answer is on its way
		if k := w.keys(presentKeys); len(k) > 0 {
			t.Fatalf("the test is none: %q", k)
		}
		a.Follow(net)
		time.Sleep(40 * time.Millisecond) // the audit has its answer
		a.mustRun(net, "a2", "")
		w.settle()
		if k := w.keys(presentKeys); len(k) != 1 {
			t.Errorf("present: %q", k)
		}
		says(t, b.Remove(t.Context(), net), cnm.ErrConflict, "a2", "host1")
	})
}
