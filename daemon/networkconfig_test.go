package daemon

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"linkspan/config"
	"linkspan/ipam"
	"linkspan/network"
)

// TestDefaultBridge: each flag of the default network reaches its field.
func TestDefaultBridge(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for flags, want := range map[string]network.DefaultBridge{
		"":                     {MTU: 1500},
		"-b br0 --mtu 9000":    {Name: "br0", MTU: 9000},
		"--bridge none":        {None: true, MTU: 1500},
		"--icc=false":          {NoICC: true, MTU: 1500},
		"--ip-masq=false":      {NoMasquerade: true, MTU: 1500},
		"--bip 10.10.10.10/24": {BIP: prefix("10.10.10.10/24"), MTU: 1500},
		"--bip 10.0.0.1/24 --fixed-cidr 10.0.0.128/25 --default-gateway 10.0.0.2": {
			BIP: prefix("10.0.0.1/24"), Range: prefix("10.0.0.128/25"), Gateway: addr("10.0.0.2"), MTU: 1500},
		"--ipv6 --bip6 fd00::1/64 --fixed-cidr-v6 fd00::1:0/112 --default-gateway-v6 fd00::2": {
			IPv6: true, BIP6: prefix("fd00::1/64"), Range6: prefix("fd00::1:0/112"), Gateway6: addr("fd00::2"), MTU: 1500},
	} {
		if d := cmp.Diff(want, defaultBridge(parsed(t, flags)), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", flags, d)
		}
	}
	pools := addressPools(parsed(t, "--default-address-pool base=10.0.0.0/8,size=24 --default-address-pool base=fd00::/48,size=64"))
	if want := []ipam.Base{{Prefix: prefix("10.0.0.0/8"), Bits: 24}, {Prefix: prefix("fd00::/48"), Bits: 64}}; !cmp.Equal(pools, want, cmpopts.EquateComparable(netip.Prefix{})) {
		t.Errorf("%v", pools)
	}
}

func parsed(t *testing.T, flags string) *config.Config {
	t.Helper()
	r, err := config.Parse("linkspan", append(strings.Fields(flags), "--config-file", os.DevNull))
	if err != nil {
		t.Fatalf("%s: %v", flags, err)
	}
	return r.Config
}
