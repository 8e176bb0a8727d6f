package check

import (
	"context"
	"testing"
	"time"
)

// TestPasses: whether packets of a size pass is told, and that it cannot be told.
func TestPasses(t *testing.T) {
	w := start(t, 2, 3)
	one, two := w.hosts[0], w.hosts[1]
	for _, c := range []struct {
		name          string
		harm          func()
		size          int
		passes, known bool
	}{
		{"whole", func() {}, 1500, true, true},
		{"a black hole", func() { w.sw.BlackHole(two.Host, 1400) }, 1450, false, true},
		{"below it", func() { w.sw.BlackHole(two.Host, 1400) }, 1400, true, true},
		{"much is lost", func() { w.sw.Lose(two.Host, 20) }, 1500, true, true},
		{"cut", func() { w.sw.Silence(two.Host) }, 1500, false, false},
	} {
		c.harm()
		// With luck: of a lossy wire it may be that it cannot be told, but never a black hole.
		var passes, known bool
		for range 10 {
			ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
			passes, known = one.c.Passes(ctx, two.self, c.size)
			stop()
			if known || !c.known {
				break
			}
		}
		if passes != c.passes || known != c.known {
			t.Errorf("%s: %v, %v, want %v, %v", c.name, passes, known, c.passes, c.known)
		}
		w.sw.Heal(two.Host)
	}
}
