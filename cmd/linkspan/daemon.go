package main

import (
	"fmt"
	"os"
)

// runDaemon is `dockerd` and `linkspan daemon`.
func runDaemon(args []string) int {
	fmt.Fprintln(os.Stderr, "linkspan daemon: not yet")
	return 1
}
