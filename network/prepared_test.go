package network

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"linkspan/dataplane"
)

// TestPrepared: what was planned before a repair had the world to itself counts as long as
// it is what is declared, and no longer.
func TestPrepared(t *testing.T) {
	for _, c := range []struct {
		name  string
		then  func(a, b *world, ma, mb *member, x *truth)
		stale bool
	}{
		{"nothing", func(*world, *world, *member, *member, *truth) {}, false},
		{"a container here", func(a, _ *world, _, _ *member, _ *truth) { a.join(named("c2")) }, false},
		{"a container elsewhere", func(_, b *world, _, _ *member, _ *truth) { b.join(named("c4")) }, true},
		{"the end of one", func(_, b *world, _, _ *member, _ *truth) { b.leave("c3", false) }, true},
		{"another way to a peer", func(_, _ *world, _, mb *member, x *truth) { mb.routed.Store(true); x.peers() }, true},
		{"another MTU here", func(_, _ *world, ma, _ *member, x *truth) { ma.mtu.Store(1400); x.peers() }, true},
		{"out of the mesh", func(_, _ *world, ma, _ *member, x *truth) { ma.out.Store(true); x.peers() }, true},
		{"off the network, and on again", func(a, _ *world, _, _ *member, x *truth) {
			a.leave("c1", false)
			x.settle()
			a.join(named("c1"))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newTruth()
			observed := func(w *world) { w.cfg.ObserveTouched = w.kernel.ObserveTouched }
			a, ma := x.enter(t, observed)
			b, mb := x.enter(t)
			n := shop(t, a)
			x.settle()
			a.join(named("c1"))
			b.join(named("c3"))
			x.settle()
			ready := a.prepare(t.Context())
			if len(ready[n.ID].objs) == 0 {
				t.Fatal("nothing is elsewhere")
			}
			c.then(a, b, ma, mb, x)
			x.settle()
			if now := a.prepare(t.Context()); (now[n.ID].of != ready[n.ID].of) != c.stale {
				t.Errorf("stale: %v", !c.stale)
			}

			whole := a.things()
			touch := dataplane.Touch{Page: true, Links: map[string]bool{}}
			for _, o := range a.kernel.State().All() {
				for link := range dataplane.TouchOf(o).Links {
					touch.Links[link] = true
				}
				if _, ours := o.(dataplane.FDB); ours {
					a.kernel.Lose(o.Key())
				}
			}
			done, again, err := a.mendThere(t.Context(), touch, true, ready)
			if err != nil || again || a.things() != whole {
				t.Errorf("%v, again %v, by %d ops\n%s\nwas\n%s", err, again, len(done), a.things(), whole)
			}
			a.settled(t, c.name)
		})
	}
}

// TestScope: what is declared where the news is, and of one key the latest.
func TestScope(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	link := func() string { return fmt.Sprint("l", r.IntN(4)) }
	for range 300 {
		var objs []dataplane.Object
		for range r.IntN(30) {
			switch r.IntN(5) {
			case 0:
				objs = append(objs, dataplane.Route{Dst: pfx(fmt.Sprintf("10.%d.0.0/16", r.IntN(3))), Link: link()})
			case 1:
				objs = append(objs, dataplane.FDB{Dev: link(), MAC: "02:00:00:00:00:01", Dst: ip(fmt.Sprint("10.9.0.", r.IntN(3)))})
			case 2:
				objs = append(objs, dataplane.Veth{Name: link(), Master: link(), PeerNS: "/ns", PeerName: "eth0"})
			case 3:
				objs = append(objs, dataplane.Up{NS: "/ns", Link: "eth0"}, dataplane.Sysctl{NS: "/ns", Name: "net/ipv4/ip_forward", Value: "1"})
			case 4:
				objs = append(objs, dataplane.Route{Dst: pfx("10.0.0.0/16"), Unreachable: true})
			}
		}
		touch := func() dataplane.Touch { return dataplane.Touch{Links: map[string]bool{"l0": true}, Routes: true} }
		t1, t2 := touch(), touch()
		got := scope(&t1, objs)
		// The plain way: of all that is declared, what is there.
		want := scope(&t2, dataplane.NewState(objs...).All())
		text := func(objs []dataplane.Object) (out []string) {
			for _, o := range objs {
				out = append(out, o.Key()+": "+o.Spec())
			}
			return out
		}
		if !slices.Equal(text(got), text(want)) {
			t.Fatalf("%q\nis narrowed to\n%q\nand should be\n%q", text(objs), text(got), text(want))
		}
	}
}

// BenchmarkRepairBeside: what a repair takes of the world's time on a host that knows of
// many endpoints elsewhere, when what is broken is none of them.
func BenchmarkRepairBeside(b *testing.B) {
	a, _, _ := crowd(b, 10000)
	a.Controller.cfg.ObserveTouched = a.kernel.ObserveTouched
	for _, early := range []bool{false, true} {
		b.Run(fmt.Sprint("prepared=", early), func(b *testing.B) {
			for b.Loop() {
				var ready prepared
				if early {
					b.StopTimer()
					ready = a.prepare(context.Background())
					b.StartTimer()
				}
				if _, _, err := a.mendThere(context.Background(), dataplane.Touch{Links: map[string]bool{"docker0": true}}, true, ready); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
