package mesh

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/store"
	"linkspan/store/mem"
)

// counting is a way to the store that counts commits that write endpoints.
type counting struct {
	*mem.View
	mu      sync.Mutex
	commits []int          // operations of each
	takes   time.Duration  // of a commit
	keys    map[string]int // how often each was written
}

func (c *counting) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	time.Sleep(c.takes)
	rev, err := c.View.Commit(ctx, ops...)
	c.mu.Lock()
	defer c.mu.Unlock()
	writes := false
	for _, op := range ops {
		if strings.HasPrefix(op.Key, endpointKeys) && err == nil {
			writes = true
			c.keys[op.Key]++
		}
	}
	if writes {
		c.commits = append(c.commits, len(ops))
	}
	return rev, err
}

func (c *counting) reset() (commits []int, keys map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	commits, keys = c.commits, c.keys
	c.commits, c.keys = nil, map[string]int{}
	return commits, keys
}

func remoteN(i, version int) cnm.Remote {
	return cnm.Remote{ID: fmt.Sprintf("e%d", i), Container: fmt.Sprint(i), Names: []string{fmt.Sprintf("v%d", version)},
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 16)}}
}

// What changes is written at once when nothing is on its way, and together when
// something is; what changed often while the store was away is written once.
func TestBatches(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := &counting{keys: map[string]int{}}
		a := w.join("host1", func(cfg *Config) {
			c.View = cfg.Store.(*mem.View)
			cfg.Store = c
		})
		b := w.join("host2")
		net := a.create("shop", "10.1.0.0/16")
		w.settle()
		b.mustRun(net, "b1", "")
		w.settle()
		c.takes = 10 * time.Millisecond

		began := time.Now()
		a.Publish(net, remoteN(0, 0))
		for b.ctl.view(net.ID) == "" {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 11*time.Millisecond {
			t.Errorf("one change took %s; a commit takes 10 ms", took)
		}
		c.reset()

		// One by one, faster than commits: the first alone, then what came meanwhile.
		for i := range 100 {
			a.Publish(net, remoteN(i, 1))
			time.Sleep(time.Millisecond)
		}
		w.settle()
		if commits, _ := c.reset(); len(commits) < 9 || len(commits) > 12 {
			t.Errorf("100 changes in 100 ms were %d commits of %v; a commit takes 10 ms", len(commits), commits)
		}

		// Cut off, everything changes five times; some come and go.
		a.view.Cut(false)
		time.Sleep(time.Second)
		for v := range 5 {
			for i := range 500 {
				a.Publish(net, remoteN(i, v+2))
			}
		}
		for i := 400; i < 450; i++ {
			a.Withdraw(net.ID, fmt.Sprintf("e%d", i))
		}
		time.Sleep(time.Minute)
		c.reset()
		a.view.Heal()
		w.settle()
		commits, keys := c.reset()
		if len(commits) != 5 {
			t.Errorf("500 keys were %d commits of %v", len(commits), commits)
		}
		for _, n := range commits {
			if n > 128 {
				t.Errorf("a commit of %d operations", n)
			}
		}
		for key, n := range keys {
			if n != 1 {
				t.Errorf("%s was written %d times", key, n)
			}
		}
		if n := len(b.ctl.remotes[net.ID]); n != 450 {
			t.Errorf("host2 knows %d", n)
		}
		if got := b.ctl.remotes[net.ID]["e7"].Names; len(got) != 1 || got[0] != "v6" {
			t.Errorf("e7 is %v", got)
		}
		// The same again is no change.
		a.Publish(net, remoteN(7, 6))
		w.settle()
		if commits, _ := c.reset(); len(commits) != 0 {
			t.Errorf("nothing changed, and %v was written", commits)
		}
	})
}

// Only those who are on a network hear of it.
func TestOnlyThoseWhoCare(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join("host1"), w.join("host2"), w.join("host3")
		net := a.create("shop", "10.1.0.0/16")
		w.settle()
		b.mustRun(net, "b1", "")
		w.settle()
		heard := c.ctl.heard
		addr := a.mustRun(net, "a1", "")
		synctest.Wait()
		if c.ctl.heard != heard {
			t.Errorf("host3 heard %d things of a network that it is not on", c.ctl.heard-heard)
		}
		wholes := b.ctl.wholes
		for i := range 20 {
			a.mustRun(net, fmt.Sprint("x", i), "")
		}
		synctest.Wait()
		if b.ctl.wholes != wholes {
			t.Error("a change was told as a whole")
		}
		// Off the network, and on again: what changed meanwhile is there.
		x := b.ctl.addrs(net.ID)[0]
		b.ctl.stop(net, x)
		w.settle()
		a.ctl.stop(net, addr)
		w.settle()
		if got, _ := b.Recall(net.ID); len(got.Came) != 0 || !got.Whole {
			t.Errorf("host2 remembers what it does not follow: %+v", got)
		}
		b.mustRun(net, "b2", "")
		w.settle()
		if got := len(b.ctl.remotes[net.ID]); got != 20 {
			t.Errorf("host2 knows %d endpoints, want 20", got)
		}
	})
}

// Watches that end because the store forgot what they had not read are begun anew.
func TestCompacted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		net := a.create("shop", "10.1.0.0/16")
		w.settle()
		b.mustRun(net, "b1", "")
		w.settle()
		b.view.Cut(false)
		for i := range 600 { // the store remembers 256 events
			a.Publish(net, remoteN(i, i))
			a.Publish(net, remoteN(i%10, i))
			synctest.Wait()
		}
		b.view.Heal()
		w.settle()
		if got := len(b.ctl.remotes[net.ID]); got != 600 {
			t.Errorf("host2 knows %d endpoints, want 600", got)
		}
	})
}

// What the kernel knows of the ways, and of this host's end, is passed on.
func TestWays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		way := Way{Dev: "eth0", OnLink: true, MTU: 9000}
		a := w.join("host1", func(c *Config) { c.Way = func(netip.Addr) Way { return way } })
		w.join("host2")
		synctest.Wait()
		if p := a.Peers()[0]; p.MTU != 9000 || !p.OnLink {
			t.Errorf("%+v", p)
		}
		hosts := 0
		a.OnHosts(func() { hosts++ })
		heard := a.ctl.heard
		way = Way{Dev: "eth1", MTU: 1400}
		a.Refresh()
		a.SetPlace(Place{Dev: "eth1", MTU: 1500, PathMTU: 1400, Secure: "ls-w", SecureMTU: 1320, SoftChecksums: true})
		synctest.Wait()
		if p := a.Peers()[0]; p.MTU != 1400 || p.OnLink || p.Dev != "eth1" {
			t.Errorf("%+v", p)
		}
		u := a.Underlay()
		if u.PathMTU != 1400 || u.Secure != "ls-w" || u.SecureMTU != 1320 || !u.SoftChecksums || u.SecureAddr != SecureAddr(a.Record().Secure, 1) {
			t.Errorf("%+v", u)
		}
		if a.ctl.heard == heard || hosts == 0 {
			t.Error("nobody was told")
		}
		if err := a.SetRole(t.Context(), w.hosts[1].h.ID, "member"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if h := a.Hosts(); len(h) != 2 || h[1].Role != "member" || !h[0].Self || !h[1].Alive {
			t.Errorf("%+v", h)
		}
	})
}
