package linux_test

import (
	"context"
	"testing"
	"time"

	"linkspan/dataplane/diff"
)

// TestOthersRoutes: news of what changes HostRoutes, and of nothing that is ours.
func TestOthersRoutes(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	news, err := h.k.OthersRoutes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	heard := func() bool {
		select {
		case _, ok := <-news:
			return ok
		case <-time.After(300 * time.Millisecond):
			return false
		}
	}
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	h.apply(diff.Delete(h.container("web", 2)))
	if heard() {
		t.Error("our own network is news")
	}
	h.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
	for _, cmd := range [][]string{
		{"addr", "add", "10.9.0.1/24", "dev", "va"},
		{"link", "set", "va", "up"},
		{"link", "set", "vb", "up"},
		{"route", "add", "10.8.0.0/24", "via", "10.9.0.2"},
		{"route", "del", "10.8.0.0/24"},
		{"link", "del", "va"},
	} {
		h.run(append([]string{"ip"}, cmd...)...)
		if !heard() && cmd[1] != "set" {
			t.Errorf("nothing heard of %q", cmd)
		}
		for heard() { // as many as the kernel sends
		}
	}
	h.apply(diff.Delete(bridgeNet()))
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if heard() {
		t.Error("the end of our own network is news")
	}
	cancel()
	select {
	case _, ok := <-news:
		if ok {
			t.Error("news after the end")
		}
	case <-time.After(3 * time.Second):
		t.Error("the watcher does not end")
	}
}
