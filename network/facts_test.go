package network

import (
	"strings"
	"testing"
	"time"
)

// TestRestartFacts: what a daemon has to find out again after its start is taken as it
// was, for a while: the encrypted tunnels stay, MTUs do too.
func TestRestartFacts(t *testing.T) {
	x := newTruth()
	a, ma := x.enter(t)
	ma.secure.Store(true)
	x.peers()
	x.settle()
	if u := a.spans.underlay.Load(); u.Secure == "" {
		t.Fatalf("%+v", u)
	}
	before := a.things()
	ma.secure.Store(false) // not found out yet
	ma.back(a)
	if len(a.report.Ops) > 0 || a.things() != before {
		t.Errorf("the restart did %v", a.report.Ops)
	}
	x.peers()
	x.settle()
	if a.things() != before {
		t.Errorf("the first news took something down:\n%s", a.things())
	}
	// When it is not there after a while, it is not there.
	a.spans.until = time.Now().Add(-time.Second)
	x.peers()
	x.settle()
	if u := a.spans.underlay.Load(); u.Secure != "" || a.things() == before {
		t.Errorf("%+v", u)
	}
	ma.secure.Store(true)
	x.peers()
	x.settle()
	// A host that came up anew has no such device: nothing is taken for granted.
	ma.secure.Store(false)
	a.cfg.HostLink = nil
	w := *a
	w.cfg.HostLink = nil
	c, err := New(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if u := c.spans.underlay.Load(); u == nil || u.Secure != "" {
		t.Errorf("%+v", u)
	}
	// Out of the mesh, nothing is remembered.
	a.SetMesh(t.Context(), nil)
	if _, ok, _ := a.store.Get(t.Context(), factsKey); ok {
		t.Error("the place in a mesh that was left is written down")
	}
	if strings.Contains(a.things(), "ls-w00000a") {
		t.Errorf("%s", a.things())
	}
}
