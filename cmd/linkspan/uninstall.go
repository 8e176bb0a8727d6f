package main

import (
	"fmt"
	"slices"

	"linkspan/daemon"
)

const uninstallHelp = `Usage: linkspan uninstall [--purge] [the daemon's flags]

Take away what daemons with this data root have left: running containers, the keeper,
a private containerd, bridges, the nftables table, pins, sysctls that were changed on
this host, and the exec root. Stop the daemon first. Images, containers' records and
volumes stay in the data root.

      --purge              Remove the data root, and what a containerd keeps for it, too
      --data-root string   Data root (default "/var/lib/linkspan")
      --exec-root string   Exec root (default "/run/linkspan")

Exit code: 0 nothing is left; 1 something is, and is named.
`

// runUninstall is what make uninstall runs before the binary goes.
func runUninstall(args []string) int {
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		fmt.Print(uninstallHelp)
		return 0
	}
	n := len(args)
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--purge" })
	return daemon.Uninstall(daemon.Options{Version: buildVersion, Drivers: drivers()}, args, len(args) < n)
}
