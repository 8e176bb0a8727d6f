package main

import "linkspan/keeper"

// runKeeper is `linkspan keeper`, started by the daemon.
func runKeeper(args []string) int { return keeper.Run(args, buildVersion) }
