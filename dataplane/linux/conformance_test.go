package linux_test

import (
	"slices"
	"sync"
	"testing"

	"linkspan/dataplane/dptest"
	"linkspan/dataplane/linux"
)

// TestConformance: the real kernel behaves as the one in memory.
func TestConformance(t *testing.T) {
	t.Parallel()
	dptest.Conformance(t, func(t *testing.T) *dptest.Rig {
		t.Parallel()
		var mu sync.Mutex
		var points []string
		h := newHost(t, func(c *linux.Config) {
			c.Table = "lspconf"
			c.Hook = func(p string) { mu.Lock(); points = append(points, p); mu.Unlock() }
		})
		return &dptest.Rig{Kernel: h.k, Pin: h.pin,
			Stranger: func(n string) { h.run("ip", "link", "add", n, "type", "bridge"); h.run("ip", "link", "set", n, "up") },
			Lose:     func(n string) { h.run("ip", "link", "del", n) },
			Points:   func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(points) },
		}
	})
}
