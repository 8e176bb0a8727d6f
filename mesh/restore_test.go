package mesh

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/mem"
)

// movable is a way to a store in whose place another can come, as after a restore.
type movable struct {
	mu sync.Mutex
	*mem.View
}

func (s *movable) now() *mem.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.View
}

func (s *movable) move(v *mem.View) {
	s.mu.Lock()
	old := s.View
	s.View = v
	s.mu.Unlock()
	old.Cut(false)
}

func (s *movable) Get(ctx context.Context, key string) (store.Entry, bool, error) {
	return s.now().Get(ctx, key)
}

func (s *movable) List(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	return s.now().List(ctx, prefix)
}

func (s *movable) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	return s.now().Commit(ctx, ops...)
}

func (s *movable) Watch(ctx context.Context, prefix string, rev int64) (<-chan store.Event, error) {
	return s.now().Watch(ctx, prefix, rev)
}

func (s *movable) Hold(ctx context.Context, op store.Op, ttl time.Duration) (<-chan struct{}, error) {
	return s.now().Hold(ctx, op, ttl)
}

// backup is a store with what another has now, liveness apart.
func backup(t *testing.T, s *mem.Store) *mem.Store {
	out := mem.New(mem.Options{})
	all, _, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var ops []store.Op
	for _, e := range all {
		if !strings.HasPrefix(e.Key, aliveKeys) {
			ops = append(ops, store.Op{Key: e.Key, Value: e.Value})
		}
	}
	if _, err := out.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	return out
}

// A restore from an old backup: every host puts back what is its own, be it told (the
// generation) or by the revision that went back; nobody's remote endpoints go meanwhile.
func TestRestore(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "found out": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				ways := map[string]*movable{}
				join := func(name string) *node {
					return w.join(name, func(c *Config) {
						s := ways[name]
						if s == nil {
							s = &movable{View: c.Store.(*mem.View)}
							ways[name] = s
						}
						c.Store = s
					})
				}
				a, b := join("host1"), join("host2")
				old := a.create("old", "10.1.0.0/24")
				synctest.Wait()
				a.mustRun(old, "a1", "10.1.0.2")
				w.settle()
				restored := backup(t, w.common)
				// After the backup: a network, a block, a borrowed address, a whole host.
				c := join("host3")
				young := b.create("young", "10.2.0.0/24")
				synctest.Wait()
				b.mustRun(old, "b1", "")
				b.mustRun(old, "b2", "10.1.0.3") // of host1's block
				c.mustRun(young, "c1", "")
				a.mustRun(young, "a2", "")
				c.mustRun(old, "c2", "")
				w.settle()
				before := map[string]string{}
				for _, n := range w.hosts {
					before[n.h.Name] = n.ctl.view(old.ID) + "\n" + n.ctl.view(young.ID)
				}
				wasKeys := w.keys("")
				var lost atomic.Bool
				for _, n := range w.hosts {
					n.ctl.watching = func(ch cnm.RemoteChange) {
						if len(ch.Gone) > 0 || len(ch.FreeBlocks) > 0 {
							lost.Store(true)
						}
					}
				}

				w.common.Close()
				w.common = restored
				if told {
					if err := Restored(t.Context(), restored); err != nil {
						t.Fatal(err)
					}
				}
				for _, n := range w.hosts {
					n.view = restored.View()
					ways[n.h.Name].move(n.view)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				for _, n := range w.hosts {
					if got := n.ctl.view(old.ID) + "\n" + n.ctl.view(young.ID); got != before[n.h.Name] {
						t.Errorf("%s knows\n%s\nit knew\n%s", n.h.Name, got, before[n.h.Name])
					}
					if s := n.Status(); !s.Reachable || s.Queue != 0 || s.Fenced != "" || len(s.Stuck) > 0 {
						t.Errorf("%s: %+v", n.h.Name, s)
					}
				}
				if got := w.keys(""); !slices.Equal(got, wasKeys) {
					t.Errorf("in the store there is\n%s\nthere was\n%s", strings.Join(got, "\n"), strings.Join(wasKeys, "\n"))
				}
				if lost.Load() {
					t.Error("something was taken away meanwhile")
				}
				a.mustRun(old, "a9", "")
				if _, err := a.Claim(t.Context(), old, old.Pools[0].Subnet, netip.Addr{}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A network that was removed while a host that is cut off came to it is put back.
func TestRevive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		net := a.create("shop", "10.1.0.0/24")
		taken := a.create("bar", "10.2.0.0/24")
		synctest.Wait()
		for _, n := range []*cnm.Network{net, taken} {
			x := b.mustRun(n, "b-"+n.Name, "") // so that it has a block
			w.settle()
			b.ctl.stop(n, x)
		}
		w.settle()
		b.view.Cut(false)
		b.mustRun(net, "b1", "")
		b.mustRun(taken, "b2", "")
		w.settle()
		for _, n := range []*cnm.Network{net, taken} {
			if err := a.Remove(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		again := a.create("bar", "10.3.0.0/24")
		w.settle()
		b.view.Heal()
		w.settle()
		if a.ctl.networks[net.ID] == nil || b.ctl.networks[net.ID] == nil || a.ctl.networks[again.ID] == nil {
			t.Errorf("host1 knows %v", a.ctl.networks)
		}
		a.mustRun(net, "a1", "")
		w.settle()
		if got := a.ctl.view(net.ID); !strings.Contains(got, "e-b1") {
			t.Errorf("host1 knows:\n%s", got)
		}
		// The other's name was given away: said, and kept on its host.
		if s := b.Status(); !strings.Contains(s.Stuck[taken.ID], "the name bar is taken by network bar") || s.Queue == 0 {
			t.Errorf("status %+v", s)
		}
		if b.ctl.networks[taken.ID] == nil {
			t.Error("a network with endpoints here is not told of any more")
		}
		if err := a.Remove(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Minute) // the next comparison
		synctest.Wait()
		if s := b.Status(); len(s.Stuck) > 0 || s.Queue != 0 {
			t.Errorf("status %+v", s)
		}
		if a.ctl.networks[taken.ID] == nil {
			t.Error("bar is not put back")
		}
	})
}

// A store that is not this mesh's is not believed, least of all that we are not in it.
func TestForeignStore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var way *movable
		a := w.join("host1")
		b := w.join("host2", func(c *Config) {
			if way == nil {
				way = &movable{View: c.Store.(*mem.View)}
			}
			c.Store = way
		})
		net := a.create("shop", "10.1.0.0/24")
		synctest.Wait()
		b.mustRun(net, "b1", "")
		a.mustRun(net, "a1", "")
		w.settle()
		for name, fill := range map[string]func(*mem.Store){
			"holds no mesh": func(*mem.Store) {},
			"is that of mesh other": func(s *mem.Store) {
				if _, err := Found(t.Context(), s, "", "other"); err != nil {
					t.Fatal(err)
				}
			},
		} {
			other := mem.New(mem.Options{})
			fill(other)
			was := way.now()
			v := other.View()
			way.move(v)
			w.settle()
			if s := b.Status(); s.Fenced != "" || s.Reachable || s.Err == nil || !strings.Contains(s.Err.Error(), name) {
				t.Errorf("%s: status %+v", name, s)
			}
			if len(b.Peers()) != 1 || b.ctl.view(net.ID) != "e-a1 [10.1.0.16/24] on host1" || b.Underlay() == nil {
				t.Errorf("%s: it was believed: %v, %q", name, b.Peers(), b.ctl.view(net.ID))
			}
			if all, _, _ := other.List(t.Context(), ""); len(all) > 3 {
				t.Errorf("%s: written to: %d keys", name, len(all))
			}
			says(t, b.Create(t.Context(), &cnm.Network{Name: "x", Pools: []cnm.Pool{{}}}, nil, nil), cnm.ErrUnavailable, name)
			was.Heal()
			way.move(was)
			was.Heal()
			w.settle()
			if s := b.Status(); !s.Reachable || s.Fenced != "" {
				t.Errorf("back: %+v", s)
			}
			v.Close()
			other.Close()
		}
	})
}
