package network

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
)

// TestFirstNews: the first container here on a network knows what is elsewhere when it
// starts, and waits for that no longer than it has to.
func TestFirstNews(t *testing.T) {
	for _, c := range []struct {
		name  string
		is    func(m *member, network string)
		waits time.Duration
		knows bool
	}{
		{"the mesh answers", func(*member, string) {}, 0, true},
		{"the store cannot be reached", func(m *member, _ string) { m.away.Store(true) }, 0, false},
		{"the store is slow", func(m *member, _ string) { m.mute.Store(true) }, firstNews, false},
		{"it was known, and the store is slow", func(m *member, network string) {
			m.mute.Store(true)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.known[network] = map[string]cnm.Remote{}
			for id, r := range m.endpoints[network] {
				m.known[network][id] = r
			}
		}, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, a, b := pair(t)
				m := x.members[1]
				n := x.network("shop")
				b.join(named("c0")) // a block is this host's
				b.leave("c0", false)
				a.join(named("c1", "192.168.1.1"))
				x.settle()
				c.is(m, n.ID)
				begun := time.Now()
				b.join(named("c2"))
				if took := time.Since(begun); took != c.waits {
					t.Errorf("it waited %v, not %v", took, c.waits)
				}
				if knows := slices.Contains(b.knows(), "[c1] = [192.168.1.1] []"); knows != c.knows {
					t.Errorf("what is elsewhere is known: %v", knows)
				}
				// Nobody waits again.
				begun = time.Now()
				b.join(named("c3"))
				if took := time.Since(begun); took != 0 {
					t.Errorf("the second one waited %v", took)
				}
			})
		})
	}
}
