package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
	"linkspan/mesh"
	"linkspan/store/mem"
)

// real is a host whose Mesh is the real one, on a common store in memory.
type realHost struct {
	*world
	mesh *mesh.Mesh
	view *mem.View
	self mesh.Host
	stop func()
}

func common(t *testing.T) *mem.Store {
	t.Helper()
	s := mem.New(mem.Options{History: 4096})
	if _, err := mesh.Found(t.Context(), s, "", "test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// joins makes one more host.
func joins(t *testing.T, s *mem.Store, number int) *realHost {
	t.Helper()
	h, err := mesh.Enroll(t.Context(), s, mesh.Host{Name: fmt.Sprint("host", number), Addr: netip.AddrFrom4([4]byte{10, 9, 0, byte(number)}), Role: "client"})
	if err != nil {
		t.Fatal(err)
	}
	r := &realHost{view: s.View(), self: h}
	r.world = newWorld(t, spanning)
	r.up(t)
	t.Cleanup(func() { r.stop(); r.view.Close() })
	return r
}

// up is a start of the host's daemon.
func (r *realHost) up(t *testing.T) {
	t.Helper()
	m, err := mesh.New(mesh.Config{Store: r.view, Local: r.store, Self: r.self, Place: mesh.Place{Dev: "eth0", MTU: 1500},
		Way: func(netip.Addr) mesh.Way { return mesh.Way{Dev: "eth0", MTU: 1500} }, Log: slog.New(slog.DiscardHandler),
		AskWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Mesh = m
	r.restart()
	m.SetSink(r.Sink())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	r.mesh, r.stop = m, func() { cancel(); <-done }
}

// becomes waits until something is so.
func becomes(t *testing.T, what string, is func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !is() {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%s: not after a minute", what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(begun)
}

// TestMesh: the controller on the real mesh.
func TestMesh(t *testing.T) {
	s := common(t)
	a, b := joins(t, s, 1), joins(t, s, 2)
	becomes(t, "peers", func() bool { return len(a.mesh.Peers()) == 1 && len(b.mesh.Peers()) == 1 })
	n := shop(t, a.world)
	becomes(t, "the network", func() bool { _, err := b.Network("shop"); return err == nil })
	if len(n.VNIs) != 1 || n.VNIs[0] == 0 || n.Pools[0].Gateway != ip("192.168.0.1") {
		t.Errorf("%+v", n)
	}
	c1, c3 := a.join(named("c1", "192.168.1.1")), b.join(named("c3", "192.168.2.1"))
	for w, other := range map[*realHost]*cnm.Sandbox{a: c3, b: c1} {
		want := "[" + other.Owner + "] = [" + address(other).String() + "] []"
		becomes(t, "names", func() bool { return slices.Contains(w.knows(), want) })
		becomes(t, "what leads there", func() bool {
			return slices.ContainsFunc(w.beyond(), func(s string) bool { return strings.HasPrefix(s, "fdb "+other.Endpoints[0].MAC+" 10.9.0.") })
		})
		w.settled(t, "both are there")
	}
	if _, err := b.Join(t.Context(), named("c4", "192.168.1.1")); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("taken: %v", err)
	}
	// Lent, and given back.
	b.join(named("c5", "192.168.1.2"))
	if _, err := a.Join(t.Context(), named("c6", "192.168.1.2")); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "host2") {
		t.Errorf("lent: %v", err)
	}
	b.leave("c5", false)
	becomes(t, "what was lent", func() bool { _, err := a.Join(t.Context(), named("c6", "192.168.1.2")); return err == nil })
	becomes(t, "its name", func() bool { return slices.Contains(b.knows(), "[c6] = [192.168.1.2] []") })

	// The daemon restarts with the store gone: nothing changes, and it goes on.
	b.stop()
	b.view.Cut(false)
	b.up(t)
	if len(b.report.Ops) > 0 {
		t.Errorf("the restart did %v", b.report.Ops)
	}
	if !slices.Contains(b.knows(), "[c1] = [192.168.1.1] []") {
		t.Errorf("names: %v", b.knows())
	}
	c7 := b.join(named("c7"))
	b.settled(t, "cut off")
	a.leave("c6", false)
	b.view.Heal()
	becomes(t, "news after healing", func() bool {
		return slices.Contains(a.knows(), "[c7] = ["+address(c7).String()+"] []") && !slices.Contains(b.knows(), "[c6] = [192.168.1.2] []")
	})
	a.settled(t, "healed")
	b.settled(t, "healed")

	if err := b.RemoveNetwork(t.Context(), "shop"); !errors.Is(err, cnm.ErrConflict) {
		t.Errorf("in use: %v", err)
	}
	a.leave("c1", false)
	b.leave("c3", false)
	b.leave("c7", false)
	becomes(t, "the end of the network", func() bool { return b.RemoveNetwork(t.Context(), "shop") == nil })
	becomes(t, "the news of it", func() bool { _, err := a.Network("shop"); return errors.Is(err, cnm.ErrNotFound) })
	for _, w := range []*realHost{a, b} {
		w.settled(t, "removed")
		if got := w.knows(); len(got) > 0 {
			t.Errorf("names: %v", got)
		}
	}
}
