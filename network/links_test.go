package network

import (
	"net/netip"
	"slices"
	"testing"

	"linkspan/cnm"
	"linkspan/internal/lab"
)

func linkTo(target string) func(*EndpointWish) {
	return func(w *EndpointWish) {
		w.Links = []cnm.Link{{Target: target, Alias: "db", Ports: []string{"3306/tcp"}}}
	}
}

// A link leads to where its target is now, through its starts and stops.
func TestLinks(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Bridge.NoICC = true })
	leads := func() (out []netip.Addr) {
		s, _ := w.Sandbox("web")
		return s.Endpoints[0].Links[0].Addrs
	}
	holes := func() int { return len(w.elements("holes4")) }
	w.join(on("other", "bridge"))
	none := holes()
	w.join(plus(Request{ContainerID: "web", ContainerName: "web"}, "bridge", 0, linkTo("db")))
	if len(leads()) != 0 || holes() != none {
		t.Errorf("to nobody: %v", leads())
	}
	w.join(on("db", "bridge"))
	if !slices.Equal(leads(), []netip.Addr{ip("172.17.0.4")}) || holes() != none+1 {
		t.Errorf("started: %v, %d holes\n%s", leads(), holes(), w.things())
	}
	made := w.everything()
	w.restart()
	if d := lab.Differ(made, w.everything()); d != "" {
		t.Errorf("the restart:\n%s", d)
	}
	w.leave("db", false)
	if len(leads()) != 0 || holes() != none {
		t.Errorf("stopped: %v, %d holes", leads(), holes())
	}
	w.join(on("db", "bridge"))
	if !slices.Equal(leads(), []netip.Addr{ip("172.17.0.5")}) || holes() != none+1 {
		t.Errorf("started again: %v, %d holes", leads(), holes())
	}
	w.leave("web", false)
	if holes() != none || len(w.linkers) != 0 {
		t.Errorf("the linker is gone: %d holes, %v", holes(), w.linkers)
	}
}

// Two that link to each other, started at once.
func TestLinkEachOther(t *testing.T) {
	w := newWorld(t)
	w.network("shop", "172.18.0.0/16")
	done := make(chan error, 2)
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
		go func() {
			_, err := w.Join(t.Context(), plus(Request{ContainerID: pair[0], ContainerName: pair[0]}, "shop", 0, linkTo(pair[1])))
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
		s, _ := w.Sandbox(pair[0])
		target, _ := w.Sandbox(pair[1])
		if got := s.Endpoints[0].Links[0].Addrs; len(got) != 1 || got[0] != address(target) {
			t.Errorf("%s leads to %v, %s is at %s", pair[0], got, pair[1], address(target))
		}
	}
	w.leave("a", false)
	w.leave("b", false)
}
