package main

import (
	"fmt"
	"os"
)

// runPlan is `linkspan plan run …`.
func runPlan(args []string) int {
	fmt.Fprintln(os.Stderr, "linkspan plan: not yet")
	return 1
}

// runReconcile is `linkspan reconcile`.
func runReconcile(args []string) int {
	fmt.Fprintln(os.Stderr, "linkspan reconcile: not yet")
	return 1
}
