// Command toyd is a Linkspan daemon with a network driver of somebody else's,
// compiled in without a change to Linkspan.
package main

import (
	"net/netip"
	"os"

	"linkspan/cnm"
	"linkspan/daemon"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/keeper"
)

func main() {
	const version = "toy"
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(keeper.Run(os.Args[2:], version))
	}
	os.Exit(daemon.Run(daemon.Options{
		Version: version,
		Drivers: driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{}, cable{}),
		Networks: []cnm.Network{{
			Name: "cables", Driver: "cable", IPAMDriver: "default",
			Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1")}},
		}},
	}, os.Args[2:]))
}
