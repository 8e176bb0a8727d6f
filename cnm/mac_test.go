package cnm

import (
	"net/netip"
	"testing"
)

func TestMACFor(t *testing.T) {
	for a, want := range map[string]string{
		"172.17.0.2":        "02:42:ac:11:00:02", // as dockerd gives it
		"255.255.255.255":   "02:42:ff:ff:ff:ff",
		"0.0.0.0":           "02:42:00:00:00:00",
		"fd00::2":           "",
		"::ffff:172.17.0.2": "",
	} {
		if got := MACFor(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %q, want %q", a, got, want)
		}
	}
	if got := MACFor(netip.Addr{}); got != "" {
		t.Errorf("of no address: %q", got)
	}
}
