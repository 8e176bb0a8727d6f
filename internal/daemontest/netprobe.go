package daemontest

import (
	"path/filepath"
	"sync"
	"testing"
)

var netprobe struct {
	sync.Mutex
	path string
}

// Netprobe returns the program of the image netprobe, for machines outside: built once
// for all tests of a process.
func Netprobe(t testing.TB) string {
	t.Helper()
	netprobe.Lock()
	defer netprobe.Unlock()
	if netprobe.path == "" {
		netprobe.path = Build(t, filepath.Join(Root(), "bin", "netprobe"), "./test/images/netprobe")
	}
	return netprobe.path
}
