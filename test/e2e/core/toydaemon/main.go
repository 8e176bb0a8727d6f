// Command toydaemon is the daemon with one more driver, wired as cmd/linkspan
// wires its own.
package main

import (
	"fmt"
	"net/netip"
	"os"

	"linkspan/cnm"
	"linkspan/daemon"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/keeper"
	"linkspan/test/e2e/core/hub"
)

const version = "0.0.0-toy"

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	switch verb {
	case "daemon":
		os.Exit(daemon.Run(daemon.Options{
			Version: version,
			Drivers: driver.NewRegistry(bridge.Driver{}, host.Driver{}, none.Driver{}, hub.Driver{}),
			Networks: []cnm.Network{{Name: "toys", Driver: "hub", Options: map[string]string{"org.example.hub.colour": "blue"},
				Pools: []cnm.Pool{{Subnet: netip.MustParsePrefix("10.66.0.0/24")}}}},
		}, os.Args[2:]))
	case "keeper":
		os.Exit(keeper.Run(os.Args[2:], version))
	}
	fmt.Fprintln(os.Stderr, "usage: toydaemon daemon|keeper …")
	os.Exit(2)
}
