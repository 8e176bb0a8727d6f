package hub

import (
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/driver"
	"linkspan/driver/drivertest"
)

// The suite of the project's own drivers is for anyone's.
func TestPlans(t *testing.T) {
	drivertest.Run(t, Driver{}, drivertest.Case{
		Name: "hub", Env: driver.Env{Table: "linkspan_00000a"},
		Network: cnm.Network{ID: strings.Repeat("ab", 32), Name: "toys", Driver: "hub", Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("10.66.0.0/24")}},
			Options: map[string]string{optColour: "red"}},
		Sandbox: &cnm.Sandbox{ID: strings.Repeat("5a", 32), OwnerName: "web", Path: "/run/linkspan/netns/5a5a5a5a5a5a",
			Endpoints: []cnm.Endpoint{{ID: strings.Repeat("e1", 32), IfName: "hub0", HostIf: "vethe1e1e1e", MAC: "02:42:0a:42:00:02",
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.66.0.2/24")}}}},
	})
}
