package server

import (
	"os"
	"testing"

	"linkspan/internal/testmain"
)

// They wait for elections and leases.
func TestMain(m *testing.M) { os.Exit(testmain.Isolated(m, 8)) }
