package check

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"linkspan/cnm"
)

// TestLastMTU: what passed to a peer before the daemon's restart counts until it is
// measured again, while nobody answers yet as well.
func TestLastMTU(t *testing.T) {
	u := &cnm.Underlay{Addr: netip.MustParseAddr("10.0.0.1"), Dev: "eth0", MTU: 1500, MAC: "02:4c:00:00:00:01", RoutedVNI: 1}
	peers := []cnm.Peer{{ID: "h2", Addr: netip.MustParseAddr("10.0.0.2")}, {ID: "h3", Addr: netip.MustParseAddr("10.0.0.3")}, {ID: "h4", Addr: netip.MustParseAddr("10.0.0.4")}}
	last := map[string]int{"h2": 1450, "h3": 1400, "h9": 1280}
	told := make(chan int, 10)
	c := New(Config{ID: "h1", Every: time.Millisecond, Underlay: func() *cnm.Underlay { return u }, Peers: func() []cnm.Peer { return peers },
		In:      func(func() error) error { return errors.New("nothing is sent") },
		LastMTU: func(peer string) int { return last[peer] }, PathMTU: func(mtu int) { told <- mtu }})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.beat(ctx) }()
	defer func() { stop(); <-done }()
	if got := <-told; got != 1400 {
		t.Errorf("told %d at the start", got)
	}
	// Measured: the whole of the device passes to h3 now.
	c.mu.Lock()
	for key, p := range c.pulses {
		if key.peer == "h3" && key.kind == cnm.PathDirect {
			p.mu.Lock()
			p.mtu = 1500
			p.mu.Unlock()
		}
	}
	c.mu.Unlock()
	if got := <-told; got != 1450 {
		t.Errorf("told %d after a measurement", got)
	}
}
