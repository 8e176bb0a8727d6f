package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/internal/lab"
)

// Whatever someone takes away outside of a sandbox comes back, and what is inside
// of one stays as its owner made it.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	s := w.join(on("a", "bridge", "8080:80"))
	e := s.Endpoints[0]
	in := s.ID[:12] + ":"
	whole := w.things()
	for name, lose := range map[string][]string{
		"table":           {"table inet linkspan_00000a"},
		"wire":            {"link " + e.HostIf},
		"bridge":          {"link docker0"},
		"gateway":         {"addr docker0 172.17.0.1/16"},
		"bridge down":     {"up docker0"},
		"host end down":   {"up " + e.HostIf},
		"published port":  {"element inet linkspan_00000a publish4_any { tcp . 8080 }"},
		"namespace":       {"netns " + s.Path},
		"all of it":       {"table inet linkspan_00000a", "link docker0", "netns " + s.Path},
		"bridge and wire": {"link docker0", "link " + e.HostIf},
	} {
		for _, key := range lose {
			if !w.has(key) {
				t.Fatalf("%s: there is no %s in\n%s", name, key, whole)
			}
			w.kernel.Lose(key)
		}
		lost := w.things()
		if lost == whole {
			t.Fatalf("%s: nothing was lost", name)
		}
		dry, err := w.Reconcile(t.Context(), true)
		if err != nil || len(dry.Ops) == 0 || w.things() != lost {
			t.Errorf("%s: dry run: %v, %v", name, dry, err)
		}
		r, err := w.Reconcile(t.Context(), false)
		if err != nil || len(r.Failures) > 0 {
			t.Errorf("%s: %v %v", name, err, r.Failures)
		}
		if d := lab.Differ(whole, w.things()); d != "" {
			t.Errorf("%s: not repaired:\n%s", name, d)
		}
		if r, err := w.Reconcile(t.Context(), false); err != nil || len(r.Ops)+len(r.Drift)+len(r.Failures) > 0 {
			t.Errorf("%s: a second time: %v %+v", name, err, r)
		}
	}
	// Inside: told, not undone.
	w.kernel.Lose("route " + in + "eth0 0.0.0.0/0")
	w.kernel.Meddle(dataplane.Addr{NS: s.Path, Link: "eth0", Prefix: netip.MustParsePrefix("10.9.9.9/24")})
	mine := w.things()
	r, err := w.Reconcile(t.Context(), false)
	if err != nil || len(r.Ops) != 0 || len(r.Drift) != 1 || r.Drift[0].Key() != "route "+in+"eth0 0.0.0.0/0" {
		t.Errorf("inside: %v %+v", err, r)
	}
	if w.things() != mine {
		t.Errorf("inside was changed:\n%s", w.things())
	}
}

// A person's own wiring of a --net=none sandbox is left alone.
func TestHandWired(t *testing.T) {
	w := newWorld(t)
	s := w.join(on("n", "none"))
	w.kernel.Meddle(dataplane.Addr{NS: s.Path, Link: "veth01", Prefix: netip.MustParsePrefix("10.0.0.2/24")})
	mine := w.things()
	for range 2 {
		if r, err := w.Reconcile(t.Context(), false); err != nil || len(r.Ops)+len(r.Drift) != 0 {
			t.Errorf("%v %+v", err, r)
		}
		w.restart()
	}
	if w.things() != mine {
		t.Errorf("changed:\n%s", w.things())
	}
}

// What nobody declares and carries our mark is an orphan of a killed process.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	before := w.things()
	m := dataplane.Meta{}
	for _, o := range []dataplane.Object{
		dataplane.Namespace{Meta: m, Path: "/run/x/netns/0123456789ab"},
		dataplane.Veth{Meta: m, Name: "veth1111111", Master: "docker0", PeerNS: "/run/x/netns/0123456789ab", PeerName: "eth0"},
		dataplane.EndpointElement(m, "linkspan_00000a", netip.MustParseAddr("172.17.0.99"), "docker0"),
		dataplane.Bridge{Meta: m, Name: "br-gone"},
	} {
		w.kernel.Meddle(o)
	}
	w.restart()
	if now := w.things(); now != before {
		t.Errorf("orphans stay:\n%s\nwant\n%s", now, before)
	}
}

// The keeper is brought to what is declared, too: one that died holds nothing,
// one that outlived a killed daemon may hold too much.
func TestHoldPorts(t *testing.T) {
	w := newWorld(t)
	w.join(on("a", "bridge", "8080:80"))
	held := w.ports.held()
	w.ports.own = nil
	if err := w.HoldPorts(t.Context()); err != nil || !slices.Equal(w.ports.held(), held) {
		t.Errorf("%v, %q, want %q", err, w.ports.held(), held)
	}
	s := w.join(on("b", "bridge", "9090:80"))
	for _, r := range w.ports.own[s.ID] {
		r.Owner = "nobody"
		w.ports.own["nobody"] = append(w.ports.own["nobody"], r)
	}
	delete(w.ports.own, s.ID)
	w.restart()
	if _, still := w.ports.own["nobody"]; still || len(w.ports.own[s.ID]) == 0 {
		t.Errorf("held: %q", w.ports.held())
	}
}

// A failing object of one container does not keep another from being repaired.
func TestBarrierPerOwner(t *testing.T) {
	w := newWorld(t)
	a, b := w.join(on("a", "bridge")), w.join(on("b", "bridge"))
	for _, s := range []string{a.Endpoints[0].HostIf, b.Endpoints[0].HostIf} {
		w.kernel.Lose("link " + s)
	}
	w.kernel.FailKey("link "+a.Endpoints[0].HostIf, errBoom)
	r, err := w.Reconcile(t.Context(), false)
	if err != nil || len(r.Failures) != 1 || !strings.Contains(r.Failures[0].Error(), a.Endpoints[0].HostIf) {
		t.Fatalf("%v %+v", err, r)
	}
	if !w.has("link "+b.Endpoints[0].HostIf) || !w.has("addr "+b.ID[:12]+":eth0 "+b.Endpoints[0].Addrs[0].String()) {
		t.Errorf("b was not repaired:\n%s", w.things())
	}
	w.join(on("c", "bridge")) // and a new one starts
}
