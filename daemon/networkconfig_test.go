package daemon

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/driver"
	"linkspan/driver/bridge"
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

// TestCheckNetworkOpts: a default that no network could be made with is told at
// the start.
func TestCheckNetworkOpts(t *testing.T) {
	for flags, want := range map[string]string{
		"": "",
		"--default-network-opt bridge=com.docker.network.driver.mtu=1400 --default-network-opt bridge=com.docker.network.enable_ipv6=true": "",
		"--default-network-opt bridge=com.docker.network.host_ipv6=2001:db8::1":                                                            "",
		"--default-network-opt bridge=com.docker.network.driver.mtuu=1400":                                                                 "did you mean com.docker.network.driver.mtu?",
		"--default-network-opt bridge=com.docker.network.enable_ipv6=maybe":                                                                "want true or false",
		"--default-network-opt bridgee=a=b":                                                                                                "bridgee",
	} {
		e := &engine{Options: Options{Drivers: driver.NewRegistry(bridge.Driver{})}, cfg: parsed(t, flags)}
		err := e.checkNetworkOpts(e.cfg)
		if want == "" && err != nil || want != "" && (!errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "default-network-opts: ")) {
			t.Errorf("%s: %v", flags, err)
		}
	}
}

// TestReloadedAttributes: the event says what holds now, in dockerd's forms.
func TestReloadedAttributes(t *testing.T) {
	a := reloaded(parsed(t, "--label a=1 --label b=2 --shutdown-timeout 3 --debug"))
	for k, want := range map[string]string{"labels": `["a=1","b=2"]`, "registry-mirrors": "[]", "shutdown-timeout": "3", "debug": "true", "default-runtime": "runc"} {
		if a[k] != want {
			t.Errorf("%s: %q, want %q", k, a[k], want)
		}
	}
}
