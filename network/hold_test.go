package network

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/internal/testlog"
	"linkspan/keeper"
)

func (k *sockets) stranger(ports ...uint16) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy = map[uint16]bool{}
	for _, p := range ports {
		k.busy[p] = true
	}
}

// TestLostPorts: what someone took while no keeper was there is told once and tried
// again until it can be had; everything else is held at once, and the container can
// be connected, disconnected and removed meanwhile.
func TestLostPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		w := newWorld(t, func(w *world) { w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		w.network("back", "10.1.0.0/24")
		r := on("a", "bridge", "8080:80", "8090:81")
		a := w.join(r)
		w.join(on("b", "bridge", "9090:80"))
		whole := w.ports.held()
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { w.Run(ctx) })
		defer run.Wait()
		defer stop()

		w.ports.own = nil
		w.ports.stranger(8090)
		for range 3 {
			if err := w.HoldPorts(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.ports.held(); len(got) != len(whole)-2 {
			t.Errorf("held: %q of %q", got, whole)
		}
		// Where it is led to another address meanwhile, that is what comes back.
		moved := w.update(plus(r, "back", 1, gwWish(1)))
		if to := moved.Endpoints[1].Addr4().Addr().String(); !slices.ContainsFunc(w.ports.held(), func(s string) bool { return strings.Contains(s, "8080") && strings.Contains(s, to) }) {
			t.Errorf("held: %q, want it to lead to %s", w.ports.held(), to)
		}
		w.update(r)
		if n := strings.Count(log.String(), "was lost to another program"); n != 2 { // IPv4 and IPv6
			t.Errorf("told %d times:\n%s", n, log.String())
		}
		if strings.Contains(log.String(), "are reserved again") {
			t.Errorf("told too early:\n%s", log.String())
		}
		w.ports.stranger()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !slices.Equal(w.ports.held(), whole) {
			t.Fatalf("held: %q, want %q", w.ports.held(), whole)
		}
		// One that goes is not tried any more.
		w.ports.own = nil
		w.ports.stranger(8080, 8090)
		if err := w.HoldPorts(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.leave("a", false)
		w.ports.stranger()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if w.lost.Tries(a.ID) || len(w.ports.own[a.ID]) > 0 || len(w.ports.held()) != 2 {
			t.Errorf("held after it went: %q", w.ports.held())
		}
	})
}

// TestHalfHeld: a keeper that holds a part of a sandbox's ports gets the rest.
func TestHalfHeld(t *testing.T) {
	w := newWorld(t)
	s := w.join(on("a", "bridge", "8080:80", "8090:81"))
	whole := w.ports.held()
	w.ports.own[s.ID] = w.ports.own[s.ID][:1]
	if err := w.HoldPorts(t.Context()); err != nil || !slices.Equal(w.ports.held(), whole) {
		t.Errorf("%v, %q, want %q", err, w.ports.held(), whole)
	}
	// Without IPv6 there is nothing to try.
	w.ports.noV6, w.ports.own = true, nil
	w.ports.stranger(8080)
	w.noSix.Store(false)
	if err := w.HoldPorts(t.Context()); err != nil || len(w.ports.held()) != 1 {
		t.Errorf("%v, %q", err, w.ports.held())
	}
	w.ports.stranger()
	if err := w.HoldPorts(t.Context()); err != nil || len(w.ports.held()) != 2 {
		t.Errorf("%v, %q", err, w.ports.held())
	}
	if lost := w.lost.Lost()[s.ID]; slices.ContainsFunc(lost, func(q keeper.PortRequest) bool { return q.Addr.Is6() }) {
		t.Errorf("tried: %v", lost)
	}
}

// TestRoutedPorts: in gateway mode routed no port of the host leads to a container:
// none is reserved for it, and two containers may publish the same.
func TestRoutedPorts(t *testing.T) {
	const mode4, mode6 = "com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"
	w := newWorld(t)
	w.network("plain", "10.1.0.0/24", func(n *NetworkWish) { n.Options = map[string]string{mode4: "routed"} })
	w.network("half", "10.2.0.0/24", func(n *NetworkWish) {
		n.IPv6, n.Options = new(true), map[string]string{mode6: "routed"}
	})
	w.network("back", "10.3.0.0/24")
	w.ports.stranger(443)
	r := on("a", "plain", "443:80")
	w.join(r)
	w.join(on("b", "plain", "443:80"))
	if held := w.ports.held(); len(held) > 0 {
		t.Errorf("held: %q", held)
	}
	if open := w.elements("open4"); len(open) != 2 {
		t.Errorf("open: %q", open)
	}
	if objs, err := w.Plan(t.Context(), on("c", "plain", "443:80")); err != nil || len(objs) == 0 {
		t.Errorf("plan: %v", err)
	}
	w.join(on("d", "half", "8080:80"))
	if held := w.ports.held(); len(held) != 1 || held[0] != "tcp 0.0.0.0:8080-8080 to invalid AddrPort" {
		t.Errorf("held: %q", held)
	}
	// On a network that translates as well, the port is reserved if it can be had, and
	// leads nowhere from [::1] when that network goes again.
	w.ports.stranger()
	s := w.update(plus(r, "back", 1, gwWish(1)))
	if held := w.ports.own[s.ID]; len(held) != 2 || held[1].ForwardTo.Addr() != s.Endpoints[1].Addr4().Addr() {
		t.Errorf("held: %v", held)
	}
	w.update(r)
	if held := w.ports.own[s.ID]; len(held) != 2 || held[1].ForwardTo.IsValid() {
		t.Errorf("held: %v", held)
	}
	w.leave("a", false)
	if len(w.ports.own[s.ID]) > 0 {
		t.Errorf("held: %v", w.ports.own[s.ID])
	}
}
