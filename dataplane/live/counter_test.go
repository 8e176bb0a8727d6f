package live_test

import (
	"testing"

	"linkspan/internal/lab"
)

// TestCounters: what rules count is read of one table alone.
func TestCounters(t *testing.T) {
	h := lab.New(t).Host("host")
	nft(h, `table inet one {
		chain drop_x { counter packets 7 bytes 70 drop; }
		chain drop_y { counter packets 1 bytes 10; counter packets 2 bytes 20; }
		chain none { accept; }
	}
	table inet other { chain drop_x { counter packets 99 bytes 1; } }
	table ip one { chain drop_x { counter packets 98 bytes 1; } }`)
	k := kernel()
	got, err := k.Counters(t.Context(), h.NS, "inet", "one")
	if err != nil || len(got) != 2 || got["drop_x"] != 7 || got["drop_y"] != 3 {
		t.Errorf("%v %v", got, err)
	}
	if got, err := k.Counters(t.Context(), h.NS, "inet", "nothing"); err != nil || len(got) != 0 {
		t.Errorf("no table: %v %v", got, err)
	}
}
