package explain

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/dataplane"
)

// TestTunnels: what spans hosts is told in words, with the command that shows it.
func TestTunnels(t *testing.T) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	none := dataplane.Meta{}
	m := &maker{}
	for _, c := range []struct {
		o    dataplane.Object
		what string
		show string
	}{
		{dataplane.VXLAN{Name: "vx-1", VNI: 0x4C0001, Local: a("10.0.0.1"), Master: "br-1"}, "VXLAN 4980737 by 10.0.0.1, UDP port 4789, packets of up to 1450 bytes", "bridge -d link show dev vx-1"},
		{dataplane.WireGuard{Name: "wg0", MTU: 1420, UserSpace: true}, "WireGuard device wg0 (mtu 1420 user-space)", "ip -d link show dev wg0"},
		{dataplane.FDB{Dev: "vx-1", MAC: "02:42:00:00:00:02", Dst: a("10.0.0.2")}, "02:42:00:00:00:02 is reached by vx-1 through host 10.0.0.2", "bridge fdb show dev vx-1"},
		{dataplane.FDB{Dev: "vx-1", MAC: dataplane.FDBDefault, Dst: a("10.0.0.2")}, "broadcasts and multicasts by vx-1 go to 10.0.0.2", "bridge fdb show dev vx-1"},
		{dataplane.FDB{Dev: "vx-1", MAC: "02:42:00:00:00:02"}, "02:42:00:00:00:02 is behind vx-1", "bridge fdb show dev vx-1"},
		{dataplane.Neighbour{Link: "br-1", Addr: a("10.88.1.2"), MAC: "02:42:00:00:00:02"}, "10.88.1.2 has the MAC 02:42:00:00:00:02", "ip neigh show 10.88.1.2 dev br-1"},
		{dataplane.Offload{Link: "eth0", Feature: "tx-checksum-ip-generic"}, "tx-checksum-ip-generic of eth0 is off", "ethtool -k eth0"},
		{dataplane.Route{Dst: p("10.88.0.0/16"), Unreachable: true}, "nothing of 10.88.0.0/16 leaves", "ip route show type unreachable 10.88.0.0/16"},
		{dataplane.MeshElement(none, "t", p("10.88.0.0/16")), "containers of 10.88.0.0/16 on this host and on others reach each other, by their own addresses", "nft list map inet t mesh4"},
		{dataplane.SealedElement(none, "t", p("fd00::/64")), "encrypted only", "nft list map inet t mesh6"},
		{dataplane.SecureElement(none, "t", "wg0"), "wg0 encrypts", "nft get element inet t secure"},
		{dataplane.SpanElement(none, "t", "br-1"), "connections over br-1", "nft get element inet t spans"},
		{dataplane.PeerElement(none, "t", a("10.0.0.2")), "host 10.0.0.2 is of the mesh", "nft get element inet t peers4"},
		{dataplane.VNIElement(none, "t", 4789, 0x4C0001, ""), "VXLAN 4980737 on UDP port 4789 is ours", "'{ 4789 . 0x4c0001 }'"},
		{dataplane.VNIElement(none, "t", 4790, 7, "wg0"), "VXLAN 7 on UDP port 4790 is encrypted", "vnis_secure"},
		{dataplane.TunnelElement(none, "t", "vx-1"), "not asked through vx-1", "nft get element bridge t tunnels"},
	} {
		it := m.item(c.o)
		if !strings.Contains(it.What, c.what) || !strings.Contains(strings.Join(it.Show, "\n"), c.show) {
			t.Errorf("%s: %q, shown by %q", c.o.Key(), it.What, it.Show)
		}
	}
}
