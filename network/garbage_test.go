package network

import (
	"slices"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/keeper"
)

// What nothing declares is listed with its reason, and goes; a container that is there,
// running or not, keeps what it has.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	ids := []string{"a", "b"}
	lives := func(id string) bool { return slices.Contains(ids, id) }
	list := func() (out []Garbage) {
		t.Helper()
		out, err := w.Garbage(t.Context(), lives)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := w.everything()
	w.join(on("a", "bridge", "8080:80"))
	if g := list(); len(g) > 0 {
		t.Fatalf("of a living one: %+v", g)
	}
	gone := w.join(on("gone", "bridge", "9090:80"))
	w.kernel.Meddle(dataplane.Bridge{Name: "br-orphan"})
	w.ports.own["nobody"] = []keeper.PortRequest{{Owner: "nobody", Proto: "tcp", Addr: ip("0.0.0.0"), Port: 7000, PortEnd: 7000}}
	text := ""
	for _, g := range list() {
		text += g.Kind + " " + g.Name + ": " + g.Why + "\n" + strings.Join(g.Commands, "\n") + "\n"
	}
	for _, want := range []string{"sandbox of name-of-gone: none of its containers is there any more; it holds " + address(gone).String() + " on bridge and 1 published ports",
		"link br-orphan: it carries Linkspan's mark", "ip link del br-orphan", "port tcp 0.0.0.0:7000: the keeper holds it for a sandbox that is not there"} {
		if !strings.Contains(text, want) {
			t.Errorf("not listed: %q in\n%s", want, text)
		}
	}
	for _, g := range list() {
		if err := g.Take(t.Context()); err != nil {
			t.Errorf("%s %s: %v", g.Kind, g.Name, err)
		}
	}
	if g := list(); len(g) > 0 {
		t.Errorf("left: %+v", g)
	}
	w.leave("a", false)
	if now := w.everything(); now != before {
		t.Errorf("not as before:\n%s\nwant\n%s", now, before)
	}
}
