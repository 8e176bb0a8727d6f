package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"linkspan/cnm"
	"linkspan/internal/lab"
	"linkspan/store"
)

// A container on the bridge: an address, a wire, a port; and nothing of it
// afterwards.
func TestJoinAndLeave(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	s := w.join(on("a", "bridge", "8080:80"))
	e := s.Endpoints[0]
	if address(s) != netip.MustParseAddr("172.17.0.2") || e.IfName != "eth0" || e.MAC != "02:42:ac:11:00:02" || e.Gateway(true) != netip.MustParseAddr("172.17.0.1") {
		t.Errorf("endpoint %+v", e)
	}
	for _, key := range []string{"netns " + s.Path, "link " + e.HostIf, "addr " + s.ID[:12] + ":eth0 172.17.0.2/16", "up " + e.HostIf,
		"route " + s.ID[:12] + ":eth0 0.0.0.0/0", "sysctl " + s.ID[:12] + ":net/ipv4/ip_unprivileged_port_start"} {
		if !w.has(key) {
			t.Errorf("no %s in\n%s", key, w.things())
		}
	}
	if got := w.elements("publish4_any"); len(got) != 1 || got[0] != "tcp . 8080 = 172.17.0.2 . 80" {
		t.Errorf("published: %q", got)
	}
	if got := w.ports.held(); !slices.Equal(got, []string{"tcp 0.0.0.0:8080-8080 to invalid AddrPort", "tcp :::8080-8080 to 172.17.0.2:80"}) {
		t.Errorf("bound: %q", got)
	}
	again := w.join(on("a", "bridge", "8080:80"))
	if again.ID != s.ID {
		t.Error("joining twice is not joining once")
	}
	for range 2 { // leaving twice is success
		w.leave("a", false)
	}
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

func TestModes(t *testing.T) {
	w := newWorld(t)
	before := w.things()
	h := w.join(on("h", "host", "80:80"))
	if !h.Host || h.Path != w.cfg.HostPath || len(h.Ports) != 0 || h.Sysctls != nil || w.things() != before {
		t.Errorf("host: %+v\n%s", h, w.things())
	}
	n := w.join(on("n", "none", "80:80"))
	if n.Host || !w.has("netns "+n.Path) || len(n.Ports) != 0 || n.Endpoints[0].IfName != "" || len(n.Endpoints[0].Addrs) != 0 {
		t.Errorf("none: %+v", n)
	}
	if got := w.ports.held(); len(got) != 0 {
		t.Errorf("bound without a bridge: %q", got)
	}
	w.leave("h", false)
	w.leave("n", false)
	if w.things() != before {
		t.Errorf("left: %s", w.things())
	}
}

// Several containers in one sandbox: it lives while anyone is in it, and a
// restarted owner comes back into the same one.
func TestShare(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	s := w.join(on("owner", "bridge", "80:80"))
	made := w.things()
	dep := Request{ContainerID: "dep", ContainerName: "dep", Target: "owner"}
	if d := w.join(dep); d.ID != s.ID || !slices.Equal(d.Members, []string{"owner", "dep"}) {
		t.Errorf("dependent: %+v", d)
	}
	// A dependent's dependent names a member that is not the owner.
	if d := w.join(Request{ContainerID: "dep2", ContainerName: "dep2", Target: "dep"}); d.ID != s.ID {
		t.Errorf("dependent's dependent: %+v", d)
	}
	for _, keep := range []bool{true, false} { // docker restart, then stop and start
		w.leave("owner", keep)
		if w.things() != made {
			t.Errorf("while the owner is away:\n%s", w.things())
		}
		r := on("owner", "bridge", "80:80")
		r.ContainerName = "renamed"
		if back := w.join(r); back.ID != s.ID || back.Path != s.Path || !keep && back.OwnerName != "renamed" {
			t.Errorf("the owner came back into %+v", back)
		}
	}
	w.leave("owner", false)
	// While the owner is away its name leads nowhere, a member's does.
	if _, err := w.Join(t.Context(), Request{ContainerID: "late", Target: "owner"}); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "start it first") {
		t.Errorf("joining an absent owner: %v", err)
	}
	w.leave("dep", false)
	if w.things() != made {
		t.Error("the last dependent lost its network")
	}
	w.leave("dep2", false)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// The dependents live on over a restart of the daemon, and the owner comes back.
func TestShareRestart(t *testing.T) {
	w := newWorld(t)
	s := w.join(on("owner", "bridge"))
	w.join(Request{ContainerID: "dep", ContainerName: "dep", Target: "owner"})
	w.leave("owner", false)
	w.restart()
	if len(w.report.Ops) != 0 {
		t.Errorf("the start did %v", w.report.Ops)
	}
	if back := w.join(on("owner", "bridge")); back.ID != s.ID || len(back.Members) != 2 {
		t.Errorf("came back into %+v", back)
	}
}

// Every kernel operation of a start can fail: then nothing of it is there.
func TestRevert(t *testing.T) {
	w := newWorld(t)
	w.join(on("other", "bridge", "7000:80"))
	before := w.everything()
	for n := 1; ; n++ {
		w.kernel.FailNth(n, errBoom)
		_, err := w.Join(t.Context(), on("a", "bridge", "8080:80", "9000-9002:9000-9002/udp"))
		if err == nil {
			if n < 8 {
				t.Errorf("only %d operations", n-1)
			}
			w.kernel.FailNth(1, nil)
			break
		}
		if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "name-of-a") {
			t.Errorf("operation %d: %v", n, err)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Fatalf("operation %d failed (%v), not as before:\n%s", n, err, d)
		}
	}
	w.leave("a", false)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// Every kernel operation of a stop can fail: the container is out all the same,
// and the next reconciliation takes what is left.
func TestLeftovers(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	for n := 1; ; n++ {
		w.join(on("a", "bridge", "8080:80"))
		w.kernel.FailNth(n, errBoom)
		w.leave("a", false)
		if w.everything() == before {
			if n < 3 {
				t.Errorf("only %d operations of a stop failed", n-1)
			}
			return
		}
		if r, err := w.Reconcile(t.Context(), false); err != nil || len(r.Failures) > 0 {
			t.Fatalf("reconcile: %v, %+v", err, r)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Fatalf("operation %d of the stop failed; after the reconciliation:\n%s", n, d)
		}
	}
}

// The store can refuse each commit of a life.
func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	w.store.breaks(func(store.Op) error { return store.ErrFull })
	if _, err := w.Join(t.Context(), on("a", "bridge", "8080:80")); !errors.Is(err, store.ErrFull) {
		t.Errorf("join: %v", err)
	}
	w.store.breaks(nil)
	if now := w.everything(); now != before {
		t.Errorf("after the refused join:\n%s", now)
	}
	w.join(on("a", "bridge", "8080:80"))
	made := w.everything()
	w.store.breaks(func(store.Op) error { return store.ErrFull })
	for _, r := range []Request{{ContainerID: "dep", Target: "a"}} {
		if _, err := w.Join(t.Context(), r); !errors.Is(err, store.ErrFull) {
			t.Errorf("dependent: %v", err)
		}
	}
	if err := w.Leave(t.Context(), "a", false); !errors.Is(err, store.ErrFull) {
		t.Errorf("leave: %v", err)
	}
	w.store.breaks(nil)
	if now := w.everything(); now != made {
		t.Errorf("after the refused leave:\n%s\nwas:\n%s", now, made)
	}
	if _, ok := w.Sandbox("dep"); ok {
		t.Error("the refused dependent is in the sandbox")
	}
}

// A taken port gives the address back; its holder is named.
func TestPortTaken(t *testing.T) {
	w := newWorld(t)
	w.join(on("web", "bridge", "80:80"))
	before := w.everything()
	_, err := w.Join(t.Context(), on("b", "bridge", "8000:1", "80:80"))
	if err == nil || !strings.Contains(err.Error(), "name-of-web") || !strings.Contains(err.Error(), "driver failed programming external connectivity on endpoint name-of-b") {
		t.Errorf("held by a container: %v", err)
	}
	w.ports.busy = map[uint16]bool{443: true}
	if _, err := w.Join(t.Context(), on("b", "bridge", "8000:1", "443:443")); err == nil || !strings.Contains(err.Error(), "443") {
		t.Errorf("held by a process: %v", err)
	}
	w.ports.away = true
	if _, err := w.Join(t.Context(), on("b", "bridge", "8000:1")); !errors.Is(err, cnm.ErrUnavailable) {
		t.Errorf("no keeper: %v", err)
	}
	w.ports.away = false
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
	// Without IPv6 on the host what has no address is reserved on IPv4 alone.
	w.ports.noV6 = true
	w.join(on("b", "bridge", "8000:1"))
	if got := w.ports.held(); !slices.Contains(got, "tcp 0.0.0.0:8000-8000 to invalid AddrPort") || len(got) != 3 {
		t.Errorf("bound: %q", got)
	}
}

// Containers that come and go at the same time never share an address, a port or
// a wire.
func TestConcurrent(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	var mu sync.Mutex
	held := map[string]string{}
	hold := func(id string, keys ...string) {
		mu.Lock()
		defer mu.Unlock()
		for _, k := range keys {
			if other, taken := held[k]; taken {
				t.Errorf("%s has %s, and so has %s", id, k, other)
			}
			held[k] = id
		}
	}
	free := func(keys ...string) {
		mu.Lock()
		defer mu.Unlock()
		for _, k := range keys {
			delete(held, k)
		}
	}
	var all sync.WaitGroup
	for i := range 24 {
		id := fmt.Sprintf("c%02d", i)
		all.Go(func() {
			for range 20 {
				s, err := w.Join(t.Context(), on(id, "bridge", "80"))
				if err != nil {
					t.Error(err)
					return
				}
				keys := []string{address(s).String(), s.Endpoints[0].HostIf, fmt.Sprint(s.Ports[0].HostPort), s.Path}
				hold(id, keys...)
				if i%4 == 0 {
					if _, err := w.Reconcile(t.Context(), i%8 == 0); err != nil {
						t.Error(err)
					}
				}
				free(keys...)
				if err := w.Leave(t.Context(), id, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// The same container is started and stopped from many sides at once.
func TestSameContainer(t *testing.T) {
	w := newWorld(t)
	before := w.everything()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 30 {
				if i%2 == 0 {
					if _, err := w.Join(t.Context(), on("a", "bridge", "80:80")); err != nil {
						t.Error(err)
					}
				} else if err := w.Leave(t.Context(), "a", false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	w.leave("a", false)
	if d := lab.Differ(before, w.everything()); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

func TestOn(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/16")
	w.network("empty", "172.19.0.0/16")
	w.join(on("a", "shop"))
	w.join(on("b", "bridge"))
	w.join(plus(on("c", "bridge"), "shop", 1))
	for name, want := range map[string][]string{"shop": {"a", "c"}, "bridge": {"b", "c"}, "empty": nil} {
		n, err := w.Network(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range w.On(n.ID) {
			got = append(got, s.Owner)
			s.OwnerName, s.Endpoints[0].NetworkID = "changed", "changed" // a copy of mine
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if s, _ := w.Sandbox("a"); s.OwnerName == "changed" || s.Endpoints[0].NetworkID == "changed" {
		t.Error("what was handed out is the controller's own")
	}
	if got := w.On("none of ours"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
