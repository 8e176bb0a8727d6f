package main

import (
	"fmt"
	"os"
)

// runDaemon is `dockerd` and `linkspan daemon`.
func runDaemon(args []string) int {
	r, code, ok := daemonOptions(args)
	if !ok {
		return code
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(os.Stderr, w)
	}
	fmt.Fprintln(os.Stderr, "linkspan daemon: not yet")
	return 1
}
