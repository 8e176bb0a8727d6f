package main

import (
	"fmt"
	"os"
)

// runKeeper is `linkspan keeper`, started by the daemon.
func runKeeper(args []string) int {
	fmt.Fprintln(os.Stderr, "linkspan keeper: not yet")
	return 1
}
