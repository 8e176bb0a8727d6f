package main

import (
	"linkspan/daemon"
	"linkspan/driver"
	"linkspan/driver/bridge"
	"linkspan/driver/host"
	"linkspan/driver/none"
	"linkspan/driver/overlay"
	"linkspan/driver/routed"
)

// drivers are the network drivers of this daemon: one line each.
func drivers() driver.Registry {
	return driver.NewRegistry(
		bridge.Driver{},
		host.Driver{},
		none.Driver{},
		overlay.Driver{},
		routed.Driver{},
	)
}

// runDaemon is `dockerd` and `linkspan daemon`.
func runDaemon(args []string) int {
	return daemon.Run(daemon.Options{Version: buildVersion, Drivers: drivers()}, args)
}
