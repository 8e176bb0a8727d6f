package check

import (
	"fmt"
	"testing"

	"linkspan/cnm"
)

// TestStartedAnew: the peer's daemon was started anew and knows no probe's key any more.
// What it did not answer is no loss of the way.
func TestStartedAnew(t *testing.T) {
	w := start(t, 2, 3)
	a, b := w.hosts[0].c, &w.hosts[1].c.answering.sessions
	b.mu.Lock()
	b.by = map[uint64]*session{}
	b.mu.Unlock()
	tunnel := func() (lost, all int) {
		var p *pulse
		a.mu.Lock()
		for key, one := range a.pulses {
			if key.peer == "id2" && key.kind == cnm.PathVXLAN {
				p = one
			}
		}
		a.mu.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.samples {
			if s == 0 {
				lost++
			}
		}
		return lost, len(p.samples)
	}
	met := false
	w.until("no answer is forgotten with the key", func() string {
		lost, all := tunnel()
		if met = met || lost > 0; !met {
			return "no probe has met silence yet"
		}
		if lost > 0 {
			return fmt.Sprintf("%d of %d are lost", lost, all)
		}
		if all == window {
			t.Error("the lost ones are over, and were not forgotten")
		}
		return ""
	})
}
