package host

import (
	"os"
	"strings"
	"testing"
	"time"

	"linkspan/store"
)

// cloned is a machine with all that was on another's disk.
func (m *machine) cloned(n int) *machine {
	m.t.Helper()
	c := newMachine(m.t, n, nil)
	c.close()
	if err := os.CopyFS(c.root, os.DirFS(m.root)); err != nil {
		m.t.Fatal(err)
	}
	es, _, err := m.local.List(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range es {
		if _, err := c.local.Commit(m.t.Context(), store.Op{Key: e.Key, Value: e.Value}); err != nil {
			m.t.Fatal(err)
		}
	}
	c.open()
	return c
}

// TestCloned: the copy of a host finds out, says so and what to do, and becomes a host of
// its own; nothing happens to the host that was copied.
func TestCloned(t *testing.T) {
	if !isolated(t) {
		return
	}
	a, b := newMachine(t, 1, nil), newMachine(t, 2, nil)
	a.init(InitRequest{Voters: 1})
	b.join(a.token())
	b.restart() // which is none
	eventually(t, time.Minute, "host2 is alive", a.sees("host2"))
	c := b.cloned(3)
	eventually(t, time.Minute, "the copy is out", func() bool { return c.status().Phase == PhaseForgotten })
	if all := strings.Join(c.status().Words, "; "); !strings.Contains(all, "this host is out of the mesh: another machine has this host's identity (") || !strings.Contains(all, "linkspan mesh leave --force") {
		t.Errorf("%s", all)
	}
	eventually(t, time.Minute, "host2 says so", func() bool { return strings.Contains(b.log.String(), "it is a copy of this one") })
	if _, err := c.host.Leave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	c.join(a.token()) // it is host3
	eventually(t, time.Minute, "all three are well", func() bool {
		s := a.status()
		return a.sees("host2")() && a.sees("host3")() && len(s.Hosts) == 3 && len(s.Words) == 0 && b.status().Phase == PhaseJoined
	})
	if b.host.id() == c.host.id() {
		t.Error("they are still one")
	}
}
