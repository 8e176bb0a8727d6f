package etcd

import (
	"os"
	"testing"

	"linkspan/internal/testmain"
)

func TestMain(m *testing.M) {
	if ep := os.Getenv(helperEnv); ep != "" {
		help(ep)
		return
	}
	os.Exit(testmain.Isolated(m, 6)) // they wait for elections and leases
}
