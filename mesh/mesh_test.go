package mesh

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/store"
)

// says holds an error to its class and to the words that a person needs.
func says(t testing.TB, err, class error, words ...string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Errorf("class: %v, want %v", err, class)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestTwoHosts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		net := a.create("shop", "192.168.0.0/16")
		synctest.Wait()
		if got := b.ctl.networks[net.ID]; got == nil || got.VNIs[0] != firstVNI || got.Pools[0].Gateway.String() != "192.168.0.1" || !got.Global() {
			t.Fatalf("host2 knows %+v", got)
		}
		if got := a.mustRun(net, "c1", "192.168.1.1"); got.String() != "192.168.1.1" {
			t.Errorf("c1 has %s", got)
		}
		if got := b.mustRun(net, "c3", "192.168.2.1"); got.String() != "192.168.2.1" {
			t.Errorf("c3 has %s", got)
		}
		began := time.Now()
		a.mustRun(net, "c2", "")
		synctest.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("a change took %s to arrive: nothing may wait when all are idle", took)
		}
		if got, want := b.ctl.view(net.ID), "e-c1 [192.168.1.1/16] on host1\ne-c2 [192.168.1.0/16] on host1"; got != want {
			t.Errorf("host2 knows:\n%s\nwant:\n%s", got, want)
		}
		if got, want := a.ctl.view(net.ID), "e-c3 [192.168.2.1/16] on host2"; got != want {
			t.Errorf("host1 knows:\n%s\nwant:\n%s", got, want)
		}
		if p := a.Peers(); len(p) != 1 || p[0].Name != "host2" || !p[0].Alive || !p[0].OnLink || p[0].MTU != 1500 || p[0].MAC != VTEP(b.h.ID) || p[0].SecureAddr.IsValid() {
			t.Errorf("peers of host1: %+v", p)
		}
		b.SetKey("a key")
		synctest.Wait()
		if p := a.Peers(); p[0].SecureAddr != SecureAddr(a.Record().Secure, 2) {
			t.Errorf("peers of host1: %+v", p)
		}
		if u := a.Underlay(); u == nil || u.VXLANPort != 4789 || u.RoutedVNI != routedVNI || u.Dev != "eth0" {
			t.Errorf("underlay %+v", u)
		}

		says(t, a.Remove(t.Context(), net), cnm.ErrConflict, "network shop", "c3 on host host2", "c1, c2 on host host1")
		for _, x := range []*node{a, b} {
			for _, addr := range x.ctl.addrs(net.ID) {
				x.ctl.stop(net, addr)
			}
		}
		synctest.Wait()
		if err := b.Remove(t.Context(), net); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(a.ctl.networks) + len(b.ctl.networks); n != 0 {
			t.Errorf("%d networks are left", n)
		}
		for _, prefix := range []string{networkKeys, netNameKeys, blockKeys, endpointKeys, presentKeys, memberKeys, sweepKeys, askKeys} {
			if k := w.keys(prefix); len(k) > 0 {
				t.Errorf("left in the store: %q", k)
			}
		}
		if k := w.keys(vniKeys); len(k) != 1 {
			t.Errorf("VNIs: %q", k)
		}
		if got := a.Blocks(net.ID); len(got) != 0 {
			t.Errorf("blocks of a removed network: %v", got)
		}
		again := a.create("shop", "192.168.0.0/16")
		if again.VNIs[0] != firstVNI+1 {
			t.Errorf("VNI %#x was given again at once", again.VNIs[0])
		}
	})
}

// TestRestartedRecord: of a daemon that restarts the others see nothing. While a host has no
// key published, they would drop what they encrypt for it.
func TestRestartedRecord(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		b.SetKey("a key")
		used := []Used{{Prefix: netip.MustParsePrefix("10.77.0.0/16"), What: "eth1"}}
		b.SetPrefixes(used)
		w.settle()
		record := func() store.Entry {
			e, ok, err := w.common.Get(t.Context(), hostKeys+b.h.ID)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			return e
		}
		was := record()
		if h, _ := decode[Host](was.Value); h.Key != "a key" || len(h.Prefixes) != 1 {
			t.Fatalf("published: %+v", h)
		}
		b.crash()
		// What it begins with is planned at once: not as if all were behind a router.
		first, err := New(Config{Store: b.view, Local: b.local, Self: b.h, Log: w.log, Way: func(netip.Addr) Way { return Way{Dev: "eth0", OnLink: true, MTU: 1500} }})
		if err != nil {
			t.Fatal(err)
		}
		if p := first.Peers(); len(p) != 1 || !p[0].OnLink || p[0].Dev != "eth0" {
			t.Errorf("peers of a host that starts: %+v", p)
		}
		b.start()
		w.settle()
		if now := record(); now.Rev != was.Rev {
			t.Errorf("its record was written: %s", now.Value)
		}
		b.SetKey("a key")
		b.SetPrefixes(used)
		w.settle()
		if now := record(); now.Rev != was.Rev {
			t.Errorf("told the same, it wrote its record: %s", now.Value)
		}
		b.SetKey("another")
		b.SetPrefixes(nil)
		w.settle()
		if h, _ := decode[Host](record().Value); h.Key != "another" || len(h.Prefixes) != 0 {
			t.Errorf("told another, it has %+v", h)
		}
		if p := a.Peers(); len(p) != 1 || !p[0].SecureAddr.IsValid() {
			t.Errorf("peers of host1: %+v", p)
		}
	})
}

// An address of another host's block is asked of that host.
func TestAsk(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b, c := w.join("host1"), w.join("host2"), w.join("host3")
		net := a.create("shop", "192.168.0.0/16")
		synctest.Wait()
		a.mustRun(net, "c1", "192.168.1.1")
		b.mustRun(net, "c2", "192.168.1.2") // in host1's block
		if got := b.Blocks(net.ID); len(got) != 1 || got[0].Prefix.String() != "192.168.1.2/32" {
			t.Errorf("blocks of host2: %v", got)
		}
		_, err := b.ctl.run(t.Context(), net, "c", netip.MustParseAddr("192.168.1.1"))
		says(t, err, cnm.ErrConflict, "192.168.1.1", "container c1", "host1")
		_, err = c.ctl.run(t.Context(), net, "c", netip.MustParseAddr("192.168.1.2"))
		says(t, err, cnm.ErrConflict, "192.168.1.2", "host2")
		_, err = a.ctl.run(t.Context(), net, "c", netip.MustParseAddr("192.168.1.2"))
		says(t, err, cnm.ErrConflict, "192.168.1.2")
		if got := a.Granted(net.ID)[netip.MustParseAddr("192.168.1.2")]; got != "host2" {
			t.Errorf("granted to %q", got)
		}
		// The owner is restarted without the store: the address stays away from it.
		a.crash()
		a.view.Cut(false)
		a.start()
		if got := a.ctl.granted[net.ID][netip.MustParseAddr("192.168.1.2")]; got == "" {
			t.Error("a grant was forgotten by a restart")
		}
		a.view.Heal()
		w.settle()
		// Given back, it is the owner's again.
		b.ctl.stop(net, netip.MustParseAddr("192.168.1.2"))
		w.settle()
		if k := w.keys(askKeys); len(k) > 0 {
			t.Errorf("asks are left: %q", k)
		}
		a.mustRun(net, "c4", "192.168.1.2")

		// An owner that is not there: no one can know.
		a.crash()
		w.settle()
		began := time.Now()
		_, err = b.ctl.run(t.Context(), net, "c", netip.MustParseAddr("192.168.1.3"))
		says(t, err, cnm.ErrUnavailable, "192.168.1.3", "192.168.1.0/26", "host1", "linkspan mesh forget host1")
		time.Sleep(20 * time.Second)
		_, err = b.ctl.run(t.Context(), net, "c", netip.MustParseAddr("192.168.1.3"))
		says(t, err, cnm.ErrUnavailable, "host1", "last seen")
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		if k := w.keys(askKeys); len(k) > 0 {
			t.Errorf("asks are left: %q", k)
		}
	})
}

// A host that is out of blocks claims another; when all are claimed it asks for single
// addresses; when there are none, it says who has them.
func TestOutOfBlocks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		net := a.create("small", "10.7.0.0/28") // four blocks of four
		synctest.Wait()
		for i := range 10 { // 13 usable less ... : all of three blocks
			a.mustRun(net, "a"+string(rune('0'+i)), "")
		}
		if got := a.Blocks(net.ID); len(got) != 3 {
			t.Errorf("blocks of host1: %v", got)
		}
		for i := range 3 {
			b.mustRun(net, "b"+string(rune('0'+i)), "")
		}
		_, err := b.ctl.run(t.Context(), net, "b3", netip.Addr{})
		says(t, err, cnm.ErrExhausted, "network small", "host1 has 3", "host2 has 1", "larger --subnet")
		a.ctl.stop(net, a.ctl.addrs(net.ID)[4])
		synctest.Wait()
		b.mustRun(net, "b3", "")
		if got := b.Blocks(net.ID); len(got) != 2 || !slices.ContainsFunc(got, func(x cnm.Block) bool { return x.Prefix.IsSingleIP() }) {
			t.Errorf("blocks of host2: %v", got)
		}
	})
}

func TestCutOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		net := a.create("shop", "10.1.0.0/24")
		synctest.Wait()
		a.mustRun(net, "a1", "")
		b.mustRun(net, "b1", "")
		synctest.Wait()
		b.view.Cut(false)
		w.settle()
		for i := range 5 { // of its own block, still
			b.mustRun(net, "b"+string(rune('2'+i)), "")
		}
		if s := b.Status(); s.Reachable || s.Queue != 5 || s.Since.IsZero() || s.Err == nil {
			t.Errorf("status %+v", s)
		}
		select {
		case <-b.Silent():
		default:
			t.Error("news is waited for of a store that cannot be reached")
		}
		says(t, b.Create(t.Context(), &cnm.Network{Name: "x", Pools: []cnm.Pool{{}}}, nil, nil), cnm.ErrUnavailable, "network x", "cannot be reached for 5s", "linkspan mesh status")
		says(t, b.Remove(t.Context(), net), cnm.ErrConflict, "b1")
		_, err := b.Claim(t.Context(), net, net.Pools[0].Subnet, netip.Addr{})
		says(t, err, cnm.ErrUnavailable, "network shop", "cannot be reached")
		a.mustRun(net, "a2", "")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if p := a.Peers(); p[0].Alive {
			t.Error("host2 is cut off, and alive")
		}
		if p := b.Peers(); !p[0].Alive {
			t.Error("who is cut off knows no better than before")
		}
		// A restart while cut off: all is known as it was, before Run reached anything.
		b.crash()
		b.start()
		if got, known := b.Recall(net.ID); !known || len(got.Came) != 1 || got.Came[0].ContainerName != "a1" || len(got.Blocks) != 2 {
			t.Errorf("known after a restart without the store: %+v", got)
		}
		if b.ctl.networks[net.ID] == nil || len(b.Peers()) != 1 || len(b.Blocks(net.ID)) != 1 {
			t.Errorf("networks %v, peers %v, blocks %v", b.ctl.networks, b.Peers(), b.Blocks(net.ID))
		}
		b.mustRun(net, "b7", "")
		b.view.Heal()
		w.settle()
		if got := strings.Count(a.ctl.view(net.ID), "host2"); got != 7 {
			t.Errorf("host1 knows:\n%s", a.ctl.view(net.ID))
		}
		if got := strings.Count(b.ctl.view(net.ID), "host1"); got != 2 {
			t.Errorf("host2 knows:\n%s", b.ctl.view(net.ID))
		}
		if s := b.Status(); !s.Reachable || s.Queue != 0 {
			t.Errorf("status %+v", s)
		}
		select {
		case <-b.Silent():
			t.Error("no news is waited for of a store that is back")
		default:
		}
		if _, known := b.Recall("of which nobody told"); known {
			t.Error("what nobody told is known")
		}
		if p := a.Peers(); !p[0].Alive {
			t.Error("host2 is back, and not alive")
		}
	})
}

func TestForget(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var gone []string
		a := w.join("host1")
		b := w.join("host2", func(c *Config) {
			c.OnSelf = func(h Host, fenced bool) {
				if fenced {
					gone = append(gone, h.Name)
				}
			}
		})
		net := a.create("shop", "10.1.0.0/24")
		synctest.Wait()
		b.mustRun(net, "b1", "10.1.0.20")
		a.mustRun(net, "a1", "")
		a.mustRun(net, "a2", "10.1.0.21") // borrowed of host2
		w.settle()
		says(t, a.Forget(t.Context(), "host2", false), cnm.ErrConflict, "host2", "--force", "linkspan mesh leave")
		says(t, a.Forget(t.Context(), "host9", false), cnm.ErrNotFound, "host9", "host1, host2")
		says(t, a.Forget(t.Context(), "host1", false), cnm.ErrInvalid, "this host")
		_, err := Enroll(t.Context(), w.common, Host{Name: "HOST2", Addr: netip.MustParseAddr("10.9.0.9")})
		says(t, err, cnm.ErrConflict, "HOST2", "is there now", "linkspan mesh forget host2")
		_, err = Enroll(t.Context(), w.common, Host{Name: "host3", Addr: b.h.Addr})
		says(t, err, cnm.ErrConflict, b.h.Addr.String(), "host2")
		b.view.Cut(false)
		time.Sleep(15 * time.Second)
		if err := a.Forget(t.Context(), "host2", false); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if k := w.keys(""); slices.ContainsFunc(k, func(k string) bool { return strings.Contains(k, b.h.ID) }) {
			t.Errorf("of a forgotten host there is: %q", k)
		}
		if got := a.ctl.view(net.ID); got != "" {
			t.Errorf("host1 knows:\n%s", got)
		}
		// The block in which it borrowed is host1's now.
		if got := a.Blocks(net.ID); !slices.ContainsFunc(got, func(x cnm.Block) bool { return x.Prefix.String() == "10.1.0.16/28" }) {
			t.Errorf("blocks of host1: %v", got)
		}
		// The forgotten one writes late, and fences itself.
		b.mustRun(net, "b2", "")
		b.view.Heal()
		w.settle()
		if b.Underlay() != nil || b.Peers() != nil || b.Blocks(net.ID) != nil || !slices.Equal(gone, []string{"host2"}) || b.Status().Fenced == "" {
			t.Errorf("it is not fenced: %+v, told %q", b.Status(), gone)
		}
		if got := b.ctl.view(net.ID); got != "" {
			t.Errorf("a fenced host knows:\n%s", got)
		}
		if k := w.keys(""); slices.ContainsFunc(k, func(k string) bool { return strings.Contains(k, b.h.ID) || strings.Contains(k, "e-b2") }) {
			t.Errorf("a forgotten host wrote: %q", k)
		}
		// Also after a restart, with or without the store.
		b.crash()
		b.view.Cut(false)
		b.start()
		if b.Underlay() != nil || b.Status().Fenced == "" {
			t.Error("a restart ended the fence")
		}
		_, err = b.ctl.run(t.Context(), net, "b9", netip.Addr{})
		says(t, err, cnm.ErrUnavailable, "no member", "linkspan mesh join")
		b.crash()
		again := w.join("host2")
		w.settle()
		if again.h.Number != 2 || len(a.Peers()) != 1 || !a.Peers()[0].Alive {
			t.Errorf("joined again: %+v, %+v", again.h, a.Peers())
		}
	})
}

func TestLeave(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("host1"), w.join("host2")
		net := a.create("shop", "10.1.0.0/24")
		synctest.Wait()
		addr := b.mustRun(net, "b1", "")
		a.mustRun(net, "a1", "")
		w.settle()
		b.ctl.stop(net, addr)
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.settle()
		if k := w.keys(""); slices.ContainsFunc(k, func(k string) bool { return strings.Contains(k, b.h.ID) || strings.Contains(k, "host2") }) {
			t.Errorf("of a host that left there is: %q", k)
		}
		if all, _, _ := b.local.List(t.Context(), ""); len(all) != 0 {
			t.Errorf("in its own store: %v", all)
		}
		if len(a.Peers()) != 0 || b.Underlay() != nil {
			t.Errorf("peers %v", a.Peers())
		}
	})
}
